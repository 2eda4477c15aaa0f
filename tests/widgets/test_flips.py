"""Which examples changed, as the page is told: beside a try, a plan and each step, without a browser."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from states import idle, message
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from workbench.data.batches import Batches
from workbench.data.legend import Legend, legend_of
from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState
from workbench.widgets.thumbnails import STRETCHED, shown_example


def session_of_classes():
    """Four groups, and answers of all four classes, a quarter of them wrong."""
    torch.manual_seed(3)
    model = nn.Sequential(
        *(nn.Linear(11, 23), nn.ReLU(), nn.Linear(23, 17), nn.ReLU()),
        *(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 4)),
    )
    inputs = torch.randn(311, 11)
    with torch.no_grad():
        model[-1].weight.mul_(9)
        model[-1].bias.sub_(model(inputs).mean(0))
    targets = model(inputs).argmax(1).detach()
    wrong = torch.rand(311) < 0.25
    targets[wrong] = torch.randint(0, 4, (int(wrong.sum()),))
    session = Session(model, inputs, [(inputs, targets)], name="classes")
    session.measure()
    return session


@pytest.fixture
def state():
    session = session_of_classes()
    state = WorkbenchState(session, autosave=False)
    state.width = 4
    yield idle(state)
    state.close()


def shown(state, of, against="before", pick="all", count=24):
    idle(message(state, "show_flips", of=of, against=against, pick=pick, count=count))
    assert state.error == ""
    return json.loads(json.dumps(state.flips))


class TestTheCard:
    def test_a_try_says_how_many_and_the_card_which(self, state):
        idle(message(state, "try_choice", request=state.request()))
        found = state.session.changes(
            state.session.preview("0", width=4, lam=state.session.spectrum("0").trace * state.lam)
        )
        assert state.tried["flips"]["line"] == str(found)
        assert state.tried["score"] == found.scores[1]
        flips = shown(state, "choice")
        assert found.lost > found.won > 0
        assert [one["example"] for one in flips["items"]] == list(found.order[:24])
        assert flips["line"] == str(found)
        assert flips["title"] == "0 at 4 units, tried"
        assert flips["classes"] == [
            [
                one,
                *(
                    int(column[one])
                    for column in (
                        found.by_class.total,
                        found.by_class.before,
                        found.by_class.after,
                        found.by_class.lost,
                        found.by_class.won,
                    )
                ),
            ]
            for one in range(4)
        ]
        assert state.position == 0

    def test_those_that_are_picked(self, state):
        idle(message(state, "try_choice", request=state.request()))
        every = shown(state, "choice", count=240)
        for side in ("lost", "won", "other"):
            assert shown(state, "choice", pick=side)["picked"] == every["sides"][side]
        first, second, _ = every["confusions"][0]
        pair = shown(state, "choice", pick=f"pair:{first}:{second}")
        assert {(one["target"], one["after"]) for one in pair["items"]} == {(first, second)}
        alone = shown(state, "choice", pick="class:1", count=240)
        assert {one["target"] for one in alone["items"]} == {1}
        assert len(shown(state, "choice", count=5)["items"]) == 5
        message(state, "show_flips", of="choice", against="before", pick="class:x", count=3)
        idle(state)
        assert "which examples to show must be" in state.error
        assert state.error_at == "flips"

    def test_each_step_has_its_counts_and_a_plan_is_one(self, state):
        idle(message(state, "commit", request=state.request()))
        session = state.session
        assert state.history[0]["flips"] is None
        assert tuple(state.history[1]["flips"]) == session.flip_counts(1)
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "channel", "reestimate": False}
        widths = {"0": 3, "2": 5, "4": 4}
        idle(message(state, "try_plan", widths=widths, options=options, revision=state.revision))
        assert state.error == ""
        assert state.tried_plan["flips"]["line"] == str(session.changes(widths))
        assert state.tried_plan["score"] == session.try_plan(widths)[0]
        assert shown(state, "plan")["title"] == "the plan, tried"
        idle(message(state, "commit_plan", widths=widths, options=options, revision=state.revision))
        assert state.history[2]["flips"] is None
        inner = shown(state, 2)
        assert tuple(state.history[2]["flips"]) == (inner["lost"], inner["won"], inner["other"])
        last = len(session.history) - 1
        assert shown(state, last)["line"] == str(session.changes(last, 1))
        assert shown(state, last)["title"] == session.history[last].plan
        assert shown(state, last, "original")["line"] == str(session.changes(last, "original"))

    def test_nothing_tried_is_told(self, state):
        idle(message(state, "show_flips", of="plan", against="before", pick="all", count=24))
        assert "press Try first" in state.error

    def test_data_in_another_order_each_time_is_tried_without(self):
        inputs = torch.randn(101, 11, generator=torch.Generator().manual_seed(1))
        targets = torch.randint(0, 3, (101,), generator=torch.Generator().manual_seed(2))

        class Shuffled:
            turn = 0

            def __iter__(self):
                Shuffled.turn += 1
                order = torch.randperm(101, generator=torch.Generator().manual_seed(Shuffled.turn))
                yield inputs[order], targets[order]

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(11, 13), nn.ReLU(), nn.Linear(13, 3))
        session = Session(model, inputs, Shuffled())
        session.measure()
        state = WorkbenchState(session, autosave=False)
        state.width = 4
        idle(message(idle(state), "try_choice", request=state.request()))
        assert state.error == ""
        assert state.tried["score"] == pytest.approx(session.try_choice(session.preview("0", width=4)))
        assert state.tried["flips"] == {}
        idle(message(state, "commit", request=state.request()))
        assert (state.error, state.position, state.history[1]["flips"]) == ("", 1, None)
        idle(message(state, "show_flips", of=1, against="before", pick="all", count=24))
        assert "other examples at its second pass" in state.error
        state.close()


def picture(values):
    head, _, text = values["image"].partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


class TestThumbnails:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_known_pixels_come_back_exactly(self, channels):
        pixels = torch.randint(0, 256, (1, channels, 5, 7), generator=torch.Generator().manual_seed(1))
        mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
        inputs = (pixels / 255 - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
        found = shown_example(inputs, Legend((), mean, std))
        wanted = pixels[0, 0] if channels == 1 else pixels[0].permute(1, 2, 0)
        assert np.array_equal(picture(found), wanted.numpy())
        assert found["how"] == ""

    def test_unknown_ones_are_stretched_and_that_is_said(self):
        inputs = torch.linspace(-3, 5, 25).reshape(1, 1, 5, 5)
        found = shown_example(inputs, Legend())
        assert found["how"] == STRETCHED
        assert (picture(found).min(), picture(found).max()) == (0, 255)
        assert picture(shown_example(torch.full((1, 1, 5, 5), 7.0), Legend())).max() == 128

    def test_large_ones_get_small_and_channels_may_be_last(self):
        assert picture(shown_example(torch.rand(1, 3, 300, 200), Legend())).shape == (96, 64, 3)
        last = torch.rand(1, 9, 7, 3)
        assert np.array_equal(
            picture(shown_example(last, Legend())), picture(shown_example(last.permute(0, 3, 1, 2), Legend()))
        )

    def test_what_is_no_image_is_a_line(self):
        assert shown_example(torch.arange(14)[None], Legend())["text"] == (
            "14 whole numbers: 0 1 2 3 4 5 6 7 8 9 10 11 …"
        )
        assert (
            shown_example({"a": torch.tensor([[-1.5, 2.0]])}, Legend())["text"]
            == "2 numbers, −1.5 to 2: −1.5 2"
        )


class TestLegends:
    def test_a_built_in_examples_names_and_pixels(self):
        data = Session.example("digits-cnn").evaluation
        legend = legend_of(data)
        assert legend.classes == tuple("0123456789")
        pixels = legend.pixels(data.inputs[0])
        assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1

    def test_a_data_set_that_has_classes(self):
        class Named(TensorDataset):
            classes = ("cat", "dog")

        assert legend_of(DataLoader(Named(torch.zeros(3, 2)))).classes == ("cat", "dog")
        assert legend_of(torch.zeros(3)) == legend_of(Batches(torch.zeros(3, 1))) == Legend()

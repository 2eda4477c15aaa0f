"""The face without a browser: what the panels are given, how λ and the width are linked, previews."""

from __future__ import annotations

import re
import threading

import anywidget
import comm
import numpy as np
import pytest
import torch
from ipywidgets.widgets import widget
from states import PATIENCE, failing, idle, message, small_session
from torch import nn

from workbench.session.session import Session
from workbench.widgets import modules
from workbench.widgets.app import Workbench
from workbench.widgets.modules import FRONT
from workbench.widgets.page_values import read_session, with_procedure
from workbench.widgets.picture import PICTURED
from workbench.widgets.state import WorkbenchState


class TestWhatIsShown:
    def test_session_is_shown(self, state, session):
        assert (state.name, state.metric, state.procedure, state.measured) == (
            "small",
            "accuracy",
            "simultaneous",
            True,
        )
        assert [layer["name"] for layer in state.layers] == [group.name for group in session.groups]
        assert state.history[0]["parameters"] == session.parameters
        assert state.error == ""
        assert state.progress == {}

    def test_what_is_in_no_group_is_shown(self, state):
        assert state.stays == {"line": "", "tensors": []}
        torch.manual_seed(0)
        layers = nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)
        values = read_session(Session(nn.Sequential(*layers), torch.randn(9, 5)))
        assert values["stays"]["line"] == "2 tensors in no group: 17 % of the parameters"  # 8 of 24 + 8 + 15
        assert [one[:2] for one in values["stays"]["tensors"]] == [["1.weight", 4], ["1.bias", 4]]
        assert all("mixes" in why for _, _, why in values["stays"]["tensors"])

    def test_the_sizes_of_input_are_shown(self):
        one = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        two = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        for model, line in ((one, "proved at one size of input"), (two, "proved at two sizes of input")):
            session = Session(model, torch.randn(9, 1, 6, 6))
            assert read_session(session)["sizes"] == {"line": line, "words": str(session.sizes)}
        assert read_session(Session(nn.Linear(4, 3), torch.randn(9, 4)))["sizes"]["line"] == ""

    def test_another_procedure_reads_targets_and_positions_as_before(self):
        model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
        data = torch.randn(9, 5), torch.randint(0, 3, (9,))
        session = Session(model, data, data, mask=False, metric="accuracy", classes="last")
        session.measure()
        other = with_procedure(session, "sequential")
        assert other.recipe["targets"] == session.recipe["targets"]
        assert other.recipe["targets"] == {"metric": "accuracy", "classes": "last", "mask": False}

    def test_spectra_are_the_sessions(self, state, session):
        values = np.frombuffer(state.spectra)
        for layer in state.layers:
            mine = values[layer["offset"] : layer["offset"] + layer["count"]]
            if layer["prunable"]:
                np.testing.assert_array_equal(mine, session.spectrum(layer["name"]).eigenvalues.numpy())
            else:
                assert layer["count"] == 0
                assert layer["why_not"]

    def test_first_prunable_group_is_selected_and_previewed(self, state):
        assert state.selected == next(layer["name"] for layer in state.layers if layer["prunable"])
        assert state.preview["request"] == state.request()

    def test_preview_is_the_sessions(self, state, session):
        state.theta = 0.7
        state.selection = "magnitude-l1"
        idle(state)
        lam = state.lam * session.spectrum(state.selected).trace
        choice = session.preview(state.selected, state.width, lam, 0.7, "magnitude-l1")
        for name in ("input_loss", "output_loss", "predicted_error", "parameters_saved", "macs_saved"):
            assert state.preview[name] == getattr(choice, name)
        curve = np.frombuffer(state.curve).reshape(4, -1)
        np.testing.assert_array_equal(curve[3], choice.curve.combined.numpy())
        np.testing.assert_array_equal(curve[0], np.arange(curve.shape[1]))

    def test_unmeasured_session_is_measured_in_the_background(self):
        state = idle(WorkbenchState(small_session()))
        assert state.measured
        assert state.preview["request"]["group"] == state.selected

    def test_example_by_name(self):
        state = idle(Workbench("digits-cnn").state)
        assert (state.error, state.name, state.selected) == ("", "digits-cnn", "conv1")

    def test_change_from_another_cell_is_shown(self, state, session):
        session.commit(session.preview(state.selected, width=5))
        idle(state)
        assert state.position == 1
        assert next(x["width"] for x in state.layers if x["name"] == state.selected) == 5


class TestLinks:
    def test_width_follows_lam(self, state, session):
        spectrum = session.spectrum(state.selected)
        for lam in (1e-6, 1e-3, 0.1, 1.0):
            state.lam = lam
            freedom = spectrum.degrees_of_freedom(lam * spectrum.trace)
            assert state.width == min(max(int(np.ceil(freedom)), 1), spectrum.width)

    def test_lam_follows_width(self, state, session):
        spectrum = session.spectrum(state.selected)
        for width in (2, 5, 11):
            state.width = width
            assert state.width == width
            assert spectrum.degrees_of_freedom(state.lam * spectrum.trace) == pytest.approx(width, rel=1e-6)

    def test_free_when_off(self, state, session):
        state.follow = False
        lam = state.lam
        state.width = 3
        assert state.lam == lam
        state.lam = 0.5
        assert state.width == 3
        state.follow = True
        spectrum = session.spectrum(state.selected)
        assert state.width == np.ceil(spectrum.degrees_of_freedom(0.5 * spectrum.trace))

    def test_full_width_is_reached_although_n_of_lam_is_below(self, state, session):
        width = session.group(state.selected).width
        state.width = width
        assert state.width == width

    def test_values_out_of_range_are_brought_back(self, state, session):
        state.width = 10_000
        assert state.width == session.group(state.selected).width
        state.lam = -1.0
        assert state.lam == 1e-10

    def test_page_sends_both_at_once(self, state, session):
        spectrum = session.spectrum(state.selected)
        lam = spectrum.lam_for(7) / spectrum.trace
        state.set_state({"width": 7, "lam": lam})
        assert (state.width, state.lam) == (7, lam)

    def test_choosing_a_group_sets_its_width(self, state, session):
        name = session.groups[1].name
        state.choose(name)
        spectrum = session.spectrum(name)
        assert state.width == np.ceil(spectrum.degrees_of_freedom(state.lam * spectrum.trace))
        with pytest.raises(ValueError, match=re.escape(name)):
            state.choose("nowhere")


class TestWidthByHand:
    """With "follows N(λ)" off, a width is a person's own until that person moves it."""

    @pytest.fixture
    def free(self, state):
        state.follow = False
        state.width = 19
        return idle(state)

    def test_it_stays_when_something_else_happens(self, free, session):
        idle(message(free, "fork", name="thin"))
        session.measure_gradients([(session.calibration.inputs, torch.zeros(311, dtype=torch.int64))])
        idle(free)
        assert free.width == 19

    def test_it_is_set_anew_once_something_is_measured_and_for_another_session(self, free):
        free._take(small_session())
        free.follow = False
        free.measure()
        idle(free)
        measured = free.width
        assert measured > 1
        free.width = 3
        other = small_session()
        other.measure()
        free._take(other)
        idle(free)
        assert free.width == measured

    def test_it_is_set_anew_for_another_group_and_another_width(self, free, session):
        first = free.selected
        free.choose(session.groups[1].name)
        assert free.width != 19
        free.choose(first)
        free.width = 21
        session.commit(session.preview(first, width=11))
        idle(free)
        assert free.width == 11


class TestPreviews:
    def test_latest_request_wins(self, state, session, monkeypatch):
        asked, gate, begun = [], threading.Event(), threading.Event()
        preview = session.preview

        def slow(name, **request):
            asked.append(request["theta"])
            begun.set()
            gate.wait(PATIENCE)
            return preview(name, **request)

        monkeypatch.setattr(session, "preview", slow)
        state.theta = 0.1
        assert begun.wait(PATIENCE)
        for theta in (0.2, 0.4, 0.6, 0.8):
            state.theta = theta
        gate.set()
        idle(state)
        assert asked == [0.1, 0.8]
        assert state.preview["request"]["theta"] == 0.8

    def test_error_is_told_beside_the_choice_and_goes(self, state, session, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(session, "preview", failing("conv2 has NaN in channel 5"))
            state.theta = 0.9
            idle(state)
        assert (state.error, state.error_at) == ("conv2 has NaN in channel 5", "choice")
        state.theta = 0.8
        idle(state)
        assert state.error == ""


class TestReconstructions:
    def test_request_carries_mode_and_norms(self, state, session):
        state.reconstruction, state.reestimate = "kernel", True
        idle(state)
        assert state.preview["request"] == state.request()
        idle(message(state, "commit", request=state.request()))
        choice = session.history[1].choice
        assert (choice.reconstruction, choice.reestimate) == ("kernel", True)

    def test_a_network_without_norms_re_estimates_none(self, state, session):
        assert not state.norms
        state.reestimate = True
        state._take(session)
        assert not state.reestimate

    def test_heads_are_called_heads(self):
        layer = nn.TransformerEncoderLayer(12, 4, 17, batch_first=True, dropout=0.0)
        state = idle(WorkbenchState(Session(nn.Sequential(layer, nn.Linear(12, 3)), torch.randn(29, 5, 12))))
        units = {one["name"]: (one["unit"], one["rows"], one["width"]) for one in state.layers}
        assert units["0.self_attn.q_proj"] == ("heads", 3, 4)
        assert units["0.linear1"] == ("units", 1, 17)


class TestProcedures:
    def test_stale_groups_are_marked_and_measured_again(self):
        session = small_session(procedure="sequential")
        session.measure()
        state = idle(WorkbenchState(session))
        idle(message(state, "commit", request=state.request()))
        stale = [layer for layer in state.layers if layer["stale"]]
        assert stale
        assert stale[0]["stale"].startswith("measured before the commit to")
        state.choose(stale[0]["name"])
        idle(state)
        assert state.preview["request"]["group"] != state.selected
        idle(message(state, "remeasure"))
        assert not any(layer["stale"] for layer in state.layers)
        assert state.preview["request"] == state.request()

    def test_change_takes_the_moments_along(self, state, session):
        idle(message(state, "set_procedure", name="sequential"))
        assert (state.procedure, state.measured, state.error) == ("sequential", True, "")
        assert state.session is not session
        assert state.history[0]["score"] == session.history[0].score
        assert state.spectra == WorkbenchState(session).spectra

    def test_change_is_refused_once_something_is_committed(self, state):
        idle(message(state, "commit", request=state.request()))
        idle(message(state, "set_procedure", name="sequential"))
        assert state.procedure == "simultaneous"
        assert "committed" in state.error


class TestSecondThoughts:
    def test_a_choice_gone_back_to_while_another_is_computed_is_answered(self, state):
        state.wait()
        first = state.lam
        state.lam = first / 2
        state.lam = first
        state.wait()
        assert state.preview["request"] == state.request()

    def test_after_a_reset_the_procedure_can_be_changed(self, state):
        state.commit()
        state.wait()
        state.reset()
        state.wait()
        state.set_procedure("sequential")
        state.wait()
        assert (state.procedure, state.error) == ("sequential", "")


def test_a_network_with_nothing_to_prune_is_measured_all_the_same():
    session = Session(nn.Sequential(nn.Linear(4, 2)), torch.randn(8, 4))
    state = idle(WorkbenchState(session))
    assert (state.measured, state.error) == (True, "")
    assert [layer["prunable"] for layer in state.layers] == [False]


class TestWorkbench:
    def test_it_is_one_widget_with_one_model(self, session):
        before = set(widget._instances)
        workbench = Workbench(session)
        new = {model: one for model, one in widget._instances.items() if model not in before}
        assert set(new) == {workbench.model_id, workbench.layout.model_id}
        assert isinstance(workbench, anywidget.AnyWidget)
        assert workbench.state is workbench
        assert workbench.session is session
        assert "small" in repr(workbench)
        idle(workbench)

    def test_closing_it_leaves_no_model_and_no_comm(self, session):
        comms = comm.get_comm_manager().comms
        before = set(widget._instances), set(comms)
        workbench = idle(Workbench(session))
        own = comms[workbench.model_id], comms[workbench.layout.model_id]
        workbench.close()
        assert (set(widget._instances), set(comms)) == before
        assert all(one._closed for one in own)
        workbench.close()
        with pytest.raises(TypeError):
            Workbench([1])  # which its __del__ closes
        assert (set(widget._instances), set(comms)) == before

    def test_one_model_holds_all_that_a_saved_notebook_shows(self, session):
        workbench = idle(Workbench(session))
        stored = {name for name, one in workbench.get_state().items() if "IPY_MODEL_" in str(one)[:20]}
        assert stored == {"layout"}
        assert {*PICTURED, "_esm", "_css"} <= workbench.get_state().keys()

    def test_each_has_a_key_of_its_own(self, session):
        assert Workbench(session).key != Workbench(session).key

    def test_what_a_tab_needs_is_computed_while_any_view_stands_on_it(self, session):
        workbench = idle(Workbench(session))
        assert workbench.losses_of != workbench.revision
        workbench.set_state({"tab": "budget", "tabs": ["budget"]})
        assert idle(workbench).losses_of == workbench.revision
        workbench.set_state({"tab": "layer"})  # another view's last choice: the first still stands there
        session.commit(session.preview(workbench.selected, width=5))
        assert idle(workbench).losses_of == workbench.revision
        workbench.set_state({"tabs": []})
        session.undo()
        assert idle(workbench).losses_of != workbench.revision

    def test_wrong_argument_is_named(self):
        with pytest.raises(TypeError, match="list"):
            Workbench([1])

    def test_the_module_is_joined_whole(self):
        text = Workbench._esm
        assert text.count("export default") == 1
        assert not re.search(r"^\s*import ", text, re.M)
        names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", text, re.M)
        assert len(names) == len(set(names))

    def test_the_module_asks_of_its_model_what_every_host_of_anywidgets_has(self):
        asked = re.findall(r"\bmodel\.(\w+)\(", modules.source("viewstate.js"))
        assert {*asked} == {"get", "set", "on", "off", "save_changes", "send"}
        assert not re.search(r"widget_manager|comm_live_update\b.*model", Workbench._esm)
        for file in {path.name for path in FRONT.glob("*.js")} - {"viewstate.js", "workbench.js"}:
            assert not re.search(r"\bmodel\.(get|set|on|off|save_changes|send)\b", modules.source(file)), file

    def test_nothing_is_fetched_from_elsewhere(self):
        for file in [*FRONT.glob("*.js"), *FRONT.glob("*.css")]:
            addresses = re.findall(r"https?://[^\"')\s]+", file.read_text(encoding="utf-8"))
            assert set(addresses) <= {"http://www.w3.org/2000/svg"}

"""Fine-tuning: by labels, by the original's outputs, by its activations."""

import copy
from contextlib import suppress
from itertools import chain
from threading import Event, Thread

import pytest
import torch
from labelled import HALF, TARGETS, same, session_of, weights
from networks import conv_net, images, mlp
from torch import nn

from workbench.data.progress import Cancelled
from workbench.measure.moments import measure_moments
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.tuning.finetuning import _distance, finetune
from workbench.tuning.matching import Matching
from workbench.tuning.settings import Tuning


def test_finetuning_learns_is_a_step_and_is_undone():
    session = session_of()
    session.commit_plan(HALF)
    before, start = weights(session), session.history[-1].score
    reports = []
    done = session.finetune(tuning=Tuning(steps=40, rate=3e-3), report=reports.append)
    assert done.score > start
    assert session.history[-1].label == "fine-tuned, 40 steps"
    assert session.history[-1].score == done.score == session.evaluate()
    assert reports[-1].step == reports[-1].total == 40
    assert reports[-1].loss < reports[0].loss
    session.undo()
    assert same(weights(session), before)


def test_distillation_needs_no_labels():
    session = Session(conv_net(), images(64))
    session.measure()
    session.commit_plan({"conv2": 3}, reconstruction="none")
    x = images(64)

    def distance():
        with torch.no_grad():
            return float((session.model(x).softmax(1) - session.original(x).softmax(1)).square().mean())

    before = distance()
    session.finetune(tuning=Tuning(steps=40, rate=3e-3, distill=1.0))
    assert distance() < 0.5 * before


def test_matching_follows_the_original_at_every_reader_without_labels():
    session = Session(conv_net(), images(64))
    session.measure()
    session.commit_plan({"conv1": 4, "conv2": 3}, reconstruction="none")
    x, kept = images(64), session.recipe["steps"][1]["kept"]

    def missing(model):
        """Squared distances at fc1's input and at the output."""
        seen = []
        for network in (model, session.original):
            handle = network.fc1.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
            with torch.no_grad():
                seen.append(network(x))
            handle.remove()
        found, output, wanted, target = seen
        wanted = wanted.unflatten(1, (11, 4))[:, kept].flatten(1)
        return float((found - wanted).square().sum()), float((output - target).square().sum())

    before = missing(session.model)
    session.finetune(tuning=Tuning(steps=60, rate=3e-3, match=1.0))
    after = missing(session.model)
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]


def test_the_distance_to_match_is_nothing_for_the_original_and_one_for_silence():
    session = Session(conv_net(), images(64))
    state = session._history.original
    matching = Matching.of(state.model, state.groups, state.groups, state.units)
    output, target, distance = matching.run(copy.deepcopy(session.model), images(5))
    assert torch.equal(output, target)
    assert distance.item() == 0
    silent = copy.deepcopy(session.model)
    for parameter in silent.parameters():
        parameter.data.zero_()
    *_, distance = matching.run(silent, images(5))
    assert distance.item() == pytest.approx(1.0, abs=1e-6)
    assert not any(module._forward_pre_hooks for module in silent.modules())


def test_norms_keep_their_statistics_where_no_label_is_followed():
    session = session_of()
    session.commit_plan(HALF)
    norm = next(name for name, m in session.model.named_modules() if isinstance(m, nn.BatchNorm2d))

    def statistics():
        return session.model.get_submodule(norm).running_mean.clone()

    before = statistics()
    for tuning in (
        Tuning(steps=3, match=1.0),
        Tuning(steps=3, distill=0.5, match=0.5),
        Tuning(steps=3, frozen=True),
    ):
        session.finetune(tuning=tuning)
        assert torch.equal(statistics(), before)
        session.undo()
    trained = finetune(
        session.model, session.calibration, Tuning(steps=3, checks=1), original=session.original
    )
    assert not torch.equal(trained.model.get_submodule(norm).running_mean, before)


def test_whole_tensors_are_shuffled_anew_in_every_epoch():
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(x.detach()[:, 0].tolist())
            return super().forward(x)

    finetune(
        Watched(1, 2),
        (torch.arange(10.0)[:, None], torch.zeros(10, dtype=torch.int64)),
        Tuning(epochs=2, batch=4),
    )
    assert [len(one) for one in seen] == [4, 4, 2, 4, 4, 2]
    first, second = (sorted(chain.from_iterable(part)) for part in (seen[:3], seen[3:]))
    assert first == second == list(range(10))
    assert seen[:3] != seen[3:]


def test_a_cancelled_tuning_keeps_the_best_so_far():
    session = session_of()
    cancel = Event()

    def stop(report):
        if report.step >= 10:
            cancel.set()

    done = session.finetune(tuning=Tuning(steps=1000, rate=1e-3), report=stop, cancel=cancel)
    assert done.stopped
    assert session.position == 1
    assert session.history[-1].score >= session.history[0].score


def test_the_best_network_is_kept_where_training_does_harm():
    session = session_of()
    done = session.finetune(tuning=Tuning(steps=8, rate=0.9))
    assert done.score >= session.history[0].score


def test_stopped_without_a_score_the_last_network_counts():
    session = Session(conv_net(), (images(64), TARGETS))
    session.measure()
    before, cancel = weights(session), Event()
    tuning = Tuning(steps=4000, rate=1e-3, seed=2)
    done = session.finetune(tuning=tuning, report=lambda one: cancel.set(), cancel=cancel)
    assert done.stopped
    assert not same(weights(session), before)
    step = session.history[-1]
    assert step.label == f"fine-tuned, stopped after {done.steps} of 4000 steps"
    again = replay(session.recipe, conv_net(), (images(64), TARGETS))
    assert same(weights(again), weights(session))


def test_cancelled_before_the_first_step_nothing_is_added():
    session, cancel = session_of(), Event()
    cancel.set()
    with pytest.raises(Cancelled, match="before its first step"):
        session.finetune(tuning=Tuning(steps=5), cancel=cancel)
    assert len(session.history) == 1


def test_examples_reach_the_network_as_they_are_in_a_list_of_batches():
    """Here the first axis is time: (time, batch, features)."""
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)[-1]

    sequence = torch.arange(4.0 * 6 * 3).reshape(4, 6, 3)
    finetune(Watched(3, 2), [(sequence, torch.zeros(6, dtype=torch.int64))], Tuning(steps=2))
    assert all(torch.equal(one, sequence) for one in seen)


def test_one_example_left_over_stops_nothing():
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    data = (torch.randn(13, 3), torch.arange(13) % 2)
    assert finetune(network, data, Tuning(epochs=2, batch=4)).steps == 6


def test_distillation_compares_classes_along_their_axis():
    generator = torch.Generator().manual_seed(7)
    wanted = torch.randn(3, 5, 11, generator=generator)  # (batch, time, classes)
    offset = torch.randn(3, 5, 1, generator=generator)
    assert _distance(wanted + offset, wanted, 2, 2.0).abs() < 1e-6
    assert _distance(wanted.flip(2), wanted, 2, 2.0) > 0.1
    # Classes second, as cross-entropy has them.
    swapped = wanted.transpose(1, 2)
    assert _distance(swapped.flip(1), swapped, 1, 2.0) == pytest.approx(
        float(_distance(wanted.flip(2), wanted, 2, 2.0)), rel=1e-5
    )


def test_what_no_labels_call_classes_is_followed_in_the_mean_square():
    outputs = torch.randn(7, 2)
    assert _distance(outputs + 5, outputs, None, 2.0) == pytest.approx(25.0)
    assert _distance(outputs[:, 0] + 1, outputs[:, 0], None, 2.0) == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7])
def test_a_few_steps_are_enough(steps):
    done = finetune(conv_net(), (images(64), TARGETS), Tuning(steps=steps, rate=1e-4))
    assert done.reports[-1].step == steps


def test_while_a_tuning_is_paused_the_session_is_read_and_saved_and_its_history_stands_still(tmp_path):
    session, pause, begun = session_of(), Event(), Event()
    session.commit_plan(HALF)
    before = weights(session)

    def report(_):
        pause.set()
        begun.set()

    run = Thread(
        target=session.finetune, kwargs={"tuning": Tuning(steps=3), "report": report, "pause": pause}
    )
    run.start()
    try:
        assert begun.wait(20)
        session.save(tmp_path)
        assert same(weights(session), before)
        for change in (session.undo, session.refit, lambda: session.fork("thin"), session.finetune):
            with pytest.raises(ValueError, match="fine-tuning is running"):
                change()
        assert (session.position, session.branch) == (3, "main")
    finally:
        begun.wait(20)
        while run.is_alive():
            pause.clear()
            run.join(0.05)
    assert session.history[-1].label == "fine-tuned, 3 steps"
    session.undo()
    assert same(weights(session), before)


@pytest.mark.parametrize("follows", [{"distill": 1.0}, {"match": 1.0}], ids=["distill", "match"])
def test_what_others_do_with_the_session_meanwhile_does_not_meet_a_tuning(follows):
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))

    def session_on_a_plain_network():
        torch.manual_seed(3)
        session = Session(mlp(6, 9, 7, 3), inputs)
        session.measure()
        session.commit_plan(dict.fromkeys(("0", "2"), 5))
        return session

    tuning = Tuning(steps=60, batch=16, checks=1, **follows)
    alone = session_on_a_plain_network()
    alone.finetune(tuning=tuning)
    session = session_on_a_plain_network()
    before = {name: session.moment(name).matrix.clone() for name in ("0", "2")}
    run = Thread(target=session.finetune, kwargs={"tuning": tuning})
    run.start()
    while run.is_alive():
        found = measure_moments(session.original, session._history.original.groups, session.calibration)
        for name, group in found.items():
            units = list(session._history.present.units[name])
            torch.testing.assert_close(group.moments[0].matrix[units][:, units], before[name])
        with suppress(ValueError):  # it is refused while that runs
            session.commit_plan({"0": 3}, reconstruction="original")
            break
    run.join()
    session.goto(3)
    assert session.history[3].tuning == tuning
    assert same(weights(session), weights(alone))


def test_a_tuning_that_cannot_begin_lets_the_history_go_on(monkeypatch):
    session = session_of()
    session.commit_plan(HALF)

    def full(_):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("copy.deepcopy", full)
        with pytest.raises(MemoryError):
            session.finetune(tuning=Tuning(steps=1))
    session.undo()


def test_a_tuning_that_fails_lets_the_history_go_on():
    session = session_of()
    with pytest.raises(ValueError, match="does not fit"):
        session.finetune([(torch.zeros(3, 99), torch.zeros(3))])
    session.commit_plan(HALF)
    session.undo()


@pytest.mark.parametrize("frozen", [("conv1.weight", "fc2.bias"), None], ids=["some", "all"])
def test_parameters_that_need_no_gradient_stay_unless_none_needs_one(frozen):
    model = conv_net()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(frozen) and name not in frozen)
    tuned = finetune(model, [(images(64), TARGETS)], Tuning(steps=3, rate=1e-2)).model
    for (name, before), after in zip(model.named_parameters(), tuned.parameters(), strict=True):
        assert torch.equal(before, after) == (name in (frozen or ())), name
        assert after.requires_grad == before.requires_grad


def test_a_paused_tuning_waits():
    model, pause, cancel = conv_net(), Event(), Event()
    pause.set()
    seen = []
    worker = Thread(
        target=lambda: seen.append(
            finetune(model, [(images(64), TARGETS)], Tuning(steps=2), pause=pause, cancel=cancel)
        )
    )
    worker.start()
    worker.join(0.3)
    assert worker.is_alive()
    pause.clear()
    worker.join(20)
    assert len(seen) == 1


BAD_TUNINGS = [
    ({"steps": 0}, "steps"),
    ({"epochs": 0}, "epochs"),
    ({"rate": -1}, "rate"),
    ({"distill": 2}, "distill"),
    ({"temperature": 0}, "temperature"),
    ({"checks": 0}, "checks"),
    ({"match": -0.1}, "match"),
    ({"match": 0.6, "distill": 0.5}, "together at most 1"),
    ({"batch": 0}, "batch"),
    ({"until": 0}, "until"),
    ({"seed": "x"}, "seed"),
    ({"epochs": float("inf")}, "epochs"),
]


@pytest.mark.parametrize(("options", "words"), BAD_TUNINGS)
def test_bad_tunings_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        Tuning(**options)


def test_missing_labels_and_bad_batches_are_told_and_nothing_changes():
    session = Session(conv_net(), images(64))
    session.measure()
    with pytest.raises(ValueError, match="no targets"):
        session.finetune(tuning=Tuning(steps=2))
    with pytest.raises(ValueError, match="training batch 0 does not fit"):
        session.finetune([(images(4, channels=3), TARGETS[:4])], Tuning(steps=2))
    assert session.position == 0

"""The damage of each group alone where networks, data and what is asked for are not the usual."""

import numpy as np
import pytest
import torch
from labelled import session_of
from networks import conv_net
from torch import nn

import workbench as wb
from workbench.measure.outputs import Reference
from workbench.pruning.damage import count_trials

WAY = {"reconstruction": "none", "selection": "magnitude-l1"}
X = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(64) % 5


class Shut(nn.Module):
    """Classes, two of which are shut out of every other example."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.how = nn.Linear(6, 8), nn.Linear(8, 5), how

    def forward(self, x):
        shut = torch.arange(5) > 2
        return self.last(torch.relu(self.first(x))).masked_fill(shut & (x[:, :1] > 0), self.how)


def measured(model, *data, **options):
    session = wb.Session(model, *data, **options)
    session.measure()
    return session


def by_hand(session, name, width):
    """Outputs of the network and of that which is cut to `width`."""
    choice = session.preview(name, width=width, lam=1e-6 * session.spectrum(name).trace, **WAY)
    with torch.no_grad():
        return [model(X).double() for model in (session.model, session.pruned(choice))]


@pytest.mark.parametrize("how", [-torch.inf, -1e9, torch.finfo(torch.float32).min])
def test_classes_that_are_shut_out_count_nowhere(how):
    session = measured(Shut(how), [(X, CLASSES % 3)])
    damage = session.damage((0.5,), **WAY)
    before, after = by_hand(session, "first", 4)
    open_ = before > -1e8
    nats, squares, spread = 0.0, 0.0, torch.zeros(64, 5, dtype=torch.float64)
    for i in range(64):
        a, b = before[i][open_[i]], after[i][open_[i]]
        nats += float((a.softmax(0) * (a.log_softmax(0) - b.log_softmax(0))).sum())
        squares += float((a - a.mean() - b + b.mean()).square().sum())
        spread[i][open_[i]] = a - a.mean()
    (trial,) = damage.of("first").trials
    assert trial.divergence[0] == pytest.approx(nats / 64, rel=1e-4)
    assert trial.change[0] == pytest.approx(
        squares / float((spread - spread.mean(0)).square().sum()), rel=1e-4
    )


class Broken(Shut):
    def forward(self, x):
        return super().forward(x) * torch.where(x[:, :1] > 2, torch.nan, 1.0)


def test_outputs_that_are_no_numbers_are_refused():
    session = measured(Broken(0.0), [X[:32], X[32:]])
    with pytest.raises(ValueError, match=r"NaN or Inf for calibration batch [01].*remove"):
        session.damage((0.5,))


class Tokens(nn.Module):
    """A number a token, (batch, length)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.first, self.last = nn.Embedding(11, 6), nn.Linear(6, 8), nn.Linear(8, 1)

    def forward(self, ids):
        return self.last(torch.relu(self.first(self.table(ids)))).squeeze(-1)


def test_sequences_of_different_lengths_count_number_by_number():
    torch.manual_seed(0)
    data = [torch.randint(0, 11, shape) for shape in ((4, 5), (3, 7), (2, 1))]
    session = measured(Tokens(), data)
    damage = session.damage((0.5,), **WAY)
    choice = session.preview("first", width=4, lam=1e-6 * session.spectrum("first").trace, **WAY)
    with torch.no_grad():
        before, after = (
            torch.cat([model(ids).flatten() for ids in data]).double()
            for model in (session.model, session.pruned(choice))
        )
    change = (after - before).square().sum() / (before - before.mean()).square().sum()
    assert damage.of("first").change[0] == pytest.approx(float(change), rel=1e-4)


class Spans(Tokens):
    """Which token of each sequence it is: as many classes as tokens."""


def test_classes_may_be_as_many_as_a_sequence_is_long():
    torch.manual_seed(0)
    data = [(torch.randint(0, 11, (8, length)), torch.arange(8) % length) for length in (5, 7, 3)]
    session = measured(Spans(), data)
    damage = session.damage((0.5,), **WAY)
    assert damage.are_classes
    choice = session.preview("first", width=4, lam=1e-6 * session.spectrum("first").trace, **WAY)
    pruned, nats = session.pruned(choice), []
    for ids, _ in data:
        with torch.no_grad():
            before, after = (model(ids).double().log_softmax(1) for model in (session.model, pruned))
        nats.append((before.exp() * (before - after)).sum(1))
    assert damage.of("first").divergence[0] == pytest.approx(float(torch.cat(nats).mean()), rel=1e-4)
    assert 0 < damage.of("first").change[0] < np.inf


class Lone(Shut):
    def forward(self, x):
        return super().forward(x).mean()


def test_a_network_of_one_number_a_batch():
    damage = measured(Lone(0.0), [X[:32], X[32:]]).damage((0.5,))
    assert np.isfinite(damage.of("first").change).all()


def test_one_example_is_enough():
    damage = measured(Shut(0.0), [(X[:1], CLASSES[:1])]).damage((0.25,))
    assert damage.examples == 1
    assert np.isfinite(damage.of("first").curve).all()


@pytest.mark.parametrize("lam", [0, -1e-6, float("nan"), float("inf"), "1e-6"])
def test_a_lam_that_is_none_leaves_nothing_behind(lam, tmp_path):
    session = session_of()
    with pytest.raises(ValueError, match="λ over the trace must be"):
        session.damage((0.5,), lam=lam)
    with pytest.raises(ValueError, match="λ over the trace must be"):
        session.plan(session.macs / 2, rule="damage", lam=lam)
    session.save(tmp_path)
    wb.Session.open(tmp_path, conv_net(), session.calibration)


@pytest.mark.parametrize(
    "given",
    [
        {"lam": np.float32(1e-6), "theta": np.float64(0.5), "examples": np.int64(9)},
        {"lam": 1, "theta": True, "examples": True},
        {"lam": None, "theta": 0},
    ],
)
def test_numbers_of_other_kinds_are_saved_and_come_back(given, tmp_path):
    session = session_of()
    before = session.damage((0.5,), **given)
    session.save(tmp_path)
    opened = wb.Session.open(tmp_path, conv_net(), session.calibration)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reference, "distance", None)
        assert repr(opened.damage((0.5,), **given)) == repr(before)


def test_measuring_anew_measures_damage_anew():
    data = [X[:32].clone(), X[32:].clone()]
    session = measured(Shut(0.0), data)
    before = session.damage((0.5,)).of("first").change
    for batch in data:
        batch[:] = batch.flip(1) * 3
    session.measure()
    after = session.damage((0.5,)).of("first").change
    assert not np.allclose(before, after)
    assert np.allclose(after, measured(Shut(0.0), data).damage((0.5,)).of("first").change)


def test_a_target_that_makes_no_sense_is_told_before_anything_is_measured(monkeypatch):
    session = session_of()
    monkeypatch.setattr(Reference, "distance", None)
    nonsense = [{"target": -1}, {"unit": "hours"}, {"locks": {"no": 3}}, {"minimum": 0}]
    nonsense += [{"refine": -1}, {"refine": float("nan")}, {"refine": "5"}]
    for given in nonsense:
        with pytest.raises(ValueError, match=r"target|unit|group|minimum|refine"):
            session.plan(**({"target": 100, "rule": "damage"} | given))


def test_a_plan_after_a_commit_tells_the_change_from_the_original():
    session = session_of()
    session.commit_plan(session.plan(session.macs / 2, rule="damage", minimum=2))
    now = session.damage().groups[0].now.change[0]
    assert now > 1e-3
    assert session.plan(session.macs, rule="damage").change == pytest.approx(now)
    assert session.plan(session.macs * 0.8, rule="damage").change > now


def test_rounds_of_the_sequential_procedure_measure_stale_groups_again():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU()]
    session = measured(nn.Sequential(*layers, nn.Linear(4, 3)), [(X, CLASSES % 3)], procedure="sequential")
    plan = session.plan(0.93 * session.macs, rule="damage", refine=60)
    assert plan.met
    assert plan.widths["4"] == 4  # stale once those before it are cut, and tried narrower
    assert plan.widths == [one for one in plan.rounds if one.kept][-1].widths


def test_one_share_and_one_width_need_no_list():
    session = session_of()
    assert repr(session.damage(0.5, {"fc1": 5})) == repr(session.damage([0.5], {"fc1": [5]}))
    for given in ({"shares": "half"}, {"shares": 2.0}, {"widths": {"fc1": 5.5}}, {"widths": {"fc1": "5"}}):
        with pytest.raises(ValueError, match=r"shares of the width|cannot get"):
            session.damage(**given)


def test_rounds_may_take_as_long_as_they_like_and_end():
    told = []
    session = measured(Shut(0.0), X)
    plan = session.plan(
        0.6 * session.macs, rule="damage", refine=float("inf"), progress=lambda *words: told.append(words)
    )
    assert plan.met
    assert all(0 <= done <= (total or done) for done, total, _ in told)


class Buffered(Shut):
    """Writes each answer into the same place."""

    def forward(self, x):
        if not hasattr(self, "answer"):
            self.answer = torch.zeros(32, 5)
        return self.answer.copy_(super().forward(x))


def test_a_network_that_writes_into_the_answer_it_gave():
    found = [measured(kind(0.0), [X[:32], X[32:]]).damage(0.5) for kind in (Shut, Buffered)]
    assert found[0].of("first").change == pytest.approx(found[1].of("first").change, rel=1e-6)


def test_a_network_of_which_nothing_can_be_pruned():
    session = measured(nn.Sequential(nn.Linear(6, 5)), [(X, CLASSES)])
    assert session.damage().groups == ()
    plan = session.plan(session.macs, rule="damage", refine=1)
    assert (plan.met, plan.widths) == (True, {})
    assert not session.plan(1, rule="damage", refine=1).met


def test_what_is_measured_so_far_is_told_now_and_then_and_nothing_twice(monkeypatch):
    session, kept = session_of(), []
    session.subscribe(lambda event: kept.append((event, count_trials(session._state))))
    session.damage(0.5)
    assert kept == [("damage", 4)]  # three groups, and the network as it is
    session.damage(0.5)
    assert len(kept) == 1
    session.damage(0.5, scores=True)
    assert kept[1:] == [("damage", 7)]
    monkeypatch.setattr("workbench.session.damages.KEPT_EVERY", 0.0)
    session.damage((0.25, 0.75))
    counts = [count for _, count in kept[2:]]
    assert counts == sorted(set(counts))
    assert len(counts) > 3
    assert counts[-1] == 13


def test_the_sequential_procedure_s_comes_back_too(tmp_path):
    session = session_of(procedure="sequential")
    session.commit(session.preview("conv1", width=4))
    before = session.damage(0.5)
    session.save(tmp_path)
    opened = wb.Session.open(tmp_path, conv_net(), session.calibration)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reference, "distance", None)
        assert repr(opened.damage(0.5)) == repr(before)
    opened.commit(opened.preview("conv2", width=4))
    assert opened.damage(0.5).of("fc1").change != pytest.approx(before.of("fc1").change)


def test_gradients_are_new_to_the_selection_by_them_alone(monkeypatch):
    session = session_of()
    session.measure_gradients()
    greedy, _ = session.damage(0.5), session.damage(0.5, selection="taylor")
    session.measure_gradients(loss=lambda outputs, targets: outputs[:, 0].square().mean())
    seen, stock = [], Reference.distance
    monkeypatch.setattr(Reference, "distance", lambda self, *args: seen.append(1) or stock(self, *args))
    assert repr(session.damage(0.5)) == repr(greedy)
    assert not seen
    session.damage(0.5, selection="taylor")
    assert len(seen) == 4

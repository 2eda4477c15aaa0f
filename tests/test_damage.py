"""The damage of each group alone: the change of the outputs, without labels, kept with the session."""

import itertools
import threading

import numpy as np
import pytest
import torch
from labelled import TARGETS, session_of
from networks import conv_net, images
from scipy.spatial.distance import jensenshannon
from silencing import silenced_outputs
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.data.progress import Cancelled
from workbench.measure.outputs import Reference, jensen_shannon
from workbench.pruning.damage import decayed, grid

WAY = {"reconstruction": "none", "selection": "magnitude-l1"}


@pytest.fixture(scope="module")
def session():
    return session_of()


def outputs(model):
    with torch.no_grad():
        return model(images(64)).double()


def change(before, after):
    """Squared change of class scores, which count up to a constant an example, over their spread."""
    before, after = (one - one.mean(1, keepdim=True) for one in (before, after))
    return float((after - before).square().sum() / (before - before.mean(0)).square().sum())


def test_without_reconstruction_it_is_what_silencing_does(session):
    damage = session.damage(**WAY)
    assert damage.are_classes
    assert damage.examples == 64
    assert [one.name for one in damage.groups] == [g.name for g in session.groups if g.prunable]
    before = outputs(session.model)
    for group in damage.groups:
        assert list(group.widths) == grid(group.width)
        for trial in group.trials:
            kept = session.preview(
                group.name, width=trial.width, lam=1e-6 * session.spectrum(group.name).trace, **WAY
            ).kept
            lost = sorted(set(range(group.width)) - set(kept))
            (after,) = silenced_outputs(session.model, {group.name: lost}, session.groups, images(64))
            nats = functional.kl_div(
                after.double().log_softmax(1), before.log_softmax(1), reduction="batchmean", log_target=True
            )
            assert trial.change[0] == pytest.approx(change(before, after.double()), rel=1e-4)
            assert trial.divergence[0] == pytest.approx(float(nats), rel=1e-4)
            assert np.mean(trial.change[1:]) == pytest.approx(trial.change[0])
            assert np.mean(trial.divergence[1:]) == pytest.approx(trial.divergence[0])


@pytest.mark.parametrize("way", ["channel", "kernel", "original"])
def test_it_is_that_of_the_committed_network(way):
    session = session_of()
    damage = session.damage((0.5,), reconstruction=way)
    before = outputs(session.model)
    for group in damage.groups:
        (trial,) = group.trials
        session.commit_plan({group.name: trial.width}, reconstruction=way)
        assert trial.change[0] == pytest.approx(change(before, outputs(session.model)), rel=1e-3)
        assert trial.loss == pytest.approx(session.history[-1].choice.output_loss)
        session.undo()


def test_scores_are_taken_where_they_are_asked_for():
    session = session_of()
    assert np.isnan([one.score for one in session.damage((0.5,)).groups[0].trials]).all()
    damage = session.damage((0.5,), scores=True)
    for group in damage.groups:
        session.commit_plan({group.name: group.trials[0].width})
        assert group.trials[0].score == session.history[-1].score
        session.undo()


def test_values_have_no_divergence():
    x = images(64)
    targets = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    session = wb.Session(conv_net(), [(x, targets)], [(x, targets)])
    session.measure()
    damage = session.damage((0.5,))
    assert not damage.are_classes
    before = outputs(session.model)
    for group in damage.groups:
        (trial,) = group.trials
        session.commit_plan({group.name: trial.width})
        after = outputs(session.model)
        whole = (before - before.mean(0)).square().sum()
        assert trial.change[0] == pytest.approx(float((after - before).square().sum() / whole), rel=1e-3)
        assert np.isnan(trial.divergence).all()
        session.undo()


def test_what_was_measured_is_not_measured_again(monkeypatch):
    session, seen = session_of(), []
    stock = Reference.distance
    monkeypatch.setattr(Reference, "distance", lambda self, *args: seen.append(1) or stock(self, *args))
    session.damage((0.5, 0.25))
    count = len(seen)
    session.damage((0.25, 0.5))
    assert len(seen) == count
    extended = session.damage((0.5,), {"fc1": [5]})
    assert len(seen) == count + 1
    assert 5 in extended.of("fc1").widths
    session.commit(session.preview("fc1", width=7))
    assert session.damage((0.5,)).of("fc1").width == 7
    session.undo()
    now = len(seen)
    session.damage((0.5,), {"fc1": [5]})
    assert len(seen) == now


def test_what_is_cancelled_keeps_what_it_has():
    session, cancel = session_of(), threading.Event()
    told = []

    def progress(done, total, what):
        told.append((done, total, what))
        if done == 5:
            cancel.set()

    with pytest.raises(Cancelled, match="kept"):
        session.damage(progress=progress, cancel=cancel)
    assert told[-1][0] == 5
    again = []
    session.damage(progress=lambda *words: again.append(words))
    assert again[-1][1] == told[-1][1] - 5


def test_it_is_saved_and_comes_back(tmp_path):
    session = session_of()
    before = session.damage((0.5,), scores=True)
    session.commit(session.preview("fc1", width=7))
    session.fork("other")
    after = session.damage((0.5,))
    session.save(tmp_path)
    x = images(64)
    opened = wb.Session.open(tmp_path, conv_net(), [(x, TARGETS)], [(x, TARGETS)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reference, "distance", None)
        assert repr(opened.damage((0.5,))) == repr(after)  # NaN is not equal to itself
        opened.undo()
        assert repr(opened.damage((0.5,), scores=True)) == repr(before)


def test_a_curve_never_rises_with_the_width_and_ends_at_nothing(session):
    for group in session.damage(**WAY).groups:
        curve = group.curve
        assert len(curve) == group.width + 1
        assert (np.diff(curve) <= 1e-12).all()
        assert curve[-1] == 0
        least = decayed(group.now.change[0])
        for trial in group.trials:
            assert curve[trial.width] >= decayed(trial.change[0]) - least - 1e-9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shares": (0,)}, "lie in"),
        ({"widths": {"no": [3]}}, "no group"),
        ({"widths": {"fc2": [3]}}, "not prunable"),
        ({"widths": {"fc1": [14]}}, "13 units"),
        ({"reconstruction": "all"}, "must be one of"),
        ({"examples": 0}, "1 or more"),
    ],
)
def test_what_it_cannot_be_asked_is_told(session, given, message):
    with pytest.raises(ValueError, match=message):
        session.damage(**given)


@pytest.mark.parametrize("reconstruction", ["channel", "original"])
@pytest.mark.parametrize("unit", ["macs", "parameters", "megabytes"])
def test_the_rule_meets_its_target_and_says_what_is_committed(unit, reconstruction):
    session = session_of()
    whole = {"macs": session.macs, "parameters": session.parameters}
    whole["megabytes"] = sum(t.nbytes for t in session.model.state_dict().values()) / 1e6
    plan = session.plan(
        whole[unit] / 2, unit, "damage", locks={"fc1": 9}, minimum=2, reconstruction=reconstruction
    )
    assert plan.met
    assert plan.widths["fc1"] == 9
    assert min(plan.widths.values()) >= 2
    session.commit_plan(plan, reconstruction=reconstruction)
    found = {"macs": session.macs, "parameters": session.parameters}
    found["megabytes"] = sum(t.nbytes for t in session.model.state_dict().values()) / 1e6
    assert found[unit] == pytest.approx(plan.cost, rel=1e-9)
    assert plan.cost <= whole[unit] / 2


def in_halves(procedure="sequential"):
    batches = list(zip(images(64).split(32), TARGETS.split(32), strict=True))
    session = wb.Session(conv_net(), batches, procedure=procedure)
    session.measure()
    return session


def crossed(session, commit):
    """Mean Jensen–Shannon divergence, on either half of the data, of networks pruned by the other alone."""
    nats = []
    for fitted, others in itertools.permutations(session.calibration):
        half = wb.Session(conv_net(), [fitted], procedure=session.procedure)
        half.measure()
        commit(half)
        with torch.no_grad():
            wanted, found = (model(others[0]).double().softmax(1) for model in (conv_net(), half.model))
        nats.append((jensenshannon(found, wanted, axis=1) ** 2).mean())  # scipy's is the root of it
    return np.mean(nats)


@pytest.mark.parametrize("reconstruction", ["channel", "original"])
def test_rounds_measure_plans_and_keep_the_least_damaged(reconstruction):
    session = in_halves()
    plan = session.plan(session.macs / 2, rule="damage", refine=60, minimum=2, reconstruction=reconstruction)
    assert plan.met
    assert plan.rounds[0].what == "damage"
    kept = [one for one in plan.rounds if one.kept]
    assert plan.widths == kept[-1].widths
    assert all(a.measured > b.measured for a, b in itertools.pairwise(kept))  # each less than the last
    for one in plan.rounds:
        assert session.cost_model.total(one.widths, reconstruction == "original")[1] <= session.macs / 2
        nats = crossed(session, lambda half, w=one.widths: half.commit_plan(w, reconstruction=reconstruction))
        assert one.measured == pytest.approx(nats, rel=1e-3)


@pytest.mark.parametrize("procedure", ["sequential", "simultaneous"])
def test_a_plan_on_a_pruned_network_is_fitted_to_halves_of_what_its_procedure_measures(procedure):
    session, way = in_halves(procedure), {"selection": "magnitude-l1"}

    def cut(one):
        one.commit(one.preview("conv2", width=9, reconstruction="none", **way))

    cut(session)
    plan = session.plan(0.7 * session.macs, rule="damage", refine=1, **way)
    nats = crossed(session, lambda half: (cut(half), half.commit_plan(plan.rounds[0].widths, **way)))
    assert plan.rounds[0].measured == pytest.approx(nats, rel=1e-3)


def test_data_that_has_no_halves_measures_plans_on_itself():
    session = session_of()
    plan = session.plan(session.macs / 2, rule="damage", refine=1)
    before = outputs(session.model).softmax(1)
    session.commit_plan(plan.rounds[0].widths)
    after = outputs(session.model).softmax(1)
    nats = (jensenshannon(after, before, axis=1) ** 2).mean()
    assert plan.rounds[0].measured == pytest.approx(nats, rel=1e-3)


def test_what_is_shut_out_counts_nothing_and_nan_stays_nan():
    logs = torch.tensor([[0.2, 0.8, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64).log()
    other = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0]], dtype=torch.float64).log()
    wanted = jensenshannon(logs.exp(), other.exp(), axis=1) ** 2
    assert jensen_shannon(logs, other).numpy() == pytest.approx(wanted, abs=1e-12)
    assert wanted[2] == pytest.approx(np.log(2))
    assert bool(jensen_shannon(logs, other * torch.nan).isnan().all())


def test_rounds_are_for_the_rule_damage_alone(session):
    with pytest.raises(ValueError, match="leave refine out"):
        session.plan(session.macs / 2, rule="equal", refine=5)
    with pytest.raises(ValueError, match="leave refine out"):
        session.plan(1e-3, "seconds", rule="damage", refine=5)


class Map(nn.Module):
    """Classes of every pixel; a group of one unit beside others."""

    def __init__(self):
        super().__init__()
        self.first, self.single = nn.Conv2d(2, 7, 3, padding=1), nn.Conv2d(7, 1, 3, padding=1)
        self.last = nn.Conv2d(1, 5, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.single(torch.relu(self.first(x)))))


def test_every_pixel_s_classes_count_beside_a_group_that_cannot_fall():
    torch.manual_seed(0)
    x = images(16)
    session = wb.Session(Map().eval(), [(x, torch.arange(16 * 64).reshape(16, 8, 8) % 5)])
    session.measure()
    damage = session.damage((0.5,))
    (trial,) = damage.of("first").trials
    assert [one.name for one in damage.groups] == [g.name for g in session.groups if g.prunable]
    with torch.no_grad():
        before = session.model(x).double().log_softmax(1)
        session.commit_plan({"first": trial.width})
        after = session.model(x).double().log_softmax(1)
    nats = (before.exp() * (before - after)).sum(1).mean()
    assert trial.divergence[0] == pytest.approx(float(nats), rel=1e-4)
    session.undo()
    assert session.plan(session.macs * 0.6, rule="damage").met


class Tokens(nn.Module):
    """Values of every token."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(11, 5), nn.Linear(5, 13), nn.Linear(13, 3)

    def forward(self, ids, attention_mask):
        return self.out(torch.relu(self.hidden(self.embedding(ids))))


def test_positions_that_a_mask_hides_do_not_count():
    torch.manual_seed(0)
    ids, mask = torch.randint(0, 11, (12, 6)), torch.ones(12, 6, dtype=torch.long)
    mask[:, 2:] = 0
    session = wb.Session(Tokens().eval(), [{"ids": ids, "attention_mask": mask}])
    session.measure()
    (trial,) = session.damage((0.5,)).of("hidden").trials
    with torch.no_grad():
        before = session.model(ids, mask)[:, :2].double().reshape(-1, 3)
        session.commit_plan({"hidden": trial.width})
        after = session.model(ids, mask)[:, :2].double().reshape(-1, 3)
    whole = (before - before.mean(0)).square().sum()
    assert trial.change[0] == pytest.approx(float((after - before).square().sum() / whole), rel=1e-4)

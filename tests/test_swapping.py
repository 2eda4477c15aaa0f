"""Swaps of kept and lost units, against losses computed from scratch and the best of all sets."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from networks import images
from sessions import conv_session

from workbench.pruning import problem as problem_module
from workbench.session.replay import replay
from workbench.spectral import swapping
from workbench.spectral.greedy import GreedySelector
from workbench.spectral.moment import Moment
from workbench.spectral.regression import SPENT, ridge
from workbench.spectral.selection import SELECTIONS, Evidence
from workbench.spectral.spectrum import Spectrum
from workbench.spectral.swapping import swap_changes, swap_refine
from workbench.widgets.page_values import preview_values

THETAS = (0.0, 0.3, 1.0)
EXACT = 1e-9
WAYS = ("greedy", "greedy-swap")


def activations(m, seed=0, n=97, kind="plain"):
    generator = torch.Generator().manual_seed(seed)
    n = m // 2 if kind == "few samples" else n
    hidden = torch.randn(n, m, generator=generator, dtype=torch.float64)
    phi = (hidden @ torch.randn(m, m, generator=generator, dtype=torch.float64)).relu()
    if kind == "dead units":
        phi[:, [0, m // 2, m - 1]] = 0
    if kind == "duplicates":
        phi[:, m // 2 :] = 2 * phi[:, : m - m // 2]
    if kind == "constant":
        phi = torch.ones_like(phi)
    return phi


class Problem:
    """Some readers of m units, with the loss as the definition says it, in numpy."""

    def __init__(self, m, readers=1, seed=0, lam=1e-3, width=None, kind="plain"):
        generator = torch.Generator().manual_seed(seed + 1)
        self.m = m
        phis = [activations(m, seed + 10 * r, kind=kind) for r in range(readers)]
        self.moments = [Moment.of(phi) for phi in phis]
        self.samples = [phi.numpy() / len(phi) ** 0.5 for phi in phis]
        self.readouts = [
            10.0**r * torch.randn(5 + r, m, generator=generator, dtype=torch.float64) for r in range(readers)
        ]
        self.ridges = [self.ridge(moment, lam, width or m // 2) for moment in self.moments]
        self.selector = GreedySelector(self.moments, self.readouts)
        sigmas = [moment.matrix.numpy() for moment in self.moments]
        total = sum(np.trace(sigma) for sigma in sigmas)
        read = sum(np.trace(z.numpy() @ s @ z.numpy().T) for z, s in zip(self.readouts, sigmas, strict=True))
        self.parts = [
            (s, z.numpy().T @ z.numpy() / read, np.maximum(tau.numpy(), SPENT * np.diag(s)), total)
            for s, z, tau in zip(sigmas, self.readouts, self.ridges, strict=True)
        ]

    def ridge(self, moment, lam, width):
        spectrum = Spectrum.of(moment)
        return ridge(spectrum, lam * spectrum.trace, width) if lam else torch.zeros(self.m).double()

    def loss(self, kept, theta):
        """θ Σ Tr C / Σ Tr Σ + (1−θ) Σ Tr[ZCZᵀ] / Σ Tr[ZΣZᵀ], C by least squares on the samples themselves."""
        found, kept = 0.0, np.array(kept, dtype=int)
        for phi, (sigma, weight, tau, total) in zip(self.samples, self.parts, strict=True):
            live = kept[np.diag(sigma)[kept] > 0]
            ridge_rows = np.diag(np.sqrt(tau[live]))
            inputs = np.vstack([phi[:, live], ridge_rows])  # with a row a ridge
            targets = np.vstack([phi, np.zeros((len(live), self.m))])
            basis = np.linalg.qr(inputs / np.linalg.norm(inputs, axis=0))[0]
            rest = targets - basis @ (basis.T @ targets)
            residual = rest.T @ rest
            found += theta * np.trace(residual) / total + (1 - theta) * (weight * residual).sum()
        return found

    def losses(self, k, theta):
        """The loss of all sets of k units, (c,), and the sets."""
        sets = np.array(list(combinations(range(self.m), k)))
        rows, columns = sets[:, :, None], sets[:, None, :]
        found = np.zeros(len(sets))
        for sigma, weight, tau, total in self.parts:
            metric = theta * np.eye(self.m) / total + (1 - theta) * weight
            gain = sigma @ metric @ sigma
            inner = (sigma + np.diag(tau))[rows, columns]
            parts = np.linalg.solve(inner, gain[rows, columns])
            found += (metric * sigma).sum() - np.trace(parts, axis1=1, axis2=2)
        return found, sets

    def greedy(self, k, theta):
        return self.selector.path(self.ridges, theta, k).kept(k)

    def refined(self, kept, theta, **more):
        return swap_refine(self.moments, self.readouts, self.ridges, kept, theta, **more)


KINDS = [
    *[("plain", readers, lam) for readers in (1, 3) for lam in (1e-1, 1e-6, 1e-10)],
    *[(kind, 2, 1e-6) for kind in ("dead units", "duplicates", "few samples")],
    *[(kind, 1, 0.0) for kind in ("plain", "dead units", "duplicates", "few samples")],
]


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize(("kind", "readers", "lam"), KINDS)
def test_the_change_of_every_pair_is_that_of_the_loss_from_scratch(kind, readers, lam, theta):
    problem = Problem(13, readers, lam=lam, kind=kind)
    drawn = torch.randperm(13, generator=torch.Generator().manual_seed(3))[:5].tolist()
    for kept in (drawn, problem.greedy(6, theta), (4,), tuple(range(12))):
        changes = swap_changes(problem.moments, problem.readouts, problem.ridges, kept, theta)
        lost = [unit for unit in range(13) if unit not in kept]
        assert changes.shape == (len(kept), len(lost))
        before = problem.loss(kept, theta)
        for row, out in zip(changes.tolist(), kept, strict=True):
            for change, unit in zip(row, lost, strict=True):
                after = problem.loss([unit if one == out else one for one in kept], theta)
                assert change == pytest.approx(after - before, abs=EXACT)


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize(("kind", "readers", "lam"), KINDS)
def test_refining_says_the_true_losses_and_ends_where_no_swap_helps(kind, readers, lam, theta):
    problem = Problem(13, readers, lam=lam, kind=kind)
    for kept in ([0, 3, 5, 8, 11], problem.greedy(4, theta), [9]):
        found = problem.refined(kept, theta)
        assert found.before == pytest.approx(problem.loss(kept, theta), abs=EXACT)
        assert found.after == pytest.approx(problem.loss(found.kept, theta), abs=EXACT)
        assert found.after <= found.before
        assert (found.after < found.before) == (found.swaps > 0) == (found.kept != tuple(sorted(kept)))
        assert found.settled
        assert list(found.kept) == sorted(set(found.kept))
        assert len(found.kept) == len(kept)
        for out in found.kept:
            rest = set(found.kept) - {out}
            for unit in set(range(13)) - set(found.kept):
                assert problem.loss(sorted(rest | {unit}), theta) >= found.after - EXACT


def test_against_the_best_of_all_sets():
    """How often each is the best, and how far from it it is else: printed, and never worse than greedy."""
    cases = [(m, k, seed, t) for m, k in ((8, 3), (12, 5), (12, 8)) for seed in range(12) for t in THETAS]
    cases += [(20, 4, seed, 0.3) for seed in range(4)]
    best, gaps = np.zeros(2), np.zeros((len(cases), 2))
    for number, (m, k, seed, theta) in enumerate(cases):
        problem = Problem(m, 1 + seed % 3, seed=100 * seed, width=k)
        losses, sets = problem.losses(k, theta)
        greedy = problem.greedy(k, theta)
        found = problem.refined(greedy, theta)
        assert found.after <= found.before
        assert problem.loss(sets[losses.argmin()], theta) == pytest.approx(losses.min(), abs=EXACT)
        gaps[number] = [problem.loss(kept, theta) / losses.min() - 1 for kept in (greedy, found.kept)]
        assert gaps[number].min() >= -EXACT
        best += gaps[number] < EXACT
    shares, means, worst = best / len(cases), gaps.mean(0), gaps.max(0)
    print(
        f"\n{len(cases)} problems; best of all sets: greedy {shares[0]:.0%}, with swaps {shares[1]:.0%}; "
        f"mean gap {means[0]:.2%} and {means[1]:.2%}, largest {worst[0]:.1%} and {worst[1]:.1%}"
    )
    assert shares[1] > shares[0] + 0.2
    assert means[1] < means[0] / 4


def test_a_choice_that_greed_regrets_is_taken_back():
    """The sum of two units is chosen first, and is the one that is not needed beside the two."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 500, generator=generator, dtype=torch.float64)
    moment = Moment.of(torch.stack([a, b, a + b + 0.1 * torch.randn(500, generator=generator)], 1))
    tau = torch.full((3,), 1e-6, dtype=torch.float64)
    greedy = GreedySelector(moment).path(tau, 1.0, 2).kept(2)
    assert 2 in greedy
    found = swap_refine(moment, None, tau, (1, 2), 1.0)
    pairs = [swap_refine(moment, None, tau, kept, 1.0, most=0).before for kept in combinations(range(3), 2)]
    assert found.after == pytest.approx(min(pairs), abs=EXACT)


def test_ties_go_to_the_lower_indices_and_runs_repeat():
    alike = torch.diag(torch.tensor([1.0, 1.0, 4.0, 4.0, 4.0], dtype=torch.float64))
    tau = torch.full((5,), 1e-3, dtype=torch.float64)
    once = swap_refine(alike, None, tau, (1, 0), 1.0, most=1)
    assert once.kept == (1, 2)  # unit 0 went, and of three equal ones the first came
    problem = Problem(16, 2)
    runs = [problem.refined([0, 5, 9, 2, 14], 0.3) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0].kept == problem.refined([14, 9, 5, 2, 0], 0.3).kept


def test_a_limit_ends_it_and_says_so():
    problem = Problem(32, lam=1e-6)
    kept = range(12)
    whole = problem.refined(kept, 0.3)
    assert whole.swaps > 2
    short = problem.refined(kept, 0.3, most=2)
    assert (short.swaps, short.settled) == (2, False)
    assert whole.after < short.after < whole.before
    none = problem.refined(kept, 0.3, most=0)
    assert (none.kept, none.swaps, none.settled) == (tuple(kept), 0, False)
    assert problem.refined(whole.kept, 0.3, most=0).settled
    assert problem.refined(kept, 0.3, most=whole.swaps).settled


def test_there_may_be_nothing_to_swap():
    problem = Problem(7)
    for kept in ((), range(7)):
        found = problem.refined(kept, 0.3)
        assert (found.kept, found.swaps, found.settled) == (tuple(kept), 0, True)
        assert swap_changes(problem.moments, problem.readouts, problem.ridges, kept).numel() == 0
    dead = swap_refine(torch.zeros(4, 4), None, torch.zeros(4), (1, 2))
    assert (dead.kept, dead.before, dead.after) == ((1, 2), 0.0, 0.0)
    constant = Problem(6, kind="constant", lam=0.0)
    assert constant.refined((2, 4), 0.3).kept == (2, 4)


@pytest.mark.parametrize(
    ("kept", "more", "words"),
    [
        ((0, 9), {}, "units 0 to 6"),
        ((1, 1), {}, "distinct"),
        ((0, 1), {"most": -1}, "0 or more, but -1"),
        ((0, 1), {"theta": 1.5}, "θ weighs"),
    ],
)
def test_what_does_not_fit_is_told(kept, more, words):
    problem = Problem(7)
    with pytest.raises(ValueError, match=words):
        swap_refine(problem.selector, None, problem.ridges, kept, **more)
    with pytest.raises(ValueError, match="2 ridges"):
        swap_refine(problem.selector, None, problem.ridges * 2, (0, 1))


def test_a_swap_costs_no_fit_from_scratch(monkeypatch):
    """A start, and one more to check what many swaps have added up, however many they are."""
    problem, started = Problem(60, 2, lam=1e-6), []
    start = swapping._Fit.start
    monkeypatch.setattr(swapping._Fit, "start", lambda fit, kept: (started.append(1), start(fit, kept))[1])
    assert problem.refined(range(25), 0.3).swaps > 10
    assert len(started) <= 3 * 2


@pytest.mark.parametrize("theta", THETAS)
def test_a_path_goes_through_given_units_first(theta):
    problem = Problem(13, 2)
    first = (1, 4, 6, 12)
    path = problem.selector.path(problem.ridges, theta, 9, first=first)
    order = path.order.tolist()
    assert set(order[:4]) == set(first)
    for width, loss in enumerate(path.losses.tolist()):
        assert loss == pytest.approx(problem.loss(order[:width], theta), abs=EXACT)
    for width in range(8):  # each is the best next one of those that may come
        free = set(first) - set(order[:width]) if width < 4 else set(range(13)) - set(order[:width])
        tried = [problem.loss([*order[:width], unit], theta) for unit in free]
        assert path.losses[width + 1] == pytest.approx(min(tried), abs=EXACT)
    dead = GreedySelector(torch.diag(torch.tensor([2.0, 0.0, 1.0, 0.0])).double())
    assert dead.path(torch.zeros(4), 1.0, first=(1, 2)).order.tolist() == [2, 1, 0, 3]


def test_the_selection_orders_the_refined_set_first():
    problem = Problem(16, 2, seed=5)
    given = {"moments": problem.moments, "readouts": problem.readouts, "ridges": problem.ridges, "theta": 0.3}
    greedy = SELECTIONS["greedy"].order(Evidence(16, **given))
    swap = SELECTIONS["greedy-swap"]
    assert torch.equal(swap.order(Evidence(16, **given)), greedy)  # no width, nothing to refine
    for kept in range(1, 16):
        order = swap.order(Evidence(16, kept=kept, **given)).tolist()
        assert sorted(order) == list(range(16))
        assert tuple(sorted(order[:kept])) == problem.refined(greedy[:kept], 0.3).kept


def test_preview_says_what_the_swaps_won():
    session = conv_session()
    swapped = 0
    for group in (one for one in session.groups if one.prunable):
        for width in range(1, group.width, 2):
            greedy, swap = (session.preview(group.name, width=width, selection=s) for s in WAYS)
            assert greedy.swaps is None
            found = swap.swaps
            assert found.before == pytest.approx(greedy.combined_loss, abs=EXACT)
            assert found.after == pytest.approx(swap.combined_loss, abs=EXACT)
            assert swap.combined_loss <= greedy.combined_loss + 1e-12
            assert swap.kept == found.kept
            assert (swap.kept == greedy.kept) == (found.swaps == 0)
            assert sorted(swap.order) == list(range(group.width))
            swapped += found.swaps > 0
    assert swapped > 0


def test_a_plan_its_commit_and_its_recipe_keep_the_refined_units(tmp_path):
    session = conv_session()
    plan = session.plan(session.macs // 3, rule="equal", selection="greedy-swap")
    for step in session.commit_plan(plan, selection="greedy-swap"):
        choice = step.choice
        assert choice.swaps.kept == choice.kept
        assert plan.losses[choice.group] == pytest.approx(choice.output_loss, rel=1e-6)
    assert any(step.choice.swaps.swaps for step in session.history if step.choice)
    session.save(tmp_path)
    again = replay(tmp_path / "recipe.json", session.original, images(64))
    assert [one.choice and one.choice.kept for one in again.history] == [
        one.choice and one.choice.kept for one in session.history
    ]
    assert {one.choice.selection for one in again.history if one.choice} == {"greedy-swap"}
    assert torch.equal(again.model(images(3)), session.model(images(3)))


def test_a_comparison_has_it_beside_greedy():
    session = conv_session()
    table = session.compare([session.plan(session.macs // 3, rule="equal")], WAYS, ["none", "channel"])
    assert {row.selection for row in table.rows} == set(WAYS)
    assert "greedy-swap" in table.to_markdown()


def test_where_a_group_is_too_wide_the_greedy_units_stay_and_that_is_said(monkeypatch):
    session = conv_session()
    monkeypatch.setattr(problem_module, "SWAPS_WORK", 11**3)  # conv2 has 11 units and one reader, fc1 has 13
    for width in range(1, 11):
        assert session.preview("conv2", width=width, selection="greedy-swap").swaps is not None
        greedy, swap = (session.preview("fc1", width=width, selection=s) for s in WAYS)
        assert (swap.kept, swap.order, swap.swaps) == (greedy.kept, greedy.order, None)


def test_a_wide_group_is_refined_at_the_width_and_goes_on_greedily(monkeypatch):
    monkeypatch.setattr(problem_module, "WHOLE_PATH", 8)
    session = conv_session()
    choice = session.preview("conv2", width=5, selection="greedy-swap")
    assert choice.swaps.kept == choice.kept == tuple(sorted(choice.order[:5]))
    assert len(choice.order) == len(set(choice.order)) == 10  # twice the width
    plan = session.plan(session.macs // 2, rule="equal", selection="greedy-swap")
    assert len(session.commit_plan(plan, selection="greedy-swap")) == len(plan.widths)


def test_the_page_gets_the_swaps_of_a_choice():
    session = conv_session()
    greedy, swap = (preview_values(session.preview("fc1", width=3, selection=s), {}) for s in WAYS)
    assert greedy["swaps"] is None
    assert set(swap["swaps"]) == {"swaps", "before", "after", "settled"}
    assert swap["swaps"]["after"] == pytest.approx(swap["combined_loss"], abs=EXACT)
    json.dumps(swap)

"""Swap refinement **[beyond the paper]**: a kept and a lost unit change places while that lowers the loss.

The greedy path never takes a choice back. Here all pairs of a kept unit i and a lost unit j are tried at once
by low-rank quantities, the pair that takes most off the combined loss changes places, and so on until no pair
takes anything off. The width stays as it is, and with it the ridge.

With P = (Σ_JJ + I_τ)⁻¹, A = PΣ_JF (k, m), C = Σ − Σ_FJ A and M = θI + (1−θ)ZᵀZ the loss is Tr[MC].
Without i it is C + a_i a_iᵀ/P_ii, a_i row i of A; with j in its place that minus u uᵀ/(u_j + τ_j), where
u = C e_j + a_i A_ij/P_ii.
So of every pair, with K = diag AMAᵀ (k,), T = AMC (k, m), g = diag CMC and d = diag C + τ (m,):

  Δ_ij = K_i/P_ii − [g_j + 2 (A_ij/P_ii) T_ij + A_ij² K_i/P_ii²] / [d_j + A_ij²/P_ii]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.spectral.greedy import GreedySelector, ReaderProducts
from workbench.spectral.moment import Moment, Units, unit_indices
from workbench.spectral.regression import SPENT

_LEAST_FALL = 1e-9  # of the present loss: a smaller fall is not worth a swap, and may be rounding
_ROUNDING = 1e-14  # of the whole loss
_TIE = 1e-9  # falls this near the best one, relatively, are equal up to rounding


@dataclass(frozen=True)
class Swapped:
    """What swap refinement made of a kept set.

    Attributes:
        kept: the units now kept, ascending.
        swaps: how many pairs changed places.
        before, after: the combined loss of the set given and of `kept`, relative to keeping none;
            `after` is never above `before`.
        settled: no pair is left that takes anything off; False where the limit on swaps ended it.
    """

    kept: tuple[int, ...]
    swaps: int
    before: float
    after: float
    settled: bool


def swap_refine(
    moment: Moment | Tensor | Sequence[Moment | Tensor] | GreedySelector,
    readout: Tensor | Sequence[Tensor] | None,
    ridge: Tensor | Sequence[Tensor],
    kept: Units,
    theta: float = 0.5,
    most: int | None = None,
) -> Swapped:
    """Swap kept for lost units while the combined loss L^θ falls **[beyond the paper]**.

    With a ridge of 0 a fit on units that say the same would divide by rounding: 1e-12 of a unit's own
    variance is the least that is used, and the losses are those of that ridge.

    O(m²) a swap after a start of a few products of (m, m) matrices. Ties go to the lower indices, so runs
    repeat. The result is a set that no single swap makes better; the best of all may take several at once.

    Args:
        moment, readout, ridge, theta: as for `greedy_path`; a `GreedySelector` instead of the moments has the
            readouts already.
        kept: J, distinct unit indices in [0, m).
        most: swaps at most; None: ten times the smaller of the units kept and lost. That is a guard alone:
            in 2,160 runs on synthetic moments of 16 to 256 units, greedy sets took up to 1.0 times that
            number and random sets up to 1.9 times.

    Returns:
        The refined set, how many swaps made it, and the loss before and after.

    Raises:
        ValueError: as for `greedy_path`, an index that is not a unit, or `most` below 0.

    Source:
        Exchange after the greedy choice: OSSCAR (Meng et al., ICML 2024); method.md §3 and §4 for the loss.
    """
    selector = moment if isinstance(moment, GreedySelector) else GreedySelector(moment, readout)
    taus = selector.checked_ridges(ridge, theta)
    index = unit_indices(kept, selector.width)
    limit = 10 * min(len(index), selector.width - len(index)) if most is None else most
    if limit < 0:
        raise ValueError(f"The number of swaps is limited to 0 or more, but {most} was given.")
    fits = [_Fit(reader, tau, theta) for reader, tau in zip(selector.readers, taus, strict=True)]
    state = _State(fits, index, selector.total)
    before, swaps = state.loss, 0
    best, after, settled = index, before, False
    while True:
        made = state.swap_on(limit - swaps)
        if made:
            # What low-rank steps have added up is computed anew before it is believed.
            state = _State(fits, state.kept, selector.total)
        if not made or state.loss >= after:
            settled = swaps < limit or state.best_pair() is None
            break
        best, after, swaps = state.kept, state.loss, swaps + made
    whole = selector.total or 1.0
    units = tuple(sorted(best.tolist()))
    return Swapped(units, swaps, _share(before, whole), _share(after, whole), settled)


def swap_changes(
    moment: Moment | Tensor | Sequence[Moment | Tensor] | GreedySelector,
    readout: Tensor | Sequence[Tensor] | None,
    ridge: Tensor | Sequence[Tensor],
    kept: Units,
    theta: float = 0.5,
) -> Tensor:
    """How the combined loss changes with every swap of a kept and a lost unit **[beyond the paper]**.

    Args:
        moment, readout, ridge, kept, theta: as for `swap_refine`.

    Returns:
        (k, m − k) float64, relative to the loss of keeping none: row i for the i-th of `kept`, as given,
        column j for the j-th lost unit, ascending. Below 0 the swap helps.

    Raises:
        ValueError: as for `swap_refine`.

    Source:
        The formula of this module; method.md §3 and §4.
    """
    selector = moment if isinstance(moment, GreedySelector) else GreedySelector(moment, readout)
    taus = selector.checked_ridges(ridge, theta)
    fits = [_Fit(reader, tau, theta) for reader, tau in zip(selector.readers, taus, strict=True)]
    state = _State(fits, unit_indices(kept, selector.width), selector.total)
    return state.changes() / (selector.total or 1.0)


class _State:
    """A kept set, slot by slot, and every reader's fit on it."""

    def __init__(self, fits: Sequence[_Fit], kept: Tensor, total: float) -> None:
        self.fits, self.total = fits, total
        self.kept = kept.clone()  # unit in each slot   (k,)
        for fit in fits:
            fit.start(self.kept)
        self.lost = self._lost()
        self.loss = sum(fit.loss for fit in fits)

    def _lost(self) -> Tensor:
        free = torch.ones(len(self.fits[0].tau), dtype=torch.bool)
        free[self.kept] = False
        return free.nonzero()[:, 0]

    def changes(self) -> Tensor:
        """Δ of every pair, absolute, (k, m − k)."""
        found = self.fits[0].changes(self.lost)
        for fit in self.fits[1:]:
            found += fit.changes(self.lost)
        return found

    def best_pair(self) -> tuple[int, int, float] | None:
        """The slot and the lost unit whose swap takes most off, and the loss's change; None: none does."""
        if not len(self.kept) or not len(self.lost):
            return None
        changes = self.changes()
        best = float(changes.min())
        if -best <= _LEAST_FALL * self.loss + _ROUNDING * self.total:
            return None
        slots, columns = (changes <= best * (1.0 - _TIE)).nonzero(as_tuple=True)
        first = int((self.kept[slots] * len(self.fits[0].tau) + self.lost[columns]).argmin())
        slot, column = int(slots[first]), int(columns[first])
        return slot, int(self.lost[column]), float(changes[slot, column])

    def swap_on(self, most: int) -> int:
        """Swap while that takes something off; returns how often."""
        made = 0
        while made < most and (pair := self.best_pair()):
            slot, unit, change = pair
            for fit in self.fits:
                fit.swap(slot, unit)
            self.kept[slot] = unit
            self.lost = self._lost()
            self.loss += change
            made += 1
        return made


class _Fit:
    """One reader's C = Σ − Σ_FJ(Σ_JJ+I_τ)⁻¹Σ_JF, and what the changes of all swaps are made of."""

    def __init__(self, reader: ReaderProducts, tau: Tensor, theta: float) -> None:
        self.sigma, self.metric = torch.from_numpy(reader.stack[0]), reader.metric
        self.theta = 1.0 if reader.metric is None else theta
        variances = self.sigma.diagonal()
        # A dead unit's row of Σ is zero: any ridge > 0 leaves it out.
        self.tau = torch.where(variances > 0, tau.maximum(SPENT * variances), 1.0)

    def start(self, kept: Tensor) -> None:
        """Fit on these units, one a slot."""
        cross = self.sigma[kept]  # Σ_JF   (k, m)
        factor = self._factor(cross[:, kept], kept)  # Σ_JJ + I_τ = FFᵀ
        half = torch.linalg.solve_triangular(factor, cross, upper=False)  # F⁻¹Σ_JF   (k, m)
        self.P = torch.cholesky_inverse(factor)  # (k, k)
        self.A = torch.linalg.solve_triangular(factor.T, half, upper=True)  # PΣ_JF   (k, m)
        self.C = self.sigma - half.T @ half  # Σ − Σ_FJ A   (m, m)
        self.G = self._weighed(self.C)  # MC   (m, m)
        self.T = self.A @ self.G  # AMC   (k, m)
        self.K = (self.A * self._weighed(self.A.T).T).sum(1)  # diag AMAᵀ   (k,)
        self.g = (self.C * self.G).sum(0)  # diag CMC   (m,)
        self.loss = float(self.G.trace())  # Tr[MC]

    def _factor(self, gram: Tensor, kept: Tensor) -> Tensor:
        """F of Σ_JJ + I_τ = FFᵀ, (k, k); where rounding hides the ridge, with the next larger one."""
        while True:
            factor, failed = torch.linalg.cholesky_ex(gram + torch.diag(self.tau[kept]))
            if not failed:
                return factor
            self.tau = 10 * self.tau

    def _weighed(self, columns: Tensor) -> Tensor:
        """MX = θX + (1−θ)ZᵀZX."""
        if self.metric is None:
            return columns
        return self.theta * columns + (1 - self.theta) * self.metric.image(columns)

    def changes(self, lost: Tensor) -> Tensor:
        """Δ of every slot's unit for every lost one, (k, len(lost))."""
        row = self.A[:, lost]
        share = row / self.P.diagonal()[:, None]  # A_ij/P_ii
        without = (self.K / self.P.diagonal())[:, None]  # K_i/P_ii
        pivot = (self.C.diagonal().clamp(min=0.0) + self.tau)[lost] + row * share  # d_j + A_ij²/P_ii
        gain = self.g[lost] + share * (2 * self.T[:, lost] + row * without)
        return without - gain / pivot

    def swap(self, slot: int, unit: int) -> None:
        """Put `unit` into `slot` in place of the unit that is there: rank-one updates of everything."""
        self._take_out(slot)
        self._put_in(slot, unit)

    def _take_out(self, slot: int) -> None:
        """C ← C + aaᵀ/π and A ← A − paᵀ/π with a = A_s, p = P e_s, π = P_ss; slot s becomes 0."""
        p, a, pi = self.P[:, slot].clone(), self.A[slot].clone(), float(self.P[slot, slot])
        weighed = self._weighed(a[:, None])[:, 0]  # Ma   (m,)
        read, inner = self.T[slot].clone(), float(self.K[slot])  # aᵀMC (m,) and aᵀMa
        crossed = self.A @ weighed  # AMa   (k,)
        self.g += 2 * a * read / pi + a.square() * (inner / pi**2)
        self.C.addr_(a, a, alpha=1 / pi)
        self.G.addr_(weighed, a, alpha=1 / pi)
        self.T.addr_(p, read, alpha=-1 / pi)  # T ← T − p(aᵀMC)/π + (AMa/π − p(aᵀMa)/π²)aᵀ
        self.T.addr_(crossed - p * (inner / pi), a, alpha=1 / pi)
        self.K += p.square() * (inner / pi**2) - 2 * p * crossed / pi
        self.A.addr_(p, a, alpha=-1 / pi)
        self.P.addr_(p, p, alpha=-1 / pi)

    def _put_in(self, slot: int, unit: int) -> None:
        """C ← C − uuᵀ/d and A ← A − quᵀ/d with u = C e_j, d = u_j + τ_j and q = A e_j but q_s = −1."""
        u, weighed, crossed = self.C[:, unit].clone(), self.G[:, unit].clone(), self.T[:, unit].clone()
        q = self.A[:, unit].clone()
        q[slot], crossed[slot] = -1.0, 0.0
        d = max(float(u[unit]), 0.0) + float(self.tau[unit])
        read = self.C @ weighed  # CMu   (m,)
        inner = float(weighed @ u)  # uᵀMu
        self.g += u.square() * (inner / d**2) - 2 * u * read / d
        self.C.addr_(u, u, alpha=-1 / d)
        self.G.addr_(weighed, u, alpha=-1 / d)
        self.T.addr_(q, read, alpha=-1 / d)  # T ← T − q(uᵀMC)/d − (AMu/d − q(uᵀMu)/d²)uᵀ
        self.T.addr_(crossed - q * (inner / d), u, alpha=-1 / d)
        self.K += q.square() * (inner / d**2) - 2 * q * crossed / d
        self.A.addr_(q, u, alpha=-1 / d)
        self.P.addr_(q, q, alpha=1 / d)


def _share(loss: float, whole: float) -> float:
    return min(max(loss / whole, 0.0), 1.0)

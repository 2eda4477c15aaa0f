"""Local errors of a pruned network, and what they come to at its output: by the theory, and measured.

Source: method.md §6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor

from workbench.data.progress import Progress
from workbench.measure.drift import Cut, Drift, measure_drift
from workbench.network.chain import Chain, chain_of
from workbench.network.groups import Reader, UnitGroup, named_group
from workbench.network.layers import layer_weight
from workbench.network.lipschitz import UnknownError
from workbench.pruning.problem import norm_scale
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, surviving_rows
from workbench.spectral.bounds import local_error
from workbench.spectral.reconstruction import fold, readout_matrix, reconstruction_matrix

SAME = 1e-3  # of a folded weight's norm: what float32 may make of it


@dataclass(frozen=True, kw_only=True)
class ReaderError:
    """The change at one reader's output, root mean square over samples (examples × positions).

    Args:
        group: whose units it reads; `reader`: the layer.
        local_bound: sqrt(Tr[W C_J Wᵀ]) where the reader was folded by the paper's Â; else sqrt(Tr[D Σ Dᵀ])
            with D what its weight changed by.
        exact: whether that is a bound on the calibration data (a Linear reader, the moments of the very
            network); for a convolution it is an estimate.
        local_measured: measured on the calibration data where the whole network's activations come in. Where
            the layer reads several pruned groups it is of all of them together.
        positions: outputs an example (spatial positions, tokens).
        norm: the batch norm that takes the reader's output as it is, '' without one; `behind_bound` and
            `behind_measured` are the same two behind it, times γ/σ a channel, which is what goes on upwards.
    """

    group: str
    reader: str
    local_bound: float
    exact: bool
    local_measured: float
    positions: float
    norm: str
    behind_bound: float
    behind_measured: float


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Local errors, what they can come to at the network's output, and what they do come to there.

    Args:
        readers: one a reader of a pruned group, in the order of running.
        propagated_bound: Σ_ℓ (Lipschitz factor above ℓ)·local_bound_ℓ, root mean square over examples, in the
            units of the output; None where there is no product of norms (`why_not`).
        propagated_exact: whether all of `local_bound` are bounds, so that this is one.
        propagated_from_measured: the same sum of `local_measured`: a bound for convolutions too.
        why_not: why there is no propagated bound, in words; '' where there is.
        output_change: sqrt((1/n) Σ_i ‖f(x_i) − f♯(x_i)‖²), measured on the calibration data.
        output_size: the same of f.
        examples: n.
    """

    readers: tuple[ReaderError, ...]
    propagated_bound: float | None
    propagated_exact: bool
    propagated_from_measured: float | None
    why_not: str
    output_change: float
    output_size: float
    examples: int

    @property
    def output_error(self) -> float:
        """‖f − f♯‖_n/‖f‖_n, measured."""
        return self.output_change / self.output_size if self.output_size > 0 else 0.0

    @property
    def local_bound(self) -> float:
        """All readers together: the root of the sum of squares."""
        return math.hypot(*(one.local_bound for one in self.readers))

    @property
    def local_measured(self) -> float:
        """All reading layers together: the root of the sum of squares."""
        return math.hypot(*{one.reader: one.local_measured for one in self.readers}.values())


def errors_between(
    ground: Ground,
    whole: State,
    pruned: State,
    lams: Mapping[str, float],
    own: bool,
    why: str = "",
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> Errors:
    """Local errors of `pruned` against `whole`, from moments and measured, and what they can come to.

    `own`: the moments are those of `whole` itself; `most` examples are measured. Reader ℓ gives W_ℓφ in
    `whole` and W♯_ℓφ♯_J in `pruned`, so its error is at most ‖W♯_ℓ‖ times the one before, plus what W♯_ℓ
    makes of φ_J beside W_ℓφ, its own: the norms are the pruned network's, and the activations that a local
    error is of are the whole one's.
    """
    whole, pruned = whole.running(), pruned.running()
    kept = kept_within(whole, pruned)
    # A reader changes where its group keeps all units too: the ridge is in Â.
    changed = {name for name, units in whole.units.items() if len(pruned.units[name]) < len(units)} | set(
        lams
    )
    touched = [group for group in whole.groups if group.name in changed]
    cuts = {
        reader.module: _cut(whole, pruned, kept, reader, touched)
        for group in touched
        for reader in group.readers
    }
    drift = measure_drift(whole.model, pruned.model, cuts, ground.calibration, progress, cancel, most)
    readers = [
        _reader_error(whole, pruned, group, index, kept[group.name], lams.get(group.name), cuts, drift, own)
        for group in touched
        for index in range(len(group.readers))
    ]
    bound = measured = None
    if not why:
        try:
            chain = chain_of(pruned.model, ground.example_input)
            bound = _propagated(chain, readers, lambda one: one.behind_bound)
            alone = {one.reader: one for one in readers}.values()
            measured = _propagated(chain, list(alone), lambda one: one.behind_measured)
        except UnknownError as error:
            why = f"not a chain of layers: no propagated bound ({error})"
    return Errors(
        readers=tuple(readers),
        propagated_bound=bound,
        propagated_exact=all(one.exact for one in readers),
        propagated_from_measured=measured,
        why_not=why,
        output_change=drift.change,
        output_size=drift.size,
        examples=drift.examples,
    )


def kept_within(whole: State, pruned: State) -> dict[str, tuple[int, ...]]:
    """Which units of `whole` each group still has in `pruned`, as they are numbered in `whole`."""
    found = {}
    for name, units in whole.units.items():
        place = {unit: index for index, unit in enumerate(units)}
        found[name] = tuple(place[unit] for unit in pruned.units[name])
    return found


def _cut(
    whole: State, pruned: State, kept: dict[str, tuple[int, ...]], reader: Reader, touched: list[UnitGroup]
) -> Cut:
    columns = layer_weight(whole.model.get_submodule(reader.module)).shape[1]
    stays = torch.ones(columns, dtype=torch.bool)
    for group in touched:
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[list(kept[group.name])] = False
        for one in group.readers:
            if one.module == reader.module:
                stays[one.columns[gone].flatten()] = False
    return Cut(
        reader.kind,
        surviving_rows(whole, kept, reader.module),
        stays.nonzero().flatten(),
        norm_scale(pruned.model, reader.norm),
    )


def _reader_error(
    whole: State,
    pruned: State,
    group: UnitGroup,
    index: int,
    kept: tuple[int, ...],
    lam: float | None,
    cuts: Mapping[str, Cut],
    drift: Drift,
    own: bool,
) -> ReaderError:
    """One reader: its local error by the moments, and as it was measured."""
    problem, reader = whole.problem(group.name), group.readers[index]
    moment = problem.moments[index]
    layer, after = (one.model.get_submodule(reader.module) for one in (whole, pruned))
    rows = cuts[reader.module].rows
    weight = layer_weight(layer).detach().cpu()[rows]
    part = reader.group_weight(weight).double()  # W   (outputs, m, positions·kernel)
    left = named_group(pruned.groups, group.name).readers[index]
    new = left.group_weight(layer_weight(after).detach().cpu()).double()  # W♯   (outputs, k, …)
    change = part.clone()  # D = W − W♯, where the lost units have no column
    change[:, list(kept)] -= new
    tau, nothing = None if lam is None else problem.ridges(lam, len(kept))[index], torch.zeros(group.width)
    known: tuple[tuple[int, ...], Tensor, Tensor] = ((), nothing, change)
    if tau is not None:
        folded = fold(part, reconstruction_matrix(moment, kept, tau))  # WÂ   (outputs, k, …)
        if float((folded - new).norm()) <= SAME * float(new.norm()):
            known = kept, tau, part
    scale = cuts[reader.module].scale
    bound, behind = (
        local_error(moment, *known[:2], readout_matrix(rows_scaled, group.width))
        for rows_scaled in (known[2], known[2] if scale is None else known[2] * scale[:, None, None])
    )
    linear = reader.kind in ("Linear", "Conv1D") and reader.positions == 1
    return ReaderError(
        group=group.name,
        reader=reader.module,
        local_bound=bound,
        exact=bool(linear and own and _same_bias(layer, after, rows)),
        local_measured=drift.local[reader.module],
        positions=drift.positions[reader.module],
        norm=reader.norm,
        behind_bound=behind,
        behind_measured=drift.behind[reader.module],
    )


def _same_bias(before: object, after: object, rows: Tensor) -> bool:
    old, new = getattr(before, "bias", None), getattr(after, "bias", None)
    if old is None or new is None:
        return old is new
    return torch.equal(old.detach().cpu()[rows], new.detach().cpu())


def _propagated(chain: Chain, readers: list[ReaderError], local: Callable[[ReaderError], float]) -> float:
    """Σ_ℓ (Lipschitz factor above ℓ)·√positions·local_ℓ: a local error is a position's, a norm is of all."""
    return sum(chain.above(one.reader, one.norm) * math.sqrt(one.positions) * local(one) for one in readers)

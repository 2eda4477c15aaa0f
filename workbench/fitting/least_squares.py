"""Refitting readers by least squares on patches, measured in one pass **[beyond the paper]** (method, §5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.progress import Progress
from workbench.fitting.cached_calls import CachedCalls
from workbench.fitting.layer_calls import Source, measure_calls
from workbench.fitting.patches import PatchLayer, matrix, pieces
from workbench.fitting.watching import LayerCall, watching
from workbench.network.groups import Reader
from workbench.network.layers import layer_weight
from workbench.network.running import device_of
from workbench.spectral.moment import Units, unit_indices
from workbench.spectral.regression import Sums, ridge_vector

LIMIT = 4_000_000_000
"""Bytes a fit may take unless told otherwise."""

_MOST_SAMPLES, _FEWEST_A_FEATURE = 1 << 20, 16
_MOST_WORK = 2 * 10**12  # multiplications for a Gram matrix: a minute or so in float64 on one core
# A channel that its norm scales by less than this share of the largest factor has no say in the sum, and
# would need an enormous target to make up for a drift.
_TINY = 1e-3


def fit_present(
    network: nn.Module,
    reader: Reader,
    weight: Tensor,
    alive: Units,
    kept: Units,
    ridge: Tensor,
    data: Any,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    samples: int | None = None,
    limit: int = LIMIT,
) -> Tensor:
    """Kernel-aware reconstruction: the reader's own output, from the patches of the kept units alone.

    Minimises E|y − V x_J|² + Σ_j τ_j|V_j|² over V, where y = weight · x, x is the patch (units · positions ·
    kernel positions) and x_J the kept units' part of it. At full width and without a ridge V is the weight.

    Args:
        network: measured in evaluation mode and left as it was.
        reader: which layer, and which of its inputs are whose unit, in the numbering of `network`.
        weight: (outputs, m, positions·kernel), the reader's present part for the m units `alive`.
        alive: (m,) rows of `reader.columns` that still exist.
        kept: k distinct indices into the m.
        ridge: τ, (m,), >= 0; every feature of unit j gets τ_j.
        data: calibration batches, as for `measure_moments`.
        progress, cancel: as for `measure_calls`.
        samples: patches to use at most; by default 2²⁰, in wide layers fewer, but at least 16 a feature.
            Beyond that a random choice with a fixed seed is made.
        limit: bytes that the fit may take.

    Returns:
        V, (outputs, k, positions·kernel) float64.

    Raises:
        ValueError: shapes that do not fit, a layer that cannot be fitted on patches, more memory than
            `limit`, or data that does not go through the network.
        Cancelled: `cancel` was set.

    Source:
        method.md §5, kernel-aware **[beyond the paper]**.
    """
    layer = PatchLayer.of(network, reader.module)
    columns = reader.columns[unit_indices(alive, len(reader.columns))]  # (m, positions)
    units, positions = columns.shape
    _check_weight(layer, weight, units, positions)
    index, tau = unit_indices(kept, units), ridge_vector(ridge, units).cpu()
    lost = torch.ones(units, dtype=torch.bool)
    lost[index] = False
    own, gone = (_part(weight, units_of, positions, layer) for units_of in (index, lost))
    _check_memory(layer.name, own.shape[1], len(own), limit)
    sums = Sums(own.shape[1], len(own), device_of(network))
    use = partial(_add_lost, sums, layer, columns[index].flatten(), columns[lost].flatten(), gone)
    most = samples or _enough(own.shape[1])
    with watching(network, layer.name) as watch:
        measure_calls([watch], layer, data, most, use, progress, cancel)
    fitted = own + sums.uncentred(own, tau[index].repeat_interleave(positions * layer.patch))
    return layer.weight_of(fitted, len(weight)).reshape(len(weight), len(index), -1)


def fit_original(
    original: nn.Module,
    pruned: nn.Module,
    module: str,
    rows: Tensor,
    ridge: Tensor,
    data: Any,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    drift: bool = True,
    samples: int | None = None,
    limit: int = LIMIT,
    cached_calls: CachedCalls | None = None,
) -> tuple[Tensor, Tensor]:
    """Reconstruction against the original: what layer `module` gave in `original`, from what it gets now.

    Minimises E|y − W x − b|² + Σ_j τ_j|W_j|² over W and b, where x is a patch of all the inputs that the
    layer has in `pruned` and y its output in `original`. With `drift`, where that output runs into an
    addition (directly or behind one batch norm), y makes up for what the other operand, a residual stream,
    has moved since, so that the sum comes back to the original's. Directions that the data does not show
    keep the weight that they have; where nothing was pruned the layer's own weight and bias come back.

    Args:
        original, pruned: measured in evaluation mode and left as they were.
        module: the layer's name in both.
        rows: (outputs,) the original's output rows that the pruned layer still has, in its order.
        ridge: τ, (inputs,), >= 0, one entry an input channel or feature of the pruned layer.
        data, progress, cancel, samples, limit: as in `fit_present`.
        drift: whether the target makes up for what the stream has moved since.
        cached_calls: what the original gave for this data, where that was stored; else it runs once more.

    Returns:
        weight (outputs, inputs, *kernel) and bias (outputs,), float64.

    Raises:
        ValueError, Cancelled: as in `fit_present`.

    Source:
        method.md §5, against the original **[beyond the paper]**.
    """
    layer = PatchLayer.of(pruned, module)
    PatchLayer.of(original, module)
    present: Tensor = layer_weight(pruned.get_submodule(module)).detach()
    outputs, inputs = present.shape[:2]
    whole = len(layer_weight(original.get_submodule(module)))
    if len(unit_indices(rows, whole)) != outputs:
        raise ValueError(f"layer {module} has {outputs} outputs now, but {len(rows)} rows were given for it")
    tau = ridge_vector(ridge, inputs).cpu().repeat_interleave(layer.patch)
    own = layer.matrix_of(present.reshape(outputs, inputs, -1).cpu().double())
    _check_memory(module, own.shape[1], len(own), limit)
    sums = Sums(own.shape[1], len(own), device_of(pruned))
    before = cached_calls.of(module) if cached_calls is not None and drift else None
    use = partial(_add_missing, sums, layer, rows)
    with _both(before, original, pruned, module, drift) as watches:
        measure_calls(watches, layer, data, samples or _enough(own.shape[1]), use, progress, cancel)
    change, bias = sums.centred(own, tau, layer.block)
    own_bias: Any = pruned.get_submodule(module).bias
    bias = bias if own_bias is None else bias + own_bias.detach().cpu().double()
    return layer.weight_of(own + change, outputs).reshape(present.shape), bias


@contextmanager
def _both(
    before: Source | None, original: nn.Module, pruned: nn.Module, module: str, drift: bool
) -> Iterator[list[Source]]:
    """Within: the layer is watched in the pruned network, and in the original if nothing is stored."""
    with ExitStack() as stack:
        watches = [
            stack.enter_context(watching(network, module, outputs=True, additions=drift))
            for network in ((original, pruned) if before is None else (pruned,))
        ]
        yield [*([] if before is None else [before]), *watches]


def _add_lost(
    sums: Sums,
    layer: PatchLayer,
    kept: Tensor,
    lost: Tensor,
    gone: Tensor,
    calls: Sequence[LayerCall],
    picked: Tensor | None,
) -> None:
    """Add a call: the kept columns' part of every patch, and what the lost ones gave through `gone`.

    The kept units' own share is known exactly; only what the lost ones said is to be fitted.
    """
    inputs, gone = calls[0].inputs.to(sums.device), gone.to(sums.device)
    regressors = layer.windows(inputs, kept)
    others = layer.windows(inputs, lost) if len(lost) else None
    grid = tuple(regressors.shape[: layer.grid_axes])
    for piece in pieces(grid, sums.features + gone.shape[1], picked):
        x = matrix(regressors, piece, layer.grid_axes)  # x_J   (f, n)
        if others is None:
            sums.add(x, x.new_zeros(len(gone), x.shape[1]))
        else:
            sums.add(x, gone @ matrix(others, piece, layer.grid_axes))  # t = W_L x_L   (o, n)


def _add_missing(
    sums: Sums, layer: PatchLayer, rows: Tensor, calls: Sequence[LayerCall], picked: Tensor | None
) -> None:
    """Add a call: the patches in the pruned network, and what its output lacks to the original's."""
    regressors = layer.windows(calls[1].inputs.to(sums.device))
    missing = layer.targets(_missing(layer, calls[0], calls[1], rows).to(sums.device))
    _same_samples(layer, regressors, missing)
    grid = tuple(regressors.shape[: layer.grid_axes])
    for piece in pieces(grid, sums.features + len(sums.target), picked):
        sums.add(matrix(regressors, piece, layer.grid_axes), matrix(missing, piece, layer.grid_axes))


def _enough(features: int) -> int:
    """Patches that a fit of so many features takes at most."""
    return max(_FEWEST_A_FEATURE * features, min(_MOST_SAMPLES, _MOST_WORK // features**2))


def required_bytes(features: int, outputs: int) -> int:
    """Memory that a fit takes: float64 Gram matrix, its copies while it is solved, and cross moments.

    Args:
        features: f, of a patch.
        outputs: o, targets a sample.

    Returns:
        Bytes.
    """
    return 8 * (7 * features**2 + 6 * features * outputs)


def _missing(layer: PatchLayer, before: LayerCall, now: LayerCall, rows: Tensor) -> Tensor:
    """What the layer's output in the pruned network lacks: to the original's, and for the stream's drift."""
    if before.output is None or now.output is None:
        raise ValueError(f"layer {layer.name} was not watched for outputs")
    axis = -layer.grid_axes

    def wanted(tensor: Tensor) -> Tensor:
        return tensor.index_select(axis, rows.to(tensor.device)).to(now.inputs.device)

    kind = torch.promote_types(now.output.dtype, torch.float32)
    target, output = wanted(before.output).to(kind), now.output.to(kind)
    if target.shape != output.shape:
        raise ValueError(
            f"layer {layer.name} gives {tuple(target.shape)} in the original and {tuple(output.shape)} in "
            "the pruned network; both must see the same positions"
        )
    missing = target - output  # y − (Wx + b), as the layer is   (examples, outputs, *positions)
    if before.other is None or now.other is None or (before.scale is None) != (now.scale is None):
        return missing
    # An operand that is broadcast, or that has lost other channels, is not compared.
    if before.other.shape != before.output.shape or now.other.shape != output.shape:
        return missing
    moved_by = wanted(before.other).to(kind) - now.other.to(kind)
    if now.scale is None:
        return missing + moved_by
    scale = now.scale.to(kind)
    heard = scale.abs() > _TINY * scale.abs().max()
    factor = torch.where(heard, 1 / scale, 0.0)
    return missing + moved_by * factor.reshape(-1, *[1] * (-axis - 1))  # behind γ/σ a drift d needs d·σ/γ


def _check_weight(layer: PatchLayer, weight: Tensor, units: int, positions: int) -> None:
    if weight.ndim != 3 or weight.shape[1:] != (units, positions * layer.patch * layer.block):
        raise ValueError(
            f"layer {layer.name} needs a weight (outputs, {units}, {positions * layer.patch * layer.block}) "
            f"for its {units} units, got {tuple(weight.shape)}"
        )


def _same_samples(layer: PatchLayer, regressors: Tensor, targets: Tensor) -> None:
    ours, theirs = (tuple(view.shape[: layer.grid_axes]) for view in (regressors, targets))
    if ours != theirs:
        raise ValueError(
            f"layer {layer.name} has {ours} patches but {theirs} outputs (examples, positions); its output "
            "size was given from outside: choose 'channel'"
        )


def _part(weight: Tensor, units: Tensor, positions: int, layer: PatchLayer) -> Tensor:
    """The columns of some units in the layer's matrix, (targets, features) float64."""
    part = weight.detach()[:, units.to(weight.device)].double()
    return layer.matrix_of(
        part.reshape(len(weight), part.shape[1] * positions, layer.patch * layer.block)
    ).cpu()


def _check_memory(name: str, features: int, outputs: int, limit: int) -> None:
    needed = required_bytes(features, outputs)
    if needed > limit:
        raise ValueError(
            f"fitting layer {name} on patches of {features} features needs {needed / 1e9:.1f} GB of memory, "
            f"more than the {limit / 1e9:.1f} GB allowed: reduce the width of its input first, or "
            "reconstruct by 'channel', which needs no such fit"
        )

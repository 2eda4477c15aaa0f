"""Carrying out a choice: one state of the session → the next, the present one untouched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.progress import Progress
from workbench.fitting.cached_calls import CachedCalls, cache_calls
from workbench.fitting.least_squares import fit_original, fit_present
from workbench.fitting.norms import has_running_statistics, reestimate_norms
from workbench.fitting.patches import PatchLayer, given_several
from workbench.measure.gradients import measure_taylor
from workbench.measure.moments import measure_moments
from workbench.network.cost import count_cost
from workbench.network.cost_model import cost_saved
from workbench.network.groups import UnitGroup, named_group
from workbench.network.layers import layer_weight, output_count, set_layer_weight
from workbench.network.running import Inputs, call_order
from workbench.network.surgery import remove_units
from workbench.network.tensors import sharing_copy, with_weights
from workbench.pruning.choice import DEFAULT_THETA, RECONSTRUCTIONS, Choice, make_choice, resolve
from workbench.pruning.state import Change, StaleMomentsError, State
from workbench.spectral.regression import light_lam, spread_ridge, uniform_ridge
from workbench.spectral.selection import SELECTIONS
from workbench.tuning.settings import Tuning

REFITTED = "refitted"  # what a step is called that fitted all layers once more
Reporting = tuple[Progress | None, Event | None]


@dataclass(frozen=True)
class Options:
    """How a choice is made, beside its width and λ; see `Session.preview`."""

    theta: float = DEFAULT_THETA
    selection: str = "greedy"
    reconstruction: str = "channel"
    reestimate: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.theta, (int, float)) or not 0 <= self.theta <= 1:
            raise ValueError(f"θ must be a number in [0, 1], got {self.theta!r}")
        if self.selection not in SELECTIONS:
            raise ValueError(f"the selection must be one of {', '.join(SELECTIONS)}; got {self.selection!r}")
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"the reconstruction must be one of {', '.join(RECONSTRUCTIONS)}; got {self.reconstruction!r}"
            )


@dataclass(frozen=True)
class Ground:
    """What a choice is carried out against: the original network, the data, the procedure.

    `original` is run and watched, so it is one's own (`State.running`). `calls` are the names of the modules
    in the order in which the original calls them.
    """

    original: State
    calibration: Iterable
    example_input: Inputs
    simultaneous: bool
    calls: tuple[str, ...]
    training: Any = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    cached_calls: CachedCalls | None = None

    def caching(self, layers: Sequence[str], progress: Progress | None, cancel: Event | None) -> Ground:
        """The same, with what the original gives at `layers`, so that it runs once for all their fits."""
        if self.cached_calls is not None or len(layers) < 2:
            return self
        found = cache_calls(self.original.model, layers, self.calibration, progress, cancel)
        return replace(self, cached_calls=found)

    def stale_after(self, state: State, changed: UnitGroup) -> dict[str, str]:
        """Stale groups after a commit to `changed`: under the sequential procedure those that are read after
        its first reader ran."""
        if self.simultaneous:
            return {}
        last = {name: index for index, name in enumerate(self.calls)}
        first = min(self.calls.index(reader.module) for reader in changed.readers)
        stale = dict(state.stale)
        for group in state.groups:
            if group.prunable and any(last[reader.module] > first for reader in group.readers):
                stale[group.name] = f"measured before the commit to {changed.name}"
        return stale

    def stale_after_all(self, state: State, change: str = "all layers changed") -> dict[str, str]:
        """Stale groups after a `change` of the whole network: all, under the sequential procedure."""
        if self.simultaneous:
            return {}
        return {g.name: f"measured before {change}" for g in state.groups if g.prunable}


def refreshed(ground: Ground, state: State, progress: Progress | None, cancel: Event | None) -> State:
    """The state with its stale groups measured again, on the network as it stands."""
    stale = [group for group in state.groups if group.name in state.stale]
    if not stale:
        return state
    measured = measure_moments(state.running().model, stale, ground.calibration, progress, cancel)
    if any(state.statistics[group.name].taylor is not None for group in stale if group.prunable):
        source = ground.calibration if ground.training is None else ground.training
        taylor = measure_taylor(state.model, stale, source, ground.loss, progress, cancel)
        measured = {name: replace(one, taylor=taylor[name]) for name, one in measured.items()}
    # Damage is measured where nothing is stale: what is there was, of this network, before it was saved.
    return replace(state, statistics=state.statistics.updated(measured), stale={}, problems={})


def chosen(
    state: State,
    name: str,
    width: int | None,
    lam: float | None,
    options: Options,
    order: Sequence[int] | None = None,
) -> Choice:
    """The choice for group `name` on `state`; `order` overrules the selection, for a replay."""
    problem = state.problem(name)
    width, lam = resolve(problem.spectrum, width, lam)
    biased = options.reconstruction == "original"
    saved = cost_saved(state.cost, problem.group, width, state.model, biased)
    return make_choice(problem, saved, lam=lam, width=width, order=order, **asdict(options))


def check_choice(ground: Ground, state: State, choice: Choice) -> None:
    """Raises ValueError where `choice` was made for another network than `state`'s, StaleMomentsError."""
    group, units = named_group(state.groups, choice.group), state.units[choice.group]
    if group.width != choice.of:
        raise ValueError(
            f"this choice was made for {choice.group} with {choice.of} units; it has {group.width} now: "
            "preview it again"
        )
    if tuple(units[j] for j in choice.kept) != choice.units:
        raise ValueError(
            f"this choice was made on another branch of the history, where {choice.group} kept other "
            "units: preview it again"
        )
    problem = state.problem(choice.group)
    stale = state.stale.get(choice.group, "")
    if not stale and not ground.simultaneous and (trace := problem.spectrum.trace) > 0:
        # λ and its share of the trace say on which moments the choice was made.
        same = math.isclose(choice.lam, choice.lam_relative * trace, rel_tol=1e-9)
        stale = "" if same else "measured again since"
    if stale:
        raise StaleMomentsError(
            f"this choice was made on moments of {choice.group} that were {stale}: preview it again"
        )


def applied(
    ground: Ground,
    state: State,
    choice: Choice,
    progress: Progress | None = None,
    cancel: Event | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> State:
    """The state after `choice` was carried out on `state` (method.md §5).

    `weights`: tensors that this gave before, by name; then nothing is fitted.

    Raises ValueError where the choice is not for this state, or the reconstruction does not fit a layer or
    memory; StaleMomentsError; Cancelled.
    """
    check_choice(ground, state, choice)
    group = named_group(state.groups, choice.group)
    units = state.units | {choice.group: choice.units}
    stale = ground.stale_after(state, group)
    if weights is not None:
        cut, groups = remove_units(state.model, state.groups, choice.group, choice.kept)
        model = with_weights(cut, weights)
    else:
        model, groups = _carried_out(ground, state, choice, units, (progress, cancel))
    if choice.reestimate and has_running_statistics(model):
        stale = ground.stale_after_all(state, "the norms were re-estimated")
    statistics = state.statistics.restrict(choice.group, choice.kept)
    cost = count_cost(model, ground.example_input)
    return State(model, groups, cost, units, statistics, stale, state.measured)


def _carried_out(
    ground: Ground, state: State, choice: Choice, units: dict[str, tuple[int, ...]], report: Reporting
) -> tuple[nn.Module, tuple[UnitGroup, ...]]:
    """Surgery, the reconstruction, and the norms if that was asked for."""
    group = named_group(state.groups, choice.group)
    corrections = _corrections(ground, state, group, choice, report)
    model, groups = remove_units(state.model, state.groups, choice.group, choice.kept, corrections)
    if choice.reconstruction == "original" and choice.width < group.width:
        _fit_readers(ground, state, model, groups, units, choice, report)
    if choice.reestimate and has_running_statistics(model):
        model = reestimate_norms(model, ground.calibration, *report)
    return model, groups


def committed(
    ground: Ground, state: State, choice: Choice, progress: Progress | None, cancel: Event | None
) -> Change:
    """`applied` as a step. Raises as it does."""
    return Change(applied(ground, state, choice, progress, cancel), said(choice), choice)


def said(choice: Choice) -> str:
    """What a step that carries out `choice` is called."""
    return f"{choice.group} {choice.of} → {choice.width}"


def tuned(ground: Ground, state: State, model: nn.Module, tuning: Tuning) -> Change:
    """A fine-tuned copy of the network in place of it."""
    return Change(with_model(ground, state, model), f"fine-tuned, {tuning.length}", tuning=tuning)


def _corrections(
    ground: Ground, state: State, group: UnitGroup, choice: Choice, report: Reporting
) -> Sequence[Tensor] | None:
    """What `remove_units` folds into every reader."""
    problem = state.problem(choice.group)
    if choice.reconstruction == "none":
        return None
    if choice.reconstruction != "kernel":
        return problem.corrections(list(choice.kept), choice.lam)
    source = ground.original if ground.simultaneous else state.running()
    present = state.units[choice.group] if ground.simultaneous else tuple(range(group.width))
    ridges = _light_ridges(state, choice)
    return [
        fit_present(
            source.model,
            measured,
            reader.group_weight(layer_weight(state.model.get_submodule(reader.module)).detach()),
            present,
            choice.kept,
            ridge,
            ground.calibration,
            *report,
        )
        for measured, reader, ridge in zip(
            named_group(source.groups, choice.group).readers, group.readers, ridges, strict=True
        )
    ]


def _light_ridges(state: State, choice: Choice) -> list[Tensor]:
    """τ of the fits [beyond the paper], a reader."""
    problem = state.problem(choice.group)
    return problem.ridges(light_lam(choice.lam, problem.spectrum.trace), choice.width)


def _fit_readers(
    ground: Ground,
    state: State,
    model: nn.Module,
    groups: tuple[UnitGroup, ...],
    units: dict[str, tuple[int, ...]],
    choice: Choice,
    report: Reporting,
) -> None:
    """Fit each reader of the pruned `model`, in the order of running, to the original's outputs."""
    ridges = _light_ridges(state, choice)
    readers = named_group(groups, choice.group).readers
    ground = ground.caching([reader.module for reader in readers], *report)
    for reader, ridge in zip(readers, ridges, strict=True):
        layer: Any = model.get_submodule(reader.module)
        spread = spread_ridge(ridge[list(choice.kept)], reader.columns, layer_weight(layer).shape[1])
        rows = surviving_rows(ground.original, units, reader.module)
        weight, bias = fit_original(
            ground.original.model,
            model,
            reader.module,
            rows,
            spread,
            ground.calibration,
            *report,
            cached_calls=ground.cached_calls,
        )
        _set_layer(layer, weight, bias)


def refitted(ground: Ground, state: State, progress: Progress | None, cancel: Event | None) -> Change:
    """Every layer that writes or reads a pruned group, fitted once more to the original's outputs.

    Front to back, writers as well as readers, each on what the layers before it now give **[beyond the
    paper]**; layers that are no matrix times patches stay as they are. Raises ValueError where none can be
    fitted, or a fit does not fit memory; Cancelled.
    """
    if all(len(kept) == _original_width(ground, name) for name, kept in state.units.items()):
        raise ValueError("nothing is pruned yet, so there is nothing to fit again")
    model = sharing_copy(state.model)
    ridges: dict[str, float] = {}
    for group in state.groups:
        if group.prunable and len(state.units[group.name]) < _original_width(ground, group.name):
            light = uniform_ridge(state.problem(group.name).spectrum.trace, group.width)
            layers = [w.module for w in group.writers] + [r.module for r in group.readers]
            for name in layers:
                ridges[name] = max(light, ridges.get(name, 0.0))
    called = dict.fromkeys(call_order(model, ground.example_input))
    several = given_several(model, ridges, ground.example_input)
    order = [name for name in called if name in ridges.keys() - several and PatchLayer.known(model, name)]
    if not order:
        raise ValueError(
            f"no layer around a pruned group can be fitted on patches: {', '.join(ridges)} stay as they are"
        )
    ground = ground.caching(order, progress, cancel)
    for index, name in enumerate(order):

        def report(_done: int, _total: int | None, what: str, index: int = index, name: str = name) -> None:
            if progress is not None:
                progress(index, len(order), f"{name}: {what}")

        module: Any = model.get_submodule(name)
        inputs = layer_weight(module).shape[1]
        rows = surviving_rows(ground.original, state.units, name)
        spread = torch.full((inputs,), ridges[name], dtype=torch.float64)
        fitted = fit_original(
            ground.original.model,
            model,
            name,
            rows,
            spread,
            ground.calibration,
            report,
            cancel,
            cached_calls=ground.cached_calls,
        )
        _set_layer(module, *fitted)
    return Change(with_model(ground, state, model), REFITTED)


def with_model(ground: Ground, state: State, model: nn.Module) -> State:
    """The same units in a network all of whose layers have changed."""
    cost = count_cost(model, ground.example_input)
    return replace(
        state, model=model, cost=cost, stale=ground.stale_after_all(state), problems={}, damages={}
    )


def _original_width(ground: Ground, name: str) -> int:
    return named_group(ground.original.groups, name).width


def _set_layer(layer: Any, weight: Tensor, bias: Tensor) -> None:
    set_layer_weight(layer, weight)
    like = layer.weight
    layer.bias = nn.Parameter(bias.to(like.device, like.dtype), requires_grad=like.requires_grad)


def surviving_rows(original: State, units: dict[str, tuple[int, ...]], module: str) -> Tensor:
    """Which of the original's output rows of `module` are left, where each group has `units` left."""
    stays = torch.ones(output_count(original.model.get_submodule(module)), dtype=torch.bool)
    for group in original.groups:
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[list(units[group.name])] = False
        for writer in group.writers:
            if writer.module == module and group.prunable:
                stays[writer.rows[gone].flatten()] = False
    return stays.nonzero().flatten()

"""What the theory says of a choice, or of a whole pruned network, beside what is measured (method.md §6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event

import torch
from torch import Tensor

from workbench.data.progress import Progress
from workbench.pruning.choice import Choice
from workbench.pruning.planning import walk
from workbench.pruning.problem import GroupProblem
from workbench.pruning.propagation import Errors, errors_between, kept_within
from workbench.pruning.state import State
from workbench.pruning.transitions import Ground, Options, applied, chosen
from workbench.spectral.bounds import guaranteed_width, sampling_bound, suggested_width
from workbench.spectral.guarantee import largest_loss, sampled_losses
from workbench.spectral.regression import ridge

DRAWS = 20


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What the sampling theorem says of one group at one λ, beside its choice.

    Args:
        group: its name; `of` its units m before the choice, `width` those kept.
        lam: λ, absolute, in the units of Σ; `lam_relative` is λ/Tr Σ. With several readers Σ is the mean of
            their moments, as in the spectrum shown.
        degrees_of_freedom: N(λ), the dimension.
        suggested_width: ⌈N(λ)⌉.
        guaranteed_width: ⌈5 N log(80 N)⌉, units to sample for the guarantee; where it is above `of` it
            promises nothing about keeping fewer (`promises`).
        read_out_bound: 4λ, the bound on λ_max(C_J) for such a sample, with probability over 1/2.
        largest_loss: λ_max(C_J) of the choice: the mean square error of the worst unit-norm linear read-out,
            in the units of Σ.
    """

    group: str
    of: int
    width: int
    lam: float
    lam_relative: float
    degrees_of_freedom: float
    suggested_width: int
    guaranteed_width: int
    read_out_bound: float
    largest_loss: float

    @property
    def promises(self) -> bool:
        """Whether the guaranteed width is one that the group has."""
        return self.guaranteed_width <= self.of


@dataclass(frozen=True, kw_only=True)
class LayerTheory(Guarantee, Errors):
    """`Guarantee` and `Errors` of one choice on the network as it stands.

    Args:
        sampled_losses: λ_max(C_J) of units sampled from the leverage scores, `guaranteed_width` of them with
            replacement, (draws,) float64; `sampled_units` (draws,) how many are distinct.
    """

    kept: tuple[int, ...] = field(repr=False)
    sampled_losses: Tensor = field(repr=False)
    sampled_units: Tensor = field(repr=False)

    @property
    def sampled_share(self) -> float:
        """The share of draws whose λ_max(C_J) is at most 4λ."""
        return float((self.sampled_losses <= self.read_out_bound).double().mean())


@dataclass(frozen=True, kw_only=True)
class NetworkTheory(Errors):
    """`Errors` of a pruned network against the original, and the `Guarantee` of every pruned group."""

    layers: tuple[Guarantee, ...]


def mean_moment(problem: GroupProblem) -> Tensor:
    """Σ (m, m) of which `problem.spectrum` is the spectrum: the mean of its readers' moments."""
    return torch.stack([moment.matrix for moment in problem.moments]).mean(0)


def guarantee_of(problem: GroupProblem, kept: tuple[int, ...], lam: float) -> Guarantee:
    """The theorem's numbers for the units `kept` at the absolute `lam`."""
    spectrum, m = problem.spectrum, problem.group.width
    freedom = spectrum.degrees_of_freedom(lam)
    return Guarantee(
        group=problem.group.name,
        of=m,
        width=len(kept),
        lam=lam,
        lam_relative=lam / spectrum.trace if spectrum.trace > 0 else lam,
        degrees_of_freedom=freedom,
        suggested_width=suggested_width(freedom, m),
        guaranteed_width=guaranteed_width(freedom),
        read_out_bound=sampling_bound(lam),
        largest_loss=largest_loss(mean_moment(problem), kept, ridge(spectrum, lam, len(kept))),
    )


def layer_theory(
    ground: Ground,
    state: State,
    name: str,
    width: int | None,
    lam: float | None,
    options: Options,
    own: bool,
    draws: int = DRAWS,
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> LayerTheory:
    """The choice for group `name` on `state`, carried out beside it, and measured; nothing is kept.

    `own`: the moments are those of `state`'s very network. Raises as `chosen` and `applied` do.
    """
    choice = chosen(state, name, width, lam, options)
    problem = state.problem(name)
    guarantee = guarantee_of(problem, choice.kept, choice.lam)
    losses, units = sampled_losses(
        mean_moment(problem), problem.spectrum, choice.lam, guarantee.guaranteed_width, draws
    )
    after = applied(ground, state, choice, progress, cancel)
    why = "the norms were re-estimated: more than the readers has changed" if options.reestimate else ""
    errors = errors_between(ground, state, after, {name: choice.lam}, own, why, progress, cancel, most)
    return LayerTheory(
        **vars(guarantee), **vars(errors), kept=choice.kept, sampled_losses=losses, sampled_units=units
    )


def network_at(
    ground: Ground,
    lam: float,
    options: Options,
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> NetworkTheory:
    """The original with every group cut to ⌈N_ℓ(λ)⌉ units at one λ, relative to each trace."""
    if not (lam > 0 and math.isfinite(lam)):
        raise ValueError(f"λ must be a positive finite number, relative to the trace; got {lam!r}")
    ground = replace(ground, simultaneous=True)
    state = ground.original
    widths = {
        group.name: suggested_width(
            state.problem(group.name).spectrum.degrees_of_freedom(
                state.problem(group.name).absolute(lam, group.width)
            ),
            group.width,
        )
        for group in state.groups
        if group.prunable
    }
    after = [pruned for _, pruned in walk(ground, state, widths, options, lam, progress, cancel)]
    pruned = after[-1] if after else state
    lams = {name: state.problem(name).absolute(lam, width) for name, width in widths.items()}
    return _network_theory(ground, pruned, lams, "", progress, cancel, most)


def network_as_committed(
    ground: Ground,
    state: State,
    choices: Sequence[Choice | None],
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> NetworkTheory:
    """`state` against the original, after the commits `choices`; None for a step that was none (fine-tuning).

    Raises ValueError where nothing is committed.
    """
    committed = [choice for choice in choices if choice is not None]
    if not committed:
        raise ValueError(
            "nothing is committed: give a λ relative to the trace, for all groups, or commit first"
        )
    more = len(committed) < len(choices) or any(choice.reestimate for choice in committed)
    why = (
        "more than the readers has changed (training, refitting or norms), so no propagated bound"
        if more
        else ""
    )
    lams = {
        choice.group: ground.original.problem(choice.group).spectrum.trace * choice.lam_relative
        for choice in committed
    }
    return _network_theory(ground, state, lams, why, progress, cancel, most)


def _network_theory(
    ground: Ground,
    pruned: State,
    lams: Mapping[str, float],
    why: str = "",
    progress: Progress | None = None,
    cancel: Event | None = None,
    most: int | None = None,
) -> NetworkTheory:
    """`pruned` against the original, where each group of `lams` was cut at that λ, absolute.

    `why`: why there is no propagated bound, where more than readers has changed.
    """
    original = ground.original
    errors = errors_between(ground, original, pruned, lams, True, why, progress, cancel, most)
    kept = kept_within(original, pruned)
    layers = [guarantee_of(original.problem(name), kept[name], lam) for name, lam in lams.items()]
    return NetworkTheory(**vars(errors), layers=tuple(layers))

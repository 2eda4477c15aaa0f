"""What the theory says as λ sweeps: 4λ beside λ_max(C_J), and bias beside variance (method.md §6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np

from workbench.data.progress import Cancelled, Progress
from workbench.network.chain import Chain, chain_of
from workbench.network.layers import layer_weight, output_count
from workbench.network.lipschitz import UnknownError
from workbench.network.running import Inputs
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.problem import GroupProblem
from workbench.pruning.state import State
from workbench.pruning.theory import mean_moment
from workbench.spectral.bounds import (
    generalisation_bias,
    generalisation_variance,
    guaranteed_width,
    sampling_bound,
    suggested_width,
)
from workbench.spectral.guarantee import largest_loss, sampled_losses
from workbench.spectral.regression import ridge

LAMS = tuple(np.logspace(-8, 0, 33).tolist())  # relative to the trace
SWEEP_DRAWS = 5


@dataclass(frozen=True)
class LossSweep:
    """λ_max(C_J) of one group as λ sweeps: every array is (k,) float64 but for `sampled`, (k, draws).

    Args:
        lams: λ/Tr Σ; `read_out_bound` is 4λ, absolute, in the units of Σ, like the losses.
        widths: ⌈N(λ)⌉, and `greedy` λ_max(C_J) of the greedy choice of so many units.
        guaranteed_widths: ⌈5 N log(80 N)⌉, and `sampled` λ_max(C_J) of so many units sampled with replacement
            from the leverage scores.
    """

    group: str
    lams: np.ndarray
    read_out_bound: np.ndarray
    widths: np.ndarray
    greedy: np.ndarray
    guaranteed_widths: np.ndarray
    sampled: np.ndarray

    @property
    def sampled_share(self) -> float:
        """The share of all draws whose λ_max(C_J) is at most 4λ."""
        return float((self.sampled <= self.read_out_bound[:, None]).mean())


def loss_sweep(
    problem: GroupProblem,
    lams: Sequence[float] = LAMS,
    theta: float = DEFAULT_THETA,
    draws: int = SWEEP_DRAWS,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> LossSweep:
    """See `LossSweep`; `lams` are relative to the trace. Raises ValueError for a λ that is not, Cancelled."""
    spectrum, sigma, m = problem.spectrum, mean_moment(problem), problem.group.width
    rows = []
    for index, relative in enumerate(lams):
        if cancel is not None and cancel.is_set():
            raise Cancelled("the sweep over λ was cancelled")
        if not (relative > 0 and math.isfinite(relative)):
            raise ValueError(f"λ must be a positive finite number, relative to the trace; got {relative!r}")
        lam = relative * (spectrum.trace or 1.0)
        freedom = spectrum.degrees_of_freedom(lam)
        width, guaranteed = suggested_width(freedom, m), guaranteed_width(freedom)
        kept = problem.selector.path(problem.ridges(lam, width), theta, width).order
        greedy = largest_loss(sigma, kept, ridge(spectrum, lam, width))
        sampled = sampled_losses(sigma, spectrum, lam, guaranteed, draws)[0].numpy()
        rows.append((sampling_bound(lam), width, greedy, guaranteed, sampled))
        if progress is not None:
            progress(index + 1, len(lams), f"λ_max(C_J) of {problem.group.name}")
    bound, widths, greedy_losses, guaranteed_widths, all_sampled = map(np.array, zip(*rows, strict=True))
    return LossSweep(
        problem.group.name,
        np.array(lams, dtype=float),
        bound,
        widths.astype(float),
        greedy_losses,
        guaranteed_widths.astype(float),
        all_sampled,
    )


@dataclass(frozen=True)
class Stretch:
    """What bias and variance need of a network beside its spectra.

    Args:
        groups: prunable groups, in the order of running.
        factors: the Lipschitz factor of everything above each group's units, its reader included; 1 where
            there is no product of norms.
        why_not: why there is none, in words; '' where there is.
        inputs, outputs: numbers of the first writer's inputs and the last reader's outputs (channels of a
            convolution).
    """

    groups: tuple[str, ...]
    factors: tuple[float, ...]
    why_not: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class BiasVariance:
    """δ₁ and δ₂ of the paper's generalisation bound as one relative λ sweeps, **up to constants**.

    Args:
        lams: λ/Tr Σ_ℓ, the same for every group, (k,).
        widths: m♯_ℓ = ⌈N_ℓ(λ)⌉, (k, groups).
        bias: δ₁ = Σ_ℓ (Lipschitz factor above ℓ)·sqrt(λ_ℓ), (k,), in the units of the output.
        variance: δ₂ = sqrt((1/n) Σ_ℓ m♯_ℓ m♯_{ℓ+1} log n), (k,), from the inputs' width to the outputs'.
        samples: n.
        stretch: the Lipschitz factors, and the widths at both ends.
    """

    lams: np.ndarray
    widths: np.ndarray
    bias: np.ndarray
    variance: np.ndarray
    samples: int
    stretch: Stretch

    @property
    def total(self) -> np.ndarray:
        """δ₁ + δ₂, (k,), up to constants."""
        return self.bias + self.variance

    @property
    def best(self) -> float:
        """The λ of `lams` where δ₁ + δ₂ is least."""
        return float(self.lams[int(np.argmin(self.total))])


def stretch_of(state: State, example_input: Inputs) -> Stretch:
    """Follow the network of `state` from every group to the output. Raises ValueError without a group."""
    groups = [group for group in state.groups if group.prunable]
    if not groups:
        raise ValueError("no group of this network can be pruned, so there is nothing that λ would change")
    model = state.running().model
    first, last = groups[0].writers[0].module, groups[-1].readers[-1].module
    factors, why = [1.0] * len(groups), ""
    try:
        chain = chain_of(model, example_input)
        factors = [_factor(chain, {reader.module for reader in group.readers}) for group in groups]
    except UnknownError as error:
        why = f"not a chain of layers: {error}"
    inputs = int(layer_weight(model.get_submodule(first)).shape[1])
    names = tuple(group.name for group in groups)
    return Stretch(names, tuple(factors), why, inputs, output_count(model.get_submodule(last)))


def _factor(chain: Chain, readers: set[str]) -> float:
    if len(readers) != 1:
        raise UnknownError(f"{', '.join(sorted(readers))} read the same units")
    return chain.from_input_of(next(iter(readers)))


def bias_variance(state: State, stretch: Stretch, lams: Sequence[float], samples: int) -> BiasVariance:
    """δ₁ and δ₂ at every relative λ of `lams`. Raises ValueError for λ ≤ 0 or samples < 1."""
    problems = [state.problem(name) for name in stretch.groups]
    bias, variance, widths = [], [], []
    for relative in lams:
        if not (relative > 0 and math.isfinite(relative)):
            raise ValueError(f"λ must be a positive finite number, relative to the trace; got {relative!r}")
        absolute = [relative * problem.spectrum.trace for problem in problems]
        kept = [
            suggested_width(problem.spectrum.degrees_of_freedom(lam or 1.0), problem.group.width)
            for problem, lam in zip(problems, absolute, strict=True)
        ]
        bias.append(generalisation_bias(absolute, stretch.factors))
        variance.append(generalisation_variance([stretch.inputs, *kept, stretch.outputs], samples))
        widths.append(kept)
    return BiasVariance(
        np.array(lams, dtype=float), np.array(widths), np.array(bias), np.array(variance), samples, stretch
    )

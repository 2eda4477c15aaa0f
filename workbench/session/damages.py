"""What pruning does to the outputs, measured: of each group alone, of a plan, of the network as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from time import perf_counter
from typing import Any

from torch import nn

from workbench.data.progress import Cancelled, Progress, after_each
from workbench.data.surviving import surviving
from workbench.measure.halves import halves
from workbench.measure.moments import measure_moments
from workbench.measure.outputs import Distance, Reference
from workbench.network.tensors import sharing_copy
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.comparing import Sensitivity, sensitivity_of
from workbench.pruning.damage import (
    EXAMPLES,
    SHARES,
    Damage,
    Way,
    count_trials,
    forecast,
    measure_damage,
    wanted_widths,
    whole_groups,
)
from workbench.pruning.problem import BUDGET_LAM, mean_spectrum
from workbench.pruning.refining import PLAN_EXAMPLES
from workbench.pruning.sides import Side, sides_of
from workbench.pruning.state import State
from workbench.pruning.transitions import Options
from workbench.session.core import FEWER, SIMPLER, SMALLER, Cancel
from workbench.session.flips import Flips, Widths
from workbench.spectral.spectrum import Spectrum

KEPT_EVERY = 30.0  # seconds of measuring damage, after which those who listen hear of it


class Damages(Flips):
    """The part of a session that measures what pruning does to the outputs; nothing of it is committed."""

    @surviving("measuring both halves", SMALLER)
    def half_spectra(
        self, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> dict[str, tuple[Spectrum, Spectrum]]:
        """The spectrum of every prunable group on the even and on the odd batches of the calibration data.

        Half the distance between the two degrees of freedom is an error bar of N(λ). Measured on the network
        whose moments the session has, the original or, under the sequential procedure, the present one.
        Raises ValueError where there are no two batches; as `measure`.
        """
        self._state.check_measured()
        self._history.settle()
        ground, state = self._ground, self._state
        model = ground.original.model if ground.simultaneous else state.running().model
        groups = self._history.original.groups if ground.simultaneous else state.groups
        found = [measure_moments(model, groups, half, progress, cancel) for half in halves(self.calibration)]
        spectra = {}
        for group in state.groups:
            if group.prunable:
                each = [one[group.name] for one in found]
                if ground.simultaneous:
                    each = [one.restrict(state.units[group.name]) for one in each]
                spectra[group.name] = mean_spectrum(each[0].moments), mean_spectrum(each[1].moments)
        return spectra

    @surviving("looking at every group alone", FEWER)
    def sensitivity(
        self,
        shares: Sequence[float] = (0.75, 0.5, 0.25),
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        seen: Callable[[Sensitivity], Any] | None = None,
    ) -> Sensitivity:
        """Each group alone at several shares of its width: scores, output losses and changes of the outputs;
        nothing is committed, and what `damage` has measured of it is not measured again.

        `seen` is told of what is measured so far, after each group and where it is cancelled. Stale moments
        are measured again first. Raises ValueError for a share outside (0, 1], NotMeasuredError, Cancelled.
        """
        Options(theta, selection, reconstruction)
        way = Way(theta, selection, reconstruction, lam)
        state = self._ready_for_damage(progress, cancel)  # whoever commits meanwhile
        wanted, unpruned = wanted_widths(state, shares, {}), self.history[0].score

        def found() -> Sensitivity:
            return sensitivity_of(state, way, shares, self.metric or "score", unpruned)

        told = progress
        if seen is not None:
            told = after_each(
                progress,
                lambda: whole_groups(state, wanted, way, self.evaluation is not None),
                lambda: seen(found()),
            )
        try:
            self._damage_on(state, wanted, way, True, told, cancel)
        except Cancelled:
            if seen is not None:
                seen(found())
            raise
        return found()

    @surviving("measuring damage", FEWER)
    def damage(
        self,
        shares: float | Sequence[float] = SHARES,
        widths: Mapping[str, int | Sequence[int]] | None = None,
        *,
        scores: bool = False,
        examples: int = EXAMPLES,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Damage:
        """What pruning each group alone does to the outputs, without labels **[beyond the paper]**.

        Each group is cut to `shares` of its width and to its `widths` beside, by the choice that a plan makes
        with these options, and the outputs on the first `examples` of the calibration data, in whole batches,
        are set beside the original's (`measure.outputs`). Of several outputs that is the one that is scored:
        groups which the others alone read do no damage, so lock them in a plan. `scores`: the score of each
        too. What was measured on this state of the network is not measured again, and is in the answer; a
        cancelled one keeps what it has.

        Raises ValueError for bad input, NotMeasuredError, Cancelled. Nothing is committed.
        """
        self._state.check_measured()
        Options(theta, selection, reconstruction)
        if not isinstance(examples, Integral) or examples < 1:
            raise ValueError(f"examples must be a whole number, 1 or more; got {examples!r}")
        way = Way(theta, selection, reconstruction, lam, int(examples))
        state = self._ready_for_damage(progress, cancel)
        return self._damage_on(
            state, wanted_widths(state, shares, widths or {}), way, scores, progress, cancel
        )

    def _ready_for_damage(self, progress: Progress | None, cancel: Cancel | None) -> State:
        """The present state, measured anew where it was stale. Raises NotMeasuredError, Cancelled."""
        self._state.check_measured()
        self.remeasure(progress, cancel)
        self._history.settle()
        return self._state

    def _damage_on(
        self,
        state: State,
        wanted: Mapping[str, Sequence[int]],
        way: Way,
        scores: bool,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> Damage:
        score = self._scored(cancel) if scores and self.evaluation is not None else None
        with self._telling_of_damage(state, progress) as heard:
            return measure_damage(
                self._ground, state, wanted, way,
                lambda: self._reference(way.examples, progress, cancel), score, heard, cancel,
            )  # fmt: skip

    @contextmanager
    def _telling_of_damage(self, state: State, progress: Progress | None) -> Iterator[Progress]:
        """Within, by way of the progress, and at the end: those who listen hear of damage that is new."""
        before, told = count_trials(state), perf_counter()

        def heard(done: int, total: int | None, what: str) -> None:
            nonlocal before, told
            if perf_counter() - told >= KEPT_EVERY and count_trials(state) > before:
                self._tell("damage")
                before, told = count_trials(state), perf_counter()
            if progress is not None:
                progress(done, total, what)

        try:
            yield heard
        finally:
            if count_trials(state) > before:
                self._tell("damage")

    def damage_forecast(
        self,
        shares: Sequence[float] = SHARES,
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        lam: float | None = BUDGET_LAM,
    ) -> tuple[int, float | None]:
        """How many networks `damage` has still to measure, and its seconds by those so far, or None."""
        way = Way(theta, selection, reconstruction, lam)
        return forecast(self._state, wanted_widths(self._state, shares, {}), way)

    @surviving("measuring the outputs", FEWER)
    def output_change(
        self,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        *,
        model: nn.Module | None = None,
    ) -> Distance:
        """How far the outputs of the present network, or of `model`, are from the original's, on the
        calibration examples of `damage`; measured once for every network **[beyond the paper]**.

        Raises Cancelled.
        """
        self._history.settle()
        return self._output_change(self._state.model if model is None else model, progress, cancel)

    @surviving("trying a plan", SIMPLER)
    def try_plan(
        self,
        plan: Widths,
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        reestimate: bool = False,
        lam: float | None = BUDGET_LAM,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[float | None, Distance]:
        """Score of the network that `commit_plan` would leave, and the change of its outputs.

        Nothing is committed. Raises ValueError for bad input, NotMeasuredError, Cancelled.
        """
        options = Options(theta, selection, reconstruction, reestimate)
        state = self._planned(plan, options, lam, progress, cancel)
        return self._score(state.model, progress, cancel), self._output_change(state.model, progress, cancel)

    def _output_change(self, model: nn.Module, progress: Progress | None, cancel: Cancel | None) -> Distance:
        found = self._output_changes.get(model)
        if found is None:
            reference = self._reference(EXAMPLES, progress, cancel)
            found = self._output_changes[model] = reference.distance(sharing_copy(model), cancel)
        return found

    def _reference(
        self, examples: int, progress: Progress | None, cancel: Cancel | None, data: Iterable | None = None
    ) -> Reference:
        """The original's outputs on the first examples of `data`, by default the calibration data, read as
        the targets say."""
        original, given = self._history.original.running().model, self.calibration if data is None else data
        return Reference(original, given, examples, self._output_reading(), progress, cancel)

    def _sides(self, state: State, progress: Progress | None, cancel: Cancel | None) -> tuple[Side, ...]:
        """Where whole plans are measured: on one half of the calibration data those fitted to the other."""

        def reference(data: Iterable) -> Reference:
            return self._reference(PLAN_EXAMPLES, progress, cancel, data)

        return sides_of(self._ground, state, reference, progress, cancel)

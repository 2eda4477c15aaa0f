"""Which examples change their answer: by a choice or a plan before it is committed, and by any step after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from torch import nn

from workbench.data.progress import Progress
from workbench.data.surviving import surviving
from workbench.measure.answers import Answers, BatchAnswers, OnceMore, Seen, batch_answers, pass_over
from workbench.measure.changes import LABELS, YES_NO, Changes
from workbench.measure.churn import OTHER_ORDER, Comparing, OtherOrderError
from workbench.measure.evaluation import evaluate
from workbench.measure.reading import Reading, TaskLoss
from workbench.network.running import batch_length
from workbench.network.tensors import sharing_copy
from workbench.pruning.budget import BudgetPlan
from workbench.pruning.choice import DEFAULT_THETA, Choice
from workbench.pruning.planning import plan_changes
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.state import State
from workbench.pruning.transitions import Options, applied
from workbench.session.core import SIMPLER, SMALLER, Cancel, Core
from workbench.session.history import Line

Widths = Mapping[str, int] | BudgetPlan
Of = int | nn.Module | Choice | Widths | None
BEFORE, ORIGINAL = "before", "original"


class Flips(Core):
    """The part of a session that sets the answers of two networks side by side; nothing of it is kept."""

    @surviving("trying a choice", SIMPLER)
    def pruned(
        self, choice: Choice, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> nn.Module:
        """The network that `choice` would make, a copy; the session stays. Raises as `commit` does."""
        self._history.settle()
        return applied(self._ground, self._state, choice, progress, cancel).model

    @surviving("trying a plan", SIMPLER)
    def planned(
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
    ) -> nn.Module:
        """The network that `commit_plan` would leave, a copy; the session stays. Raises as `try_plan`."""
        options = Options(theta, selection, reconstruction, reestimate)
        return self._planned(plan, options, lam, progress, cancel).model

    def _planned(
        self,
        plan: Widths,
        options: Options,
        lam: float | None,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> State:
        self._history.settle()
        state = self._state
        for change in plan_changes(self._ground, state, widths_of(plan), options, lam, progress, cancel):
            state = change.state
        return state

    @surviving("comparing answers", SMALLER)
    def changes(
        self,
        of: Of = None,
        against: str | int = BEFORE,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        **ways: Any,
    ) -> Changes:
        """Which examples' answers change, and how: flips, classes, confusions, the largest change first.

        On the evaluation data, its targets read as the score reads them; without such data, or with a score
        function, on the calibration data, where there may be no targets: then answers change, and none is
        right or wrong. Nothing is committed, and what scoring has brought along is not run again: for a
        choice it is one pass, in which the score is found too.

        Args:
            of: a choice of `preview`, or widths by group or a plan, as tried from the present network; a step
                of the history by its number; any network that takes the data; None: the present step.
            against: "before", the present network for what is tried and else the step before, steps of one
                plan being one; "original"; or a step by its number.
            progress: told how far the passes are.
            cancel: set, it ends the work before the next batch.
            **ways: of a plan, as for `commit_plan`: theta, selection, reconstruction, reestimate, lam.

        Returns:
            What changed; its line says "12 answers changed: 9 right → wrong, 3 wrong → right".

        Raises:
            ValueError: no such step, data that comes in another order each time, or what `commit` and scoring
                raise.
            NotMeasuredError: of a plan, before `measure`.
            Cancelled: `cancel` was set.

        Source: `measure.changes`.
        """
        self._history.settle()
        line = self._history.line
        if of is None or isinstance(of, int):
            return self._changes_of_step(line, line.position if of is None else of, against, progress, cancel)
        base = _base(line, None, against)
        if isinstance(of, nn.Module):
            model = of
        elif isinstance(of, Choice):
            model = self.pruned(of, progress, cancel)
        else:
            model = self.planned(of, progress=progress, cancel=cancel, **ways)
        before = self._answers_at(line, base, progress, cancel)
        _, comparing, score = self._compared(model, line, base, before, progress, cancel)
        if score is None:
            score = self._score(model, progress, cancel)
        return self._told(comparing, line.steps[base].score, score)

    def flip_counts(self, position: int) -> tuple[int, int, int] | None:
        """(right → wrong, wrong → right, otherwise changed) by a step, against the one before.

        None at the original, where a pass over the data would be needed to know it, and where the data came
        in another order each time. Raises ValueError for a step that there is not.
        """
        line = self._history.line
        base = _base(line, position, BEFORE)
        before, after = (self._answers.of(line.steps[one]) for one in (base, position))
        if not position or before is None or after is None or not (before.whole and after.whole):
            return None
        known = after.counts.get(before)
        if known is None:
            try:
                found = self._side_by_side(before, after).found()
            except OtherOrderError:
                return None
            known = after.counts[before] = (found.lost, found.won, found.other)
        return known

    # Inside

    @property
    def _compared_data(self) -> str:
        return "evaluation" if isinstance(self.evaluation, Iterable) else "calibration"

    def _compared_reading(self) -> Reading | None:
        return self._reading if isinstance(self.evaluation, Iterable) else self._output_reading()

    def _output_reading(self) -> Reading | None:
        """How the outputs are read where there are targets that say it."""
        task = self.loss if isinstance(self.loss, TaskLoss) else TaskLoss(**self.asked)
        for data in (self.calibration, self.training, self.evaluation):
            if isinstance(data, Iterable):
                with suppress(ValueError, TypeError):
                    return task.reading(self._history.original.running().model, data, "calibration")
        return None

    def _changes_of_step(
        self, line: Line, at: int, against: str | int, progress: Progress | None, cancel: Cancel | None
    ) -> Changes:
        base = _base(line, at, against)
        before, after = self._answers_at(line, base, progress, cancel), self._answers.of(line.steps[at])
        if after is not None and after.whole and before.whole:
            comparing, score = self._side_by_side(before, after), after.score
        else:
            model = line.state(at).model
            answers, comparing, score = self._compared(model, line, base, before, progress, cancel)
            self._answers.keep(line.steps[at], answers)
        step = line.steps[at].score
        return self._told(comparing, line.steps[base].score or before.score, score if step is None else step)

    def _answers_at(self, line: Line, at: int, progress: Progress | None, cancel: Cancel | None) -> Answers:
        """The answers of the network at a step, found in a pass where they are not kept."""
        found = self._answers.of(line.steps[at])
        if found is None:
            found = answers = Answers(self._compared_reading())
            seen = _counted(
                lambda _, outputs, targets, __: answers.keep(batch_answers(outputs, targets, answers.reading))
            )
            found.score = self._pass(line.state(at).model, answers.reading, seen, progress, cancel)
            self._answers.keep(line.steps[at], found)
        return found

    def _compared(
        self, model: nn.Module, line: Line, base: int, before: Answers,
        progress: Progress | None, cancel: Cancel | None,
    ) -> tuple[Answers, Comparing, float | None]:  # fmt: skip
        """One pass of `model`: its answers, set beside those at step `base`, and its score."""
        reading, comparing = before.reading, _comparing(before.reading)
        answers = Answers(reading)
        again = None if before.whole else OnceMore(sharing_copy(line.state(base).model), reading)

        def see(inputs: Any, outputs: Any, targets: Any, number: int) -> None:
            mine = batch_answers(outputs, targets, reading)
            answers.keep(mine)
            comparing.add(_of_batch(before, number, again, inputs, targets), mine)

        answers.score = self._pass(model, reading, _counted(see), progress, cancel)
        return answers, comparing, answers.score

    def _pass(
        self,
        model: nn.Module,
        reading: Reading | None,
        seen: Seen,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> float | None:
        """Run a copy of `model` over what is compared; the score, where that is the data of the score."""
        copied = sharing_copy(model)
        if isinstance(self.evaluation, Iterable):
            return evaluate(copied, self.evaluation, progress, cancel, reading=self._reading, seen=seen)
        pass_over(copied, self.calibration, reading, seen, progress, cancel)
        return None

    def _side_by_side(self, before: Answers, after: Answers) -> Comparing:
        comparing = _comparing(after.reading)
        if len(before.batches) != len(after.batches):
            raise OtherOrderError(OTHER_ORDER)
        for one, other in zip(before.batches, after.batches, strict=True):
            assert one is not None
            assert other is not None
            comparing.add(one, other)
        return comparing

    def _told(self, comparing: Comparing, before: float | None, after: float | None) -> Changes:
        return comparing.found((before, after), self.metric, self._compared_data)


def _comparing(reading: Reading | None) -> Comparing:
    if reading is None or reading.kind != "yes-no":
        return Comparing()
    return Comparing(LABELS if reading.name == "label accuracy" else YES_NO)


def _counted(see: Any) -> Seen:
    """`see(inputs, outputs, targets, number)` of each batch that has an example, numbered from 0."""
    seen = 0

    def told(_index: int, inputs: Any, outputs: Any, targets: Any) -> None:
        nonlocal seen
        if batch_length(inputs):
            see(inputs, outputs, targets, seen)
            seen += 1

    return told


def _of_batch(
    answers: Answers, number: int, again: OnceMore | None, inputs: Any, targets: Any
) -> BatchAnswers:
    kept = answers.batches[number] if number < len(answers.batches) else None
    if kept is not None:
        return kept
    if again is None:
        raise OtherOrderError(OTHER_ORDER)
    return again(inputs, targets)


def _base(line: Line, of: int | None, against: str | int) -> int:
    """The step that `of` (None: what is tried from the present one) is compared with. Raises ValueError."""
    last = len(line.steps) - 1
    for one in (of, against):
        if isinstance(one, int) and not 0 <= one <= last:
            raise ValueError(f"there is no step {one}: the history goes from 0, the original, to {last}")
    if isinstance(against, int):
        return against
    if against not in (BEFORE, ORIGINAL):
        raise ValueError(f"against must be 'before', 'original' or a step's number; got {against!r}")
    if against == ORIGINAL:
        return 0
    return line.position if of is None else step_before(line, of)


def step_before(line: Line, of: int) -> int:
    """The step before; before a whole plan, where `of` is its last step."""
    plan, before = line.steps[of].plan, max(of - 1, 0)
    is_last = of + 1 == len(line.steps) or line.steps[of + 1].plan != plan
    while plan and is_last and before and line.steps[before].plan == plan:
        before -= 1
    return before


def widths_of(widths: Widths) -> dict[str, int]:
    return dict(widths.widths if isinstance(widths, BudgetPlan) else widths)

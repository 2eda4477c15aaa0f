"""What every part of a session stands on: the history, the data, and the way from one state to the next."""

from __future__ import annotations

import copy
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any

from torch import nn

from workbench.data.progress import Progress
from workbench.data.surviving import surviving
from workbench.measure.answers import Answers, Seen
from workbench.measure.evaluation import SoFar, evaluate
from workbench.measure.outputs import Distance
from workbench.measure.reading import Reading
from workbench.network.cost_model import CostModel
from workbench.network.groups import UnitGroup
from workbench.network.running import Inputs
from workbench.network.tensors import give_back_memory, sharing_copy
from workbench.pruning.state import Change, State
from workbench.pruning.transitions import Ground, refreshed
from workbench.session.history import History, Step
from workbench.session.kept_answers import KeptAnswers
from workbench.session.place import Place
from workbench.tuning.finetuning import Loss

SMALLER = "give the data in smaller batches (a DataLoader with a smaller batch_size), or close other programs"
FORGET = "forget branches that are no longer needed (drop), or close other notebooks and programs"
FEWER = "take fewer groups or shares at a time, or give the data in smaller batches"
SIMPLER = f"the reconstruction 'channel' or 'none', which runs no pass over the data; else {SMALLER}"
Cancel = threading.Event


class Core:
    """The present state of a session, and how it goes on to another; `Session` makes it whole."""

    calibration: Any
    evaluation: Any
    training: Any
    loss: Loss | None
    asked: dict[str, Any]
    example_input: Inputs
    procedure: str
    metric: str
    _calls: tuple[str, ...]
    _reading: Reading | None

    def _begin(self, state: State, first: Step) -> None:
        """Nothing was done yet, and nobody listens."""
        self._history = History(replace(state, problems={}, damages={}), first)
        self._given_original: Callable[[], nn.Module | None] = lambda: None
        self._lock = threading.RLock()
        self._listeners: list[Callable[[str], Any]] = []
        self._output_changes: weakref.WeakKeyDictionary[nn.Module, Distance] = weakref.WeakKeyDictionary()
        self._answers = KeptAnswers()
        self._place = Place()

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The unit groups of the present network, in the order in which it runs them."""
        return self._state.groups

    @property
    def cost_model(self) -> CostModel:
        """Parameters and MACs of the present network at any widths."""
        state = self._state
        return CostModel.of(state.model, state.groups, state.cost)

    @property
    def measured(self) -> bool:
        return self._state.measured

    @property
    def position(self) -> int:
        """Which step of the history is the present one; 0 is the original."""
        return self._history.position

    @property
    def history(self) -> tuple[Step, ...]:
        """Every step, those that redo would bring back included."""
        return self._history.steps

    @surviving("measuring again", SMALLER)
    def remeasure(self, progress: Progress | None = None, cancel: Cancel | None = None) -> None:
        """Measure the stale groups again, on the network as it stands. Raises as `measure` does."""
        self._state.check_measured()
        if not self._state.stale:
            return  # without waiting for what runs
        with self._lock:
            if self._state.stale:  # else another has just done it
                self._history.settle()
                self._history.amend(refreshed(self._ground, self._state, progress, cancel))
        self._tell("measured")

    @surviving("scoring", SMALLER)
    def score(
        self,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        so_far: SoFar | None = None,
    ) -> float | None:
        """The score of the present step; where that was left open it is taken now, and kept with the step.

        `so_far(examples, score)` is told of the score on the examples that were scored by then. None without
        evaluation data. Raises Cancelled, which changes nothing.
        """
        if self.evaluation is None or self.history[self.position].score is not None:
            return self.history[self.position].score
        with self._lock:
            self._history.settle()
            state, start, answers = self._state, perf_counter(), self._new_answers()
            score = self._score(state.model, progress, cancel, answers, so_far)
            step = self.history[self.position]
            step = replace(step, score=score, seconds=step.seconds + perf_counter() - start)
            self._history.amend(state, step)
            self._answers.keep(step, answers)
        self._tell("scored")
        return score

    @property
    def _state(self) -> State:
        return self._history.present

    @property
    def _ground(self) -> Ground:
        return Ground(
            self._history.original.running(),
            self.calibration,
            self.example_input,
            self.procedure == "simultaneous",
            self._calls,
            self.training,
            self.loss,
        )

    def _advance(
        self,
        work: Callable[[Ground, State], Iterable[Change]],
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        plan: str | Callable[[int], str] = "",
        known: tuple[float | None, float] | None = None,
    ) -> tuple[Step, ...]:
        """Go on to what `work` makes of the present state, a step a change, and score the last one.

        All of it or nothing, while nobody else changes the session. `plan`: what the steps are called
        together, or a function of their number. `known`: score and seconds, where they are.
        """
        with self._lock:
            self._history.check_free()
            self._history.settle()
            found: list[tuple[State, Step]] = []
            start = perf_counter()
            for change in work(self._ground, self._state):
                cost, seconds = change.state.cost, perf_counter() - start
                step = Step(
                    change.label,
                    change.choice,
                    None,
                    cost.parameters,
                    cost.macs,
                    seconds,
                    tuning=change.tuning,
                )
                found.append((change.state, step))
                start = perf_counter()
            title = plan if isinstance(plan, str) else plan(len(found))
            found = [(state, replace(step, plan=title)) for state, step in found]
            state, last = found[-1]
            answers = self._new_answers() if known is None else None
            if known is None:
                score = self._score(state.model, progress, cancel, answers)
                known = score, last.seconds + perf_counter() - start
            found[-1] = state, replace(last, score=known[0], seconds=known[1])
            self._history.push(found)
            self._answers.keep(found[-1][1], answers)
        steps = tuple(step for _, step in found)
        del found, state
        if len(steps) > 1:
            give_back_memory()
        self._tell("history")
        return steps

    def _tell(self, event: str) -> None:
        """What a listener fails with is told as a warning: the change was made, and others want to hear."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:
                where = "".join(traceback.format_exception(error))
                warnings.warn(
                    f"somebody who listens to the session failed at {event!r}; the session has changed all "
                    f"the same. Its own words:\n{where}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _new_answers(self) -> Answers | None:
        """Where scoring leaves the answers; None where it is no pass over data."""
        return Answers(self._reading) if isinstance(self.evaluation, Iterable) else None

    def _score(
        self,
        model: nn.Module,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        answers: Answers | None = None,
        so_far: SoFar | None = None,
    ) -> float | None:
        if self.evaluation is None:
            return None
        # A copy, which nobody else watches meanwhile; a person's function may write into it.
        copied = sharing_copy(model) if isinstance(self.evaluation, Iterable) else copy.deepcopy(model)
        seen: Seen | None = None if answers is None else answers.see
        score = evaluate(
            copied, self.evaluation, progress, cancel, reading=self._reading, seen=seen, so_far=so_far
        )
        if answers is not None:
            answers.score = score
        return score

    def _scored(self, cancel: Cancel | None) -> Callable[[nn.Module], float | None]:
        return lambda model: self._score(model, None, cancel)

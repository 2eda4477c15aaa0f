"""The session: one network on its way from the original to a smaller one, a commit at a time."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workbench.data.batches import as_batches, first_inputs
from workbench.data.progress import Progress
from workbench.examples.catalogue import load_example
from workbench.measure.evaluation import evaluate, metric_name
from workbench.measure.moments import measure_moments
from workbench.network.cost import count_cost
from workbench.network.finding.proof import find_groups
from workbench.network.groups import UnitGroup, named_group
from workbench.network.rebuilt.explicit import explicit
from workbench.network.running import (
    Inputs,
    call_order,
    device_of,
    first_calls,
    first_examples,
    mapped,
    moved,
    one_line,
    tensors_of,
)
from workbench.pruning.choice import DEFAULT_THETA, Choice
from workbench.pruning.problem import GroupProblem, NotMeasuredError
from workbench.pruning.state import StaleMomentsError, State
from workbench.pruning.transitions import Ground, Options, applied, chosen, refreshed
from workbench.session.history import History, Step
from workbench.session.planned import Planned
from workbench.session.recipe import RecipeStep, check_fingerprint
from workbench.session.recorded import Recorded
from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum
from workbench.tuning.finetuning import Loss

GIVEN = "data of your own"  # what data is called that nobody named, in place of an example's


PROCEDURES = ("simultaneous", "sequential")
EXAMPLE_SIZE = 8  # examples of the first batch with which groups are proved
LARGE_EXAMPLE = 1 << 16  # numbers an example from which two must do


class Session(Planned, Recorded):
    """Spectral pruning of one network, headless: everything that the widgets do.

    `calibration`: a tensor (n, …), a pair (inputs, targets), a dictionary of arguments, a DataLoader, or any
    re-iterable of batches; several inputs stand in a tuple or a dictionary.
    `evaluation`: batches of (inputs, targets), or a function of the model, for the score; None: no score.
    `procedure` (method.md §7): "simultaneous", every moment comes from the original network; "sequential",
    a commit makes the moments downstream stale and they are measured again before use.

    `training`: batches of (inputs, targets) for what learns from labels, fine-tuning and the Taylor
    criterion; by default the calibration data. `loss(outputs, targets)`: by default cross-entropy for
    whole-number targets, the mean squared error for others.

    The given model is copied and never changed; hooks on it run on the copies too.

    Raises ValueError for empty calibration data, an example that does not go through the model, a model
    without a usable device, or an unknown procedure; TypeError for anything but an nn.Module.
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: Any,
        evaluation: Iterable | Callable[[nn.Module], float] | None = None,
        *,
        example_input: Inputs | None = None,
        procedure: str = "simultaneous",
        name: str = "",
        data_name: str = "",
        example: str | None = None,
        training: Any = None,
        loss: Loss | None = None,
    ):
        if procedure not in PROCEDURES:
            raise ValueError(f"the procedure must be one of {', '.join(PROCEDURES)}; got {procedure!r}")
        self.procedure, self.example_name = procedure, example
        self.name = name or example or type(model).__name__
        self.data_name = data_name
        if not isinstance(model, nn.Module):
            raise TypeError(f"give the network as a torch module; got a {type(model).__name__}")
        if isinstance(model, torch.jit.ScriptModule):
            raise TypeError("a TorchScript module cannot be taken apart: give the nn.Module it was made from")
        device = device_of(model)
        self.calibration = as_batches(calibration)
        inputs = _example(first_inputs(self.calibration)) if example_input is None else example_input
        # A copy of its own: a tensor made in inference mode cannot be traced.
        self.example_input = mapped(moved(inputs, device), torch.clone)
        self.training = None if training is None else as_batches(training, "training")
        self.loss = loss
        self.evaluation = evaluation
        self.metric = "" if evaluation is None else metric_name(evaluation)
        original = explicit(_copied(model))
        # A probe of the shape before the groups, so that a wrong example is said as such.
        calls = call_order(original, self.example_input)
        self._first_call = first_calls(calls)
        self._last_call = {name: index for index, name in enumerate(calls)}
        groups = find_groups(original, self.example_input)
        units = {group.name: tuple(range(group.width)) for group in groups}
        state = State(original, groups, count_cost(original, self.example_input), units)
        first = Step("original", None, None, state.cost.parameters, state.cost.macs, 0.0)
        self._history = History(state, first)
        self._measured = False
        self._lock = threading.RLock()
        self._listeners: list[Callable[[str], Any]] = []

    @classmethod
    def example(cls, name: str, *, procedure: str = "simultaneous", progress=None) -> Session:
        """A session on a built-in example; raises ValueError for an unknown name, listing the valid ones."""
        from workbench.examples.catalogue import load_example

        ex = load_example(name, progress=progress)
        return cls(
            ex.model,
            ex.calibration,
            ex.evaluation,
            procedure=procedure,
            name=ex.name,
            data_name=ex.data_name,
            example=ex.name,
        )

    # What is there now -----------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self._history.present

    @property
    def model(self) -> nn.Module:
        """The network as it stands now, in evaluation mode."""
        return self._state.model

    @property
    def original(self) -> nn.Module:
        """The network as it was given."""
        return self._history.original.model

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The unit groups of the present network, in the order in which it runs them."""
        return self._state.groups

    @property
    def parameters(self) -> int:
        return self._state.cost.parameters

    @property
    def macs(self) -> int:
        """Multiply–accumulates of one example's forward pass."""
        return self._state.cost.macs

    @property
    def measured(self) -> bool:
        return self._measured

    @property
    def stale(self) -> dict[str, str]:
        """Groups whose moments are stale, with the reason in words. Empty under 'simultaneous'."""
        return dict(self._state.stale)

    @property
    def position(self) -> int:
        """Which step of the history is the present one; 0 is the original."""
        return self._history.position

    @property
    def history(self) -> tuple[Step, ...]:
        """Every step, those that redo would bring back included."""
        return self._history.steps

    @property
    def can_undo(self) -> bool:
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        return self.position < len(self.history) - 1

    def group(self, name: str) -> UnitGroup:
        """The group of that name. Raises ValueError listing the valid names."""
        return named_group(self.groups, name)

    def original_width(self, name: str) -> int:
        """Units that the group had in the original network."""
        self.group(name)
        return next(g.width for g in self._history.original.groups if g.name == name)

    # Measuring -------------------------------------------------------------------------------------

    def measure(self, progress: Progress | None = None, cancel: threading.Event | None = None) -> None:
        """Measure the moments of every group, and the original's score, in one pass over each data set.

        Measuring anew once something was committed is for the sequential procedure: see `remeasure`.
        Raises ValueError for data that does not fit or is not finite; Cancelled. Either changes nothing.
        """
        with self._lock:
            if self.position:
                raise ValueError("moments belong to the original network: reset before measuring them anew")
            state = self._state
            statistics = measure_moments(state.model, state.groups, self.calibration, progress, cancel)
            score = self._score(state.model, progress, cancel)
            measured = replace(state, statistics=statistics, stale={}, problems={})
            self._history.amend(measured, replace(self.history[0], score=score))
            self._measured = True
        self._tell("measured")

    def remeasure(self, progress: Progress | None = None, cancel: threading.Event | None = None) -> None:
        """Measure the stale groups again, on the network as it stands. Raises as `measure` does."""
        self._require_measured()
        if not self._state.stale:
            return  # without waiting for what runs
        with self._lock:
            if self._state.stale:  # else another has just done it
                self._history.amend(refreshed(self._ground, self._state, progress, cancel))
        self._tell("measured")

    def spectrum(self, name: str) -> Spectrum:
        """The spectrum of the group's present units. Raises ValueError, NotMeasuredError."""
        return self._problem(name).spectrum

    def moment(self, name: str, reader: int = 0) -> Moment:
        """The moment of the group's present units at one of its readers."""
        return self._problem(name).moments[reader]

    # Choosing --------------------------------------------------------------------------------------

    def preview(
        self,
        name: str,
        width: int | None = None,
        lam: float | None = None,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        remeasure: bool = True,
        reestimate: bool = False,
    ) -> Choice:
        """Which units of group `name` would be kept, and what that would lose and save.

        `width` in [1, m]; `lam` > 0, absolute (in squared activations). Either alone fixes the other
        through N(λ) = width. `theta` in [0, 1] weighs input against output loss (method.md §3). The
        network is not touched; stale moments are measured again first, unless `remeasure` is False.

        `reconstruction`: "channel", the paper's Â; "kernel", least squares on the patches of a convolution
        [beyond]; "original", against the unpruned network's outputs, with a bias and the drift of a residual
        stream [beyond]; "none". The two [beyond] are fitted when the choice is tried or committed, in a pass
        over the calibration data a reader, with the ridge of min(λ, 1e-6·Tr Σ) (method.md §10): there λ
        chooses the width and the units, and a larger one shrinks nothing. `reestimate` measures the running
        statistics of batch norms anew after the commit.

        Raises ValueError for bad input, NotMeasuredError, StaleMomentsError.
        """
        options = Options(theta, selection, reconstruction, bool(reestimate))
        if name in self._state.stale:
            if not remeasure:
                raise StaleMomentsError(
                    f"the moments of {name} were {self._state.stale[name]}: measure again"
                )
            self.remeasure()
        self._problem(name)
        return chosen(self._state, name, width, lam, options)

    def choice_of(self, step: RecipeStep) -> Choice:
        """The choice that a recipe's step stands for, with its kept units, on the network as it stands."""
        if step.group in self._state.stale:
            self.remeasure()
        problem = self._problem(step.group)
        if problem.group.width != step.of:
            raise ValueError(
                f"the step for {step.group} was made with {step.of} units; here it has {problem.group.width}"
            )
        options = Options(step.theta, step.selection, step.reconstruction, step.reestimate)
        return chosen(self._state, step.group, step.width, step.lam, options, step.kept)

    def evaluate(
        self,
        model: nn.Module | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> float | None:
        """The score of `model`, by default the present one; None without evaluation data."""
        return self._score(self.model if model is None else model, progress, cancel)

    def try_choice(
        self, choice: Choice, progress: Progress | None = None, cancel: threading.Event | None = None
    ) -> float | None:
        """The score that the network would have with `choice`; nothing is kept. Raises as `commit` does."""
        return self._score(self._applied(choice, progress, cancel).model, progress, cancel)

    # Committing ------------------------------------------------------------------------------------

    def commit(
        self,
        choice: Choice,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        plan: str = "",
    ) -> Step:
        """Carry out `choice`: a new, smaller network, scored, and a step in the history.

        "kernel" and "original" fit with the ridge of min(λ, 1e-6·Tr Σ), whatever the λ of the choice.
        Steps in a row with the same `plan` are undone together. What redo would have brought back is
        dropped. Raises ValueError where the choice was made for another width of its group, StaleMomentsError
        where it was made before its moments became stale, and whatever scoring raises; then nothing has
        changed.
        """
        with self._lock:
            self._history.check_free()
            start = time.perf_counter()
            state = self._applied(choice, progress, cancel)
            score = self._score(state.model, progress, cancel)
            step = Step(
                f"{choice.group} {choice.of} → {choice.width}",
                choice,
                score,
                state.cost.parameters,
                state.cost.macs,
                time.perf_counter() - start,
                plan=plan,
            )
            self._history.push([(state, step)])
        self._tell("history")
        return step

    def undo(self) -> None:
        """Back to the state before the last commit, exactly. Raises ValueError at the original.

        What was committed as one plan goes as one; `goto` undoes it layer by layer.
        """
        if not self.can_undo:
            raise ValueError("there is nothing to undo: this is the original network")
        self.goto(self._history.before())

    def redo(self) -> None:
        """Forward again to the commit that was undone. Raises ValueError where there is none."""
        if not self.can_redo:
            raise ValueError("there is nothing to redo")
        self.goto(self._history.after())

    def reset(self) -> None:
        """Back to the original; redo can bring the commits back one by one."""
        self.goto(0)

    def goto(self, position: int) -> None:
        """To any step of the history; 0 is the original. Raises ValueError outside of it."""
        with self._lock:
            self._history.goto(position)
        self._tell("history")

    def subscribe(self, callback: Callable[[str], Any]) -> Callable[[], None]:
        """Call `callback(event)` after each change, in the thread that made it; returns the way out.

        Events: "measured" (moments are new), "history" (commit, undo, redo, reset, goto).
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    # Inside ----------------------------------------------------------------------------------------

    def _tell(self, event: str) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _score(self, model, progress, cancel) -> float | None:
        return None if self.evaluation is None else evaluate(model, self.evaluation, progress, cancel)

    def _require_measured(self) -> None:
        if not self.measured:
            raise NotMeasuredError("nothing is measured yet: call session.measure() first")

    def _problem(self, name: str) -> GroupProblem:
        group = self.group(name)
        if not group.prunable:
            raise ValueError(f"{name} is not prunable: {group.why_not}")
        self._require_measured()
        return self._state.problem(name)

    @property
    def _ground(self) -> Ground:  # type: ignore[override]
        return Ground(
            self._history.original,
            self.calibration,
            self.example_input,
            self.procedure == "simultaneous",
            self._stale_after,
            self.training,
            self.loss,
        )

    def _applied(self, choice: Choice, progress=None, cancel=None) -> State:
        """The state after `choice`; the present one is not changed."""
        state, group = self._state, self.group(choice.group)
        if group.width != choice.of:
            raise ValueError(
                f"this choice was made for {choice.group} with {choice.of} units; it has {group.width} now: "
                "preview it again"
            )
        units = state.units[choice.group]
        if tuple(units[j] for j in choice.kept) != choice.units:
            raise ValueError(
                f"this choice was made on another branch of the history, where {choice.group} kept other "
                "units: preview it again"
            )
        problem = self._problem(choice.group)
        stale = state.stale.get(choice.group, "")
        if not stale and self.procedure == "sequential" and (trace := problem.spectrum.trace) > 0:
            # λ and its share of the trace say on which moments the choice was made.
            same = math.isclose(choice.lam, choice.lam_relative * trace, rel_tol=1e-9)
            stale = "" if same else "measured again since"
        if stale:
            raise StaleMomentsError(
                f"this choice was made on moments of {choice.group} that were {stale}: preview it again"
            )
        return applied(self._ground, state, choice, progress, cancel)

    def _stale_after(self, state: State, changed: UnitGroup) -> dict[str, str]:
        """Under the sequential procedure: groups read after the first reader of the changed one ran."""
        if self.procedure == "simultaneous":
            return {}
        first = min(self._first_call[reader.module] for reader in changed.readers)
        stale = dict(state.stale)
        for group in state.groups:
            later = any(self._last_call[reader.module] > first for reader in group.readers)
            if group.prunable and later:
                stale[group.name] = f"measured before the commit to {changed.name}"
        return stale


def _example(inputs: Inputs) -> Inputs:
    """The examples with which groups are proved: fewer where each is large."""
    size = max((tensor[:1] if tensor.dim() else tensor).numel() for tensor in tensors_of(inputs))
    return first_examples(inputs, EXAMPLE_SIZE if size < LARGE_EXAMPLE else 2)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise ValueError(
            f"the model cannot be copied: {one_line(error)}. Old-style weight_norm and pruning masks stand "
            "in the way: call torch.nn.utils.remove_weight_norm or torch.nn.utils.prune.remove first"
        ) from error


def session_for(
    recipe: dict[str, Any],
    model: nn.Module | None,
    calibration: Any,
    evaluation: Any,
    progress: Progress | None = None,
    training: Any = None,
    loss: Loss | None = None,
    data_name: str = "",
) -> Session:
    """A fresh session on the model that `recipe` was made with, after its fingerprint was checked.

    `data_name`: what the calibration data is called, by default the example's name for its own. Raises
    ValueError where model or data is missing.
    """
    example = recipe["model"].get("example")
    name = recipe["model"].get("name", "")
    procedure, measured_on = recipe["procedure"], recipe.get("data", "")
    if model is None and example:
        ex = load_example(example, progress=progress)
        model = ex.model
        if calibration is None and measured_on not in ("", ex.data_name):
            raise ValueError(
                f"this was measured on {measured_on}, not on the example's own {ex.data_name}: give the "
                "calibration data"
            )
        data_name = data_name or (ex.data_name if calibration is None else GIVEN)
        calibration = ex.calibration if calibration is None else calibration
        evaluation = ex.evaluation if evaluation is None else evaluation
    if model is None:
        raise ValueError("the recipe was not made from a built-in example: give the original model")
    check_fingerprint(recipe, model)
    if calibration is None:
        raise ValueError("give the calibration data with which the model is to be measured")
    return Session(
        model, calibration, evaluation,
        procedure=procedure, name=name, data_name=data_name, example=example,
        training=training, loss=loss,
    )  # fmt: skip

"""The session: one network on its way from the original to a smaller one, a commit at a time."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from workbench.data.batches import as_batches, first_inputs
from workbench.data.durable import SEAL, expanded
from workbench.data.progress import Cancelled, Progress
from workbench.data.surviving import surviving
from workbench.examples.catalogue import load_example
from workbench.export.folder import Point, export
from workbench.fitting.norms import has_running_statistics
from workbench.measure.evaluation import evaluate, reading_for
from workbench.measure.gradients import measure_taylor
from workbench.measure.moments import GroupStatistics, measure_moments
from workbench.measure.passes import example_count
from workbench.measure.positions import Mask, Positions, with_mask
from workbench.measure.reading import TaskLoss
from workbench.network.collecting import collecting_new_alone
from workbench.network.copying import copied
from workbench.network.cost import count_cost
from workbench.network.finding.elsewhere import Sizes
from workbench.network.finding.proof import STAGES, take_apart
from workbench.network.finding.staying import Staying
from workbench.network.groups import UnitGroup, named_group
from workbench.network.rebuilt.explicit import explicit
from workbench.network.running import Inputs
from workbench.pruning.choice import DEFAULT_THETA, Choice
from workbench.pruning.state import StaleMomentsError, State, Statistics
from workbench.pruning.theory import (
    DRAWS,
    LayerTheory,
    NetworkTheory,
    layer_theory,
    network_as_committed,
    network_at,
)
from workbench.pruning.theory_sweeps import (
    LAMS,
    SWEEP_DRAWS,
    BiasVariance,
    LossSweep,
    bias_variance,
    loss_sweep,
    stretch_of,
)
from workbench.pruning.transitions import Options, chosen, committed, refitted, tuned
from workbench.session import restoring, store
from workbench.session.as_given import as_given
from workbench.session.budgets import Budgets
from workbench.session.core import FORGET, SIMPLER, SMALLER, Cancel
from workbench.session.forms import as_taken
from workbench.session.history import Line, Step
from workbench.session.opening import Opening
from workbench.session.recipe import (
    Asked,
    RecipeError,
    RecipeStep,
    asked_in,
    check_fingerprint,
    fingerprint,
    make_recipe,
    record_of,
)
from workbench.session.saved import Saved, SavedBranch
from workbench.session.saved_damages import SavedDamage, put_back, saved_damages
from workbench.spectral.moment import Moment
from workbench.spectral.spectrum import Spectrum
from workbench.tuning.finetuning import Loss, Report, Tuned, finetune
from workbench.tuning.matching import Matching
from workbench.tuning.settings import Tuning

TRAIN = (
    "train with a smaller batch (Tuning(batch=…), or the batch_size of your own DataLoader), without match"
)
GIVEN = "data of your own"  # what data is called that nobody named, in place of an example's
PROCEDURES = ("simultaneous", "sequential")


class Session(Budgets):
    """Spectral pruning of one network, headless: everything that the widgets do.

    `calibration`: a tensor (n, …), a pair (inputs, targets), a dictionary of arguments, a DataLoader, or any
    re-iterable of batches; several inputs stand in a tuple or a dictionary. A batch that does not go through
    as (inputs, targets) is tried as one argument: a list of images, a named tuple, a graph. `example_input`,
    by default a few examples of the first batch, is inputs alone, taken whole: groups are found on it.
    `evaluation`: batches of (inputs, targets), or a function of the model, for the score; None: no score.
    `procedure` (method.md §7): "simultaneous", every moment comes from the original network; "sequential",
    a commit makes the moments downstream stale and they are measured again before use.

    `training`: batches of (inputs, targets) for what learns from labels, fine-tuning and the Taylor
    criterion; by default the calibration data. `loss(outputs, targets)`: by default the one that goes with
    the targets (`measure.reading`). `metric` ("accuracy", of tokens and pixels too, "label accuracy" or "R²")
    and `classes` ("last" or "second" axis of the outputs) say how targets are read where that is not as they
    seem, or not clear; they are saved with the session.

    Positions that an attention mask hides, padding, do not count: in moments, in gradients, in what is
    fitted, and in scores and losses of classes. By default the arguments' names tell (`measure.positions`);
    `mask` names the argument, is a function of a batch's inputs that returns (batch, positions) of bool, True
    where a position counts, or is False where every position counts.

    The given model is copied and never changed; hooks on it run on the copies too.

    Nothing is written until it is asked for: `save` writes it once, and `wb.autosave(session, folder)` after
    each change, so that `wb.earlier_runs` and `wb.taken_up` bring it back after a crash.

    `progress(done, total, what)` is told how far opening is; a set `cancel` stops it between two forward
    passes.

    Raises Cancelled where it was stopped; ValueError for empty calibration data, an example that does not go
    through the model, a model without a usable device, or an unknown procedure; TypeError for anything but an
    nn.Module.
    """

    @surviving(
        "opening the network",
        "give an example_input of fewer examples or a smaller size, or close other programs",
    )
    @collecting_new_alone()
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
        metric: str | None = None,
        classes: str | None = None,
        mask: Mask = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ):
        check_procedure(procedure)
        self.procedure, self.example_name = procedure, example
        self.name = name or example or type(model).__name__
        self.data_name = data_name
        if not isinstance(model, nn.Module):
            raise TypeError(f"give the network as a torch module; got a {type(model).__name__}")
        if isinstance(model, torch.jit.ScriptModule):
            raise TypeError("a TorchScript module cannot be taken apart: give the nn.Module it was made from")
        opening = Opening(progress, cancel)
        opening.at(0, "copying the network")
        original = explicit(copied(model).eval())
        opening.at(1, "a first forward pass")
        self.mask = mask
        original, self._fingerprint, passed = as_given(
            model, original, as_batches(calibration), example_input
        )
        data, self.example_input, self._calls = passed
        self._saves_weights = bool(self._fingerprint)  # which its own fingerprint does not tell all of
        self.calibration = with_mask(data, mask)
        Positions(original, mask).of(first_inputs(data))
        if training is not None:
            training = with_mask(as_taken(original, training, "training"), mask)
        self.training = training
        self.loss = loss or (TaskLoss(metric, classes) if metric or classes else None)
        self.asked = {"metric": metric, "classes": classes}  # how targets are read, as it was given
        if isinstance(evaluation, Iterable):
            evaluation = with_mask(as_taken(original, evaluation, "evaluation"), mask)
        self.evaluation = evaluation
        self._reading = None if evaluation is None else reading_for(original, evaluation, metric, classes)
        self.metric = "" if self._reading is None else self._reading.name
        groups, self._stays, self._sizes = take_apart(original, self.example_input, opening.finding)
        units = {group.name: tuple(range(group.width)) for group in groups}
        opening.finding(STAGES, "counting what it costs")
        state = State(original, groups, count_cost(original, self.example_input), units)
        first = Step("original", None, None, state.cost.parameters, state.cost.macs, 0.0)
        self._begin(state, first)
        opening.over(len(groups))

    @classmethod
    def example(
        cls,
        name: str,
        *,
        procedure: str = "simultaneous",
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Session:
        """A session on a built-in example; raises ValueError for an unknown name, listing the valid ones."""
        ex = load_example(name, progress=progress)
        return cls(
            ex.model,
            ex.calibration,
            ex.evaluation,
            procedure=procedure,
            name=ex.name,
            data_name=ex.data_name,
            example=ex.name,
            progress=progress,
            cancel=cancel,
        )

    # What is there now

    @property
    def model(self) -> nn.Module:
        """The network as it stands now, in evaluation mode.

        It is yours: what you change in its tensors, or which of them learn, belongs to this step from then
        on and to no other, but for the original, which stays as it was given.
        """
        return self._history.given()

    @property
    def original(self) -> nn.Module:
        """The network as it was given: a copy."""
        model = self._given_original()
        if model is None:
            model = copy.deepcopy(self._history.original.model)
            self._given_original = weakref.ref(model)
        return model

    @property
    def stays(self) -> tuple[Staying, ...]:
        """The parameters that no group of units has, each with the reason why it stays as it is.

        Every parameter of the network is in one of `groups`, prunable or not, or here.
        """
        return self._stays

    @property
    def sizes(self) -> Sizes:
        """The sizes of input on which the groups were proved; as a string, in words.

        A second size is tried where the network takes one: groups that do not hold there are not prunable.
        Where it takes none, the words say that the size of the examples is to be kept.
        """
        return self._sizes

    @property
    def parameters(self) -> int:
        return self._state.cost.parameters

    @property
    def macs(self) -> int:
        """Multiply–accumulates of one example's forward pass."""
        return self._state.cost.macs

    @property
    def has_norms(self) -> bool:
        """Whether a norm keeps statistics of the data, which `reestimate` would measure anew."""
        return has_running_statistics(self._state.model)

    @property
    def has_gradients(self) -> bool:
        """Whether the selection "taylor" has what it needs, for every prunable group as it is now."""
        state = self._state
        found = [state.statistics.get(group.name) for group in state.groups if group.prunable]
        return all(one is not None and one.taylor is not None for one in found)

    @property
    def stale(self) -> dict[str, str]:
        """Groups whose moments are stale, with the reason in words. Empty under 'simultaneous'."""
        return dict(self._state.stale)

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
        return named_group(self._history.original.groups, name).width

    # Measuring

    @surviving("measuring", SMALLER)
    def measure(
        self, progress: Progress | None = None, cancel: Cancel | None = None, *, scored: bool = True
    ) -> None:
        """Measure the moments of every group, and the original's score, in one pass over each data set.

        `scored`: False leaves the score open, for `score` to take it once the spectra are looked at.
        Measuring anew once something was committed is for the sequential procedure: see `remeasure`.
        Raises ValueError for data that does not fit or is not finite; Cancelled. Either changes nothing.
        """
        with self._lock:
            if self.position:
                raise ValueError("moments belong to the original network: reset before measuring them anew")
            state, start = self._state, perf_counter()
            found = measure_moments(state.running().model, state.groups, self.calibration, progress, cancel)
            answers = self._new_answers() if scored else None
            score = self._score(state.model, progress, cancel, answers) if scored else None
            measured = replace(
                state, statistics=Statistics(found), stale={}, problems={}, damages={}, measured=True
            )
            self._output_changes.clear()
            seconds = perf_counter() - start
            self._history.amend(measured, replace(self.history[0], score=score, seconds=seconds))
            self._answers.keep(self.history[0], answers)
        self._tell("measured")

    @surviving("measuring gradients", SMALLER)
    def measure_gradients(
        self,
        data: Any = None,
        loss: Loss | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """Measure activation × gradient on the present network, for the selection "taylor".

        `data` gives (inputs, targets), by default the session's training data. Raises ValueError without
        targets.
        """
        self._state.check_measured()
        with self._lock:
            self._history.settle()
            state = self._state
            source = self._learned_from(data)
            found = measure_taylor(state.model, state.groups, source, loss or self.loss, progress, cancel)
            measured = {
                name: replace(one, taylor=found[name])
                for name, one in state.statistics.items()
                if name in found
            }
            statistics = state.statistics.updated(measured)
            damages = {way: one for way, one in list(state.damages.items()) if way.selection != "taylor"}
            self._history.amend(replace(state, statistics=statistics, problems={}, damages=damages))
        self._tell("measured")

    @surviving("looking at a spectrum", FORGET)
    def spectrum(self, name: str) -> Spectrum:
        """The spectrum of the group's present units. Raises ValueError, NotMeasuredError."""
        return self._state.problem(name).spectrum

    def moment(self, name: str, reader: int = 0) -> Moment:
        """The moment of the group's present units at one of its readers."""
        return self._state.problem(name).moments[reader]

    # Choosing

    @surviving("choosing units", FORGET)
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
        stale = self._state.stale.get(name)
        if stale:
            if not remeasure:
                raise StaleMomentsError(f"the moments of {name} were {stale}: measure again")
            self.remeasure()
        return chosen(self._state, name, width, lam, options)

    def choice_of(self, step: RecipeStep) -> Choice:
        """The choice that a recipe's step stands for, with its kept units, on the network as it stands."""
        if step.group in self._state.stale:
            self.remeasure()
        return restoring.choice_of(self._state, step)

    @surviving("scoring", SMALLER)
    def evaluate(
        self,
        model: nn.Module | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> float | None:
        """The score of `model`, by default the present one; None without evaluation data."""
        if model is None or self.evaluation is None:
            return self._score(self._history.shown(), progress, cancel)
        return evaluate(model, self.evaluation, progress, cancel, reading=self._reading)

    @surviving("trying a choice", SIMPLER)
    def try_choice(
        self, choice: Choice, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> float | None:
        """The score that the network would have with `choice`; nothing is kept. Raises as `commit` does."""
        return self._score(self.pruned(choice, progress, cancel), progress, cancel)

    # What the theory says

    @surviving("comparing with the theory", SMALLER)
    def theory(
        self,
        name: str,
        lam: float | None = None,
        width: int | None = None,
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        draws: int = DRAWS,
        examples: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> LayerTheory:
        """Bounds beside what is measured, for the choice that `preview` makes; nothing is kept.

        The choice is carried out beside the present network and both run over the calibration data. `lam` is
        absolute. `draws`: how often `guaranteed_width` units are sampled from the leverage scores;
        `examples`: how many are measured, in whole batches, by default all.

        Raises ValueError for bad input, NotMeasuredError, Cancelled. Source: method.md §6.
        """
        self._state.check_measured()
        options = Options(theta, selection, reconstruction)
        if name in self._state.stale:
            self.remeasure(progress, cancel)
        self._history.settle()
        own = self.position == 0 or self.procedure == "sequential"
        return layer_theory(
            self._ground, self._state, name, width, lam, options, own, draws, progress, cancel, examples
        )

    @surviving("comparing with the theory", SMALLER)
    def network_theory(
        self,
        lam: float | None = None,
        *,
        theta: float = DEFAULT_THETA,
        selection: str = "greedy",
        reconstruction: str = "channel",
        examples: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> NetworkTheory:
        """Bounds beside what is measured, for all groups together against the original; nothing is kept.

        `lam`, relative to each group's trace, cuts every group of the original to ⌈N(λ)⌉ units; None: the
        network as it was committed, and the options do not count. `examples`: as for `theory`.

        Raises ValueError for bad input, or where nothing is committed and no λ given; NotMeasuredError,
        Cancelled. Source: method.md §6.
        """
        self._state.check_measured()
        self._history.settle()
        if lam is not None:
            options = Options(theta, selection, reconstruction)
            return network_at(self._ground, lam, options, progress, cancel, examples)
        choices = [step.choice for step in self._history.steps[1 : self.position + 1]]
        return network_as_committed(self._ground, self._state, choices, progress, cancel, examples)

    @surviving("comparing with the theory", FORGET)
    def theory_sweep(
        self,
        name: str,
        lams: Sequence[float] = LAMS,
        *,
        theta: float = DEFAULT_THETA,
        draws: int = SWEEP_DRAWS,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> LossSweep:
        """λ_max(C_J) of a group beside 4λ, as `lams` (relative to the trace) sweep. Raises as `theory`."""
        return loss_sweep(self._state.problem(name), lams, theta, draws, progress, cancel)

    def bias_variance(self, lams: Sequence[float] = LAMS, samples: int | None = None) -> BiasVariance:
        """δ₁ and δ₂ of the present network as one λ relative to every trace sweeps, **up to constants**.

        `samples`: n, the training examples; by default the calibration data's. Raises as `theory` does.
        """
        self._state.check_measured()
        samples = example_count(self.calibration) if samples is None else samples
        return bias_variance(self._state, stretch_of(self._state, self.example_input), lams, samples)

    # Committing

    @surviving("committing", SIMPLER)
    def commit(
        self,
        choice: Choice,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        plan: str = "",
    ) -> Step:
        """Carry out `choice`: a new, smaller network, scored, and a step in the history.

        "kernel" and "original" fit with the ridge of min(λ, 1e-6·Tr Σ), whatever the λ of the choice.
        Steps in a row with the same `plan` are undone together. What redo would have brought back is
        dropped. Raises ValueError where the choice was made for another width of its group, StaleMomentsError
        where it was made before its moments became stale, and whatever scoring raises; then nothing has
        changed.
        """
        (step,) = self._advance(
            lambda ground, state: [committed(ground, state, choice, progress, cancel)], progress, cancel, plan
        )
        return step

    # Fitting and training again

    @surviving("fitting again", SMALLER)
    def refit(self, progress: Progress | None = None, cancel: Cancel | None = None) -> Step:
        """Fit all layers around pruned groups once more to the original's outputs, and add it to the history.

        Front to back, writers as well as readers, without labels, in a pass over the calibration data a
        layer **[beyond the paper]**. Layers that are no matrix times patches stay as they are: embeddings,
        grouped convolutions, and transposed ones whose blocks overlap or are cut. Raises ValueError where
        nothing is pruned or no layer can be fitted, Cancelled.
        """
        self._state.check_measured()
        (step,) = self._advance(
            lambda ground, state: [refitted(ground, state, progress, cancel)], progress, cancel
        )
        return step

    @surviving("fine-tuning", TRAIN)
    def finetune(
        self,
        training: Any = None,
        tuning: Tuning | None = None,
        *,
        loss: Loss | None = None,
        report: Report | None = None,
        cancel: Cancel | None = None,
        pause: Cancel | None = None,
    ) -> Tuned:
        """Fine-tune the present network and add it to the history; undo brings back the one before.

        `training`: batches of (inputs, targets), by default the session's training data; with
        `Tuning(distill=1)` or `Tuning(match=1)` targets are not needed. The best network by score is kept,
        also where `cancel` ends it early.

        While it runs, or waits in a pause, the session can be read and saved, and its history stands still.
        Parameters that need no gradient stay as they are, unless none needs one.

        Raises ValueError where data or loss do not fit, Cancelled before the first step; then nothing has
        changed.
        """
        tuning = tuning or Tuning()
        start = perf_counter()
        holding = self._history.holding
        mine = object()
        try:
            with self._lock:
                self._history.hold(mine, "fine-tuning is running: wait for its end, or stop it first")
            self._history.settle()
            state = self._state
            model = copy.deepcopy(state.model)  # is written into
            before = self._ground.original
            matching = None
            if tuning.match > 0:
                matching = Matching.of(before.model, before.groups, state.groups, state.units)
            done = finetune(
                model, self._learned_from(training), tuning,
                original=before.model, matching=matching, loss=loss or self.loss,
                score=self._scored(None) if self.metric else None,
                report=report, cancel=cancel, pause=pause,
            )  # fmt: skip
            if not done.steps:
                raise Cancelled("fine-tuning was cancelled before its first step; nothing was changed")
            if done.stopped:
                tuning = replace(tuning, until=done.steps)
            with self._lock:  # nobody comes between
                holding.pop(mine, None)
                self._advance(
                    lambda ground, state: [tuned(ground, state, done.model, tuning)],
                    known=(done.score, perf_counter() - start),
                )
        finally:
            holding.pop(mine, None)  # nothing but this: a call of Python's own, Ctrl+C could come before
        return done

    @property
    def _training(self) -> Any:
        return self.calibration if self.training is None else self.training

    def _learned_from(self, data: Any) -> Any:
        """The training data, by default the session's."""
        return self._training if data is None else with_mask(as_batches(data, "training"), self.mask)

    # Going back, and branches

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

    @surviving("going to another state", FORGET)
    def goto(self, position: int) -> None:
        """To any step of the history; 0 is the original. Raises ValueError outside of it."""
        with self._lock:
            self._history.goto(position)
        self._tell("history")

    def subscribe(self, callback: Callable[[str], Any]) -> Callable[[], None]:
        """Call `callback(event)` after each change, in the thread that made it; returns the way out.

        Events: "measured" (moments are new), "history" (commit, undo, redo, reset, goto), "damage" (that of
        groups alone was measured, or part of it).
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    # Branches

    @property
    def branch(self) -> str:
        """The name of the present branch."""
        return self._history.branch

    @property
    def branches(self) -> dict[str, tuple[Step, ...]]:
        """Every branch by name, with its steps."""
        return {name: line.steps for name, line in self._history.branches.items()}

    @surviving("going to another state", FORGET)
    def fork(self, name: str) -> None:
        """Go on from here under another name; the present branch is kept as it is. Raises ValueError."""
        with self._lock:
            self._history.fork(name)
        self._tell("history")

    @surviving("going to another state", FORGET)
    def switch(self, name: str) -> None:
        """To another branch, where it was left. Raises ValueError listing the branches."""
        with self._lock:
            self._history.switch(name)
        self._tell("history")

    @surviving("forgetting a branch", FORGET)
    def drop(self, name: str) -> None:
        """Forget a branch that is not the present one. Raises ValueError."""
        with self._lock:
            self._history.drop(name)
        self._tell("history")

    # What is kept

    @property
    def recipe(self) -> dict[str, Any]:
        """The record of the commits up to the present step, as plain values (see recipe.py)."""
        return self._recipe_of(self._history.line)

    def recipe_of(self, branch: str) -> dict[str, Any]:
        """The record of any branch, up to where it was left. Raises ValueError listing the branches."""
        return self._recipe_of(self._history.named(branch))

    def _recipe_of(self, line: Line, end: int | None = None) -> dict[str, Any]:
        """`end`: the last step that counts, by default the present one."""
        self._fingerprint = self._fingerprint or fingerprint(self._history.original.model)
        return make_recipe(
            name=self.name,
            data_name=self.data_name,
            example=self.example_name,
            model_fingerprint=self._fingerprint,
            procedure=self.procedure,
            steps=[record_of(step) for step in line.steps[1 : (line.position if end is None else end) + 1]],
            asked=Asked(**self.asked, mask=None if callable(self.mask) else self.mask),
        )

    def original_statistics(self) -> dict[str, GroupStatistics]:
        """What was measured of every group on the original network; empty before `measure`."""
        return dict(self._history.original.statistics)

    @property
    def read_only(self) -> str:
        """Why nothing can be saved in the folder that this was opened from, in words; empty where it can."""
        return self._place.read_only

    @surviving("saving", FORGET)
    def save(self, folder: str | Path, take_over: bool = False) -> None:
        """Write the session into `folder`: recipe, moments, every branch up to where it stands.

        What is there already is not written again; files of others stay as they are. It waits for nothing
        that runs: what is written is the session before that. From then on `folder` is this session's, and
        another process that opens or saves one there is told so, until this one ends or saves elsewhere.

        `take_over`: also where another process has the folder open, which is told when it next saves there.

        Raises ValueError where `folder` is a file, or holds an export or another `recipe.json`;
        FolderInUseError, an OSError, while somebody else saves there; OpenElsewhereError, one of these, where
        it is to be taken over first; OSError. Then what was saved there before is as it was, as it is where
        the process ends at any moment.
        """
        folder = expanded(folder)
        check = (lambda: None) if take_over else (lambda: self._place.check(folder))
        check()
        seal = store.write(self.saved(), folder, check=check)
        self._place.saved(folder, seal)

    def check_free(self, folder: str | Path) -> None:
        """Raises OpenElsewhereError where `save` would: another process has `folder` open, or saved there
        since it was opened or saved here."""
        self._place.check(expanded(folder))

    def saved(self, undone: bool = False) -> Saved:
        """All that `save` writes, as it is at this moment; nothing that runs is waited for.

        `undone`: with the steps that redo would bring back.
        """
        if self._lock.acquire(blocking=False):  # what runs now has taken over what a person changed by hand
            try:
                self._history.settle()
            finally:
                self._lock.release()
        lines = self._history.lines()
        original = next(iter(lines.values()))
        statistics = original.state(0).statistics
        moments = {name: one.state() for name, one in statistics.items()}
        branches = [self._saved_branch(name, line, undone) for name, line in lines.items()]
        ends = {name: _end_of(line, undone) for name, line in lines.items()}
        return Saved(moments, original.steps[0].score, branches, damages=saved_damages(lines, ends))

    def _saved_branch(self, name: str, line: Line, undone: bool) -> SavedBranch:
        end = _end_of(line, undone)
        model = line.state(end).model
        weights = model.state_dict() if self._saves_weights else None
        at = line.position if line.position < end else None
        recipe = self._recipe_of(line, end)
        return SavedBranch(name, recipe, line.changed(end), fingerprint(model), weights, at)

    @surviving("exporting", "the format 'safetensors' alone: programs (pt2, ONNX) are made in memory")
    def export(
        self,
        folder: str | Path,
        formats: Iterable[str] = ("safetensors",),
        example_input: Inputs | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        replace: bool = False,
    ) -> list[Path]:
        """Write the network as it stands into `folder`, for use without the session (export/folder.py)."""
        self._history.settle()
        line = self._history.line  # as it is now, whoever goes back meanwhile
        point = Point(
            self.name,
            self.data_name,
            self.metric,
            line.state(line.position).model,
            line.state(0).model,
            self._recipe_of(line),
            line.steps[0],
            line.steps[line.position],
            self.example_input if example_input is None else example_input,
            str(self.sizes),
        )
        return export(point, folder, formats, progress, cancel, replace)

    @classmethod
    @surviving("opening what was saved", FORGET)
    def open(
        cls,
        folder: str | Path,
        model: nn.Module | None = None,
        calibration: Any = None,
        evaluation: Any = None,
        *,
        training: Any = None,
        loss: Loss | None = None,
        metric: str | None = None,
        classes: str | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        mask: Mask = None,
        take_over: bool = False,
    ) -> Session:
        """The session that was saved in `folder`, with its history and its branches, ready to go on.

        `model`: the original network; `calibration`, `training`, `loss`, `metric`, `classes`, `mask`,
        `progress`, `cancel`: as for Session; metric, classes and mask by default as they were saved, a mask
        that is a function apart. Model and calibration may be left out for a built-in example. Nothing is
        measured again under the simultaneous procedure, and nothing fitted again whose result was saved;
        scores are the saved ones.

        Where another process has it open, it is opened read-only, with a warning: nothing is saved in
        `folder` then, see `read_only`; `take_over`: it is this session's, and that one is told.

        Raises RecipeError for a damaged file (naming it) or another model; FileNotFoundError.
        """
        saved = store.read(folder)
        session = session_for(
            saved.recipe, model, calibration, evaluation, data_name=saved.recipe.get("data", ""),
            training=training, loss=loss, metric=metric, classes=classes, mask=mask,
            progress=progress, cancel=cancel,
        )  # fmt: skip
        session._take_up(saved, str(folder), progress, cancel)
        told = session.claim(folder, take_over)
        if told:
            warnings.warn(told, UserWarning, stacklevel=2)
        return session

    def claim(self, folder: str | Path, take_over: bool = False) -> str:
        """Say that this session is what is in `folder`, where it was opened from; see `open`.

        Returns what its person is to be told, if anything.
        """
        return self._place.opened(expanded(folder), take_over)

    def afresh(self, procedure: str | None = None) -> Session:
        """Another session on the same network and data, with what was measured of the original and no steps.

        Nothing is opened or measured again. `procedure`: by default the same. Raises ValueError for an
        unknown one.
        """
        check_procedure(procedure or self.procedure)
        other = copy.copy(self)
        with self._lock:
            other._begin(self._history.original, self._history.steps[0])
        other.procedure = procedure or self.procedure
        return other

    def as_saved(
        self, saved: Saved, progress: Progress | None = None, cancel: Cancel | None = None
    ) -> Session:
        """Another session on the same network and data, as one that was `saved` on them.

        `progress(done, total, what)` is told of each pass over the data that a step needs again, as under the
        sequential procedure; a set `cancel` ends it before the next batch.

        Raises RecipeError where it is of another network, other data, or reads targets otherwise; or where
        its steps do not fit; Cancelled. Then this session is as it was.
        """
        recipe, where = saved.recipe, str(saved.source.parent)
        mine = self.recipe
        if recipe["model"]["fingerprint"] != mine["model"]["fingerprint"]:
            raise RecipeError(f"{where} is of another network than this session's {self.name}")
        if recipe.get("data", "") != self.data_name:
            raise RecipeError(
                f"{where} was measured on {recipe.get('data') or 'data without a name'}, and this session "
                f"is on {self.data_name or 'data without a name'}"
            )
        if asked_in(recipe) != asked_in(mine):
            raise RecipeError(f"{where} reads targets or masks otherwise than this session")
        other = self.afresh(recipe["procedure"])
        other._take_up(saved, where, progress, cancel)
        return other

    def _take_up(self, saved: Saved, where: str, progress: Progress | None, cancel: Cancel | None) -> None:
        self._place.read = saved.recipe.get(SEAL, "")
        statistics = restoring.statistics_of(saved.moments, self.groups, str(saved.source))
        try:
            self.restore(statistics, saved.start, saved.branches, progress, cancel, saved.damages)
        except ValueError as error:
            raise RecipeError(f"{where} cannot be opened: {error}") from error

    @surviving("opening what was saved", FORGET)
    def restore(
        self,
        statistics: Mapping[str, GroupStatistics],
        score: float | None,
        branches: Sequence[SavedBranch] = (),
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        damages: Sequence[SavedDamage] = (),
    ) -> None:
        """Take up what was measured of the original, its score, and saved branches, the present one first;
        and the `damages` that were measured of groups alone.

        `progress`, `cancel`: as for `as_saved`.

        Raises ValueError where steps or weights do not fit, Cancelled; then the session is not to be used.
        """
        with self._lock:
            original = restoring.measured_as(self._history.original, statistics)
            self._history.amend(original, replace(self.history[0], score=score))
            restoring.restore(self._history, self._ground, branches, restoring.Told(progress, cancel))
            put_back(self._history, damages)


def _end_of(line: Line, undone: bool) -> int:
    """The last step that is saved."""
    return len(line.steps) - 1 if undone else line.position


def check_procedure(procedure: str) -> None:
    """Raises ValueError for an unknown one."""
    if procedure not in PROCEDURES:
        raise ValueError(f"the procedure must be one of {', '.join(PROCEDURES)}; got {procedure!r}")


def session_for(
    recipe: dict[str, Any],
    model: nn.Module | None,
    calibration: Any,
    evaluation: Any,
    *,
    data_name: str = "",
    training: Any = None,
    loss: Loss | None = None,
    metric: str | None = None,
    classes: str | None = None,
    mask: Mask = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Session:
    """A fresh session on the model that `recipe` was made with, after its fingerprint was checked.

    `data_name`: what the calibration data is called, by default the example's name for its own. `metric`,
    `classes`, `mask`: how targets and positions are read, by default as the recipe says. Raises ValueError
    where model or data is missing.
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
    found = check_fingerprint(recipe, model)
    if calibration is None:
        raise ValueError("give the calibration data with which the model is to be measured")
    saved = asked_in(recipe)
    session = Session(
        model, calibration, evaluation,
        procedure=procedure, name=name, data_name=data_name, example=example,
        training=training, loss=loss,
        metric=metric or saved.metric, classes=classes or saved.classes,
        progress=progress, cancel=cancel,
        mask=saved.mask if mask is None else mask,
    )  # fmt: skip
    session._fingerprint = found
    return session

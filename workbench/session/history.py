"""The history: states and the steps between them, on one line or on several branches with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from workbench.pruning.choice import Choice
from workbench.pruning.state import State
from workbench.tuning.settings import Tuning

MAIN = "main"


@dataclass(frozen=True)
class Line:
    """States, one a step, the original first, and which of them is the present one."""

    states: tuple[State, ...]
    steps: tuple[Step, ...]
    position: int = 0


class History:
    """Named lines of steps that all begin at the original; one of them is the present line."""

    def __init__(self, state: State, step: Step):
        self._lines = {MAIN: Line((state,), (step,))}
        self.branch = MAIN
        self._held = ""

    @property
    def line(self) -> Line:
        return self._lines[self.branch]

    @property
    def branches(self) -> dict[str, Line]:
        return dict(self._lines)

    @property
    def present(self) -> State:
        return self.line.states[self.line.position]

    @property
    def original(self) -> State:
        return self.line.states[0]

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.line.steps

    @property
    def position(self) -> int:
        return self.line.position

    def named(self, name: str) -> Line:
        """The line of that name. Raises ValueError listing the branches."""
        if name not in self._lines:
            raise ValueError(f"no branch is called {name!r}; there are {', '.join(self._lines)}")
        return self._lines[name]

    def _put(self, line: Line) -> None:
        self._lines[self.branch] = line

    def hold(self, why: str) -> None:
        """Until `release`, whatever goes to another state raises ValueError with the words `why`."""
        self.check_free()
        self._held = why

    def release(self) -> None:
        self._held = ""

    def check_free(self) -> None:
        """Raises ValueError while it is held."""
        if self._held:
            raise ValueError(self._held)

    def amend(self, state: State, step: Step | None = None) -> None:
        """Replace the present state (measured anew), and its step; the original is that of every line."""
        old, position = self.present, self.position

        def amended(line: Line) -> Line:
            states = tuple(state if one is old else one for one in line.states)
            steps = line.steps
            if step is not None:
                steps = tuple(
                    step if one is old else kept for one, kept in zip(line.states, line.steps, strict=True)
                )
            return replace(line, states=states, steps=steps)

        if position == 0:
            self._lines = {name: amended(line) for name, line in self._lines.items()}
        else:
            self._put(amended(self.line))

    def replace_present(self, state: State) -> None:
        """Put another state in place of the present one, on the present line alone."""
        states = list(self.line.states)
        states[self.position] = state
        self._put(replace(self.line, states=tuple(states)))

    def rescore(self, scores: Sequence[float | None]) -> None:
        """Replace the scores of all steps of the present line."""
        steps = (replace(step, score=score) for step, score in zip(self.line.steps, scores, strict=True))
        self._put(replace(self.line, steps=tuple(steps)))

    def push(self, found: Sequence[tuple[State, Step]]) -> None:
        """Go on from the present state; what redo would have brought back is dropped."""
        self.check_free()
        line, end = self.line, self.position + 1
        states = (*line.states[:end], *(state for state, _ in found))
        steps = (*line.steps[:end], *(step for _, step in found))
        self._put(Line(states, steps, len(states) - 1))

    def goto(self, position: int) -> None:
        """Raises ValueError outside of the history."""
        self.check_free()
        if not 0 <= position < len(self.line.steps):
            raise ValueError(f"the history has steps 0 to {len(self.line.steps) - 1}; got {position!r}")
        self._put(replace(self.line, position=position))

    def before(self) -> int:
        """Where undo goes: one step back, or before the whole plan that the present step ends."""
        steps, position = self.line.steps, self.position
        plan = steps[position].plan
        back = position - 1
        while plan and back > 0 and steps[back].plan == plan:
            back -= 1
        return back

    def after(self) -> int:
        """Where redo goes: one step on, or to the end of the plan that it begins."""
        steps = self.line.steps
        on = self.position + 1
        plan = steps[on].plan
        while plan and on + 1 < len(steps) and steps[on + 1].plan == plan:
            on += 1
        return on

    def fork(self, name: str) -> None:
        """A new line that goes on from the present state, under another name; it becomes the present one.

        Raises ValueError for an empty name or one in use.
        """
        self.check_free()
        if not name.strip() or name in self._lines:
            raise ValueError(
                f"a branch needs a name of its own; {name!r} is " + ("in use" if name.strip() else "empty")
            )
        end = self.position + 1
        line = Line(self.line.states[:end], self.line.steps[:end], self.position)
        self._lines[name] = line
        self.branch = name

    def switch(self, name: str) -> None:
        """Raises ValueError listing the branches."""
        self.check_free()
        self.named(name)
        self.branch = name

    def rename(self, name: str) -> None:
        """Call the present line otherwise. Raises ValueError for an empty name or one in use."""
        if name != self.branch:
            before = self.branch
            self.fork(name)
            self._lines[name] = self._lines.pop(before)

    def drop(self, name: str) -> None:
        """Forget a branch. Raises ValueError for the present one, or one that does not exist."""
        self.check_free()
        if name == self.branch or name not in self._lines:
            raise ValueError(f"{name!r} cannot be dropped: it is the present branch, or there is none of it")
        del self._lines[name]


def _done(line: Line) -> list[tuple[nn.Module, Step]]:
    """The steps of a line up to where it stands, without the start, each with its network."""
    return [(state.model, step) for state, step in zip(line.states, line.steps, strict=True)][
        1 : line.position + 1
    ]


@dataclass(frozen=True)
class Step:
    """One point of the history: the start, the state after a commit, or after fine-tuning.

    `choice`: what was committed, None at the start and for fine-tuning, whose settings are `tuning`. `plan`:
    what steps that were committed together are called; they are undone together.

    `score`: in the session's metric, None without evaluation data. `parameters`, `macs`: counts of the
    model at this point. `seconds`: what the commit took.
    """

    label: str
    choice: Choice | None
    score: float | None
    parameters: int
    macs: int
    seconds: float
    plan: str = ""
    tuning: Tuning | None = None

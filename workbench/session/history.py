"""The history: states and the steps between them, on one line or on several branches with names."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from workbench.network.copying import copied
from workbench.network.tensors import named_tensors, same_bits
from workbench.pruning.choice import Choice
from workbench.pruning.folding import Folded, folded, refolded, shortened, unfolded
from workbench.pruning.state import State
from workbench.tuning.settings import Tuning

MAIN = "main"
Method = TypeVar("Method", bound=Callable[..., Any])
Given = tuple[nn.Module, nn.Module] | None  # the present network, and its copy that was given away


def one_at_a_time(method: Method) -> Method:
    """Changes of a history read its lines and put others in their place: nobody may come between."""

    @functools.wraps(method)
    def alone(self: History, *args: Any, **kwargs: Any) -> Any:
        with self._changing:
            return method(self, *args, **kwargs)

    return cast(Method, alone)


@dataclass(frozen=True)
class Step:
    """One point of the history: the start, the state after a commit, or after fine-tuning.

    `choice`: what was committed, None at the start and for fine-tuning, whose settings are `tuning`. `plan`:
    what steps that were committed together are called; they are undone together.

    `score`: in the session's metric, None without evaluation data. `parameters`, `macs`: counts of the
    model at this point. `seconds`: what the commit took, or measuring the original here.
    """

    label: str
    choice: Choice | None
    score: float | None
    parameters: int
    macs: int
    seconds: float
    plan: str = ""
    tuning: Tuning | None = None


@dataclass(frozen=True)
class Place:
    """A state on a line: whole, or folded onto the one before; one of the two is there, or both."""

    state: State | None
    folded: Folded | None = None

    def away(self) -> Place:
        """The same, where nobody is."""
        if self.state is None:
            return self
        self.state.problems.clear()
        return self if self.folded is None else Place(None, refolded(self.folded, self.state))


@dataclass(frozen=True)
class Line:
    """Points, one a step, the original first, and which of them is the present one."""

    places: tuple[Place, ...]
    steps: tuple[Step, ...]
    position: int = 0

    def state(self, position: int) -> State:
        """The state at `position`, made from the nearest whole one before it."""
        start = max(i for i in range(position + 1) if self.places[i].state is not None)
        state = self.places[start].state
        for place in self.places[start + 1 : position + 1]:
            assert state is not None
            assert place.folded is not None
            state = unfolded(state, place.folded)
        assert state is not None
        return state

    def changed(self, end: int) -> list[dict[str, Tensor]]:
        """What each step up to `end` made beside cutting units out, tensors by name."""
        found = []
        for place in self.places[1 : end + 1]:
            if place.folded is not None:
                found.append({name: source.get() for name, source in place.folded.changed.items()})
            else:
                assert place.state is not None
                found.append(dict(named_tensors(place.state.model)))
        return found

    def at(self, position: int) -> Line:
        """The same line with that position as the present one: whole there, folded elsewhere."""
        state = self.state(position)
        places = [place.away() for place in self.places]
        if places[position].state is not state:  # the original's place is one for all lines
            places[position] = replace(self.places[position], state=state)
        return replace(self, places=tuple(places), position=position)

    def left(self) -> Line:
        """The same line where another one is present."""
        return replace(self, places=tuple(place.away() for place in self.places))


class History:
    """Named lines of steps that all begin at the original; one of them is the present line.

    The original and the present state are whole, all others are folded onto the one before.
    """

    def __init__(self, state: State, step: Step):
        self._all = MAIN, {MAIN: Line((Place(state),), (step,))}  # the present branch's name, every line
        self.holding: dict[object, str] = {}  # who holds it, and why; who leaves takes itself out
        self._given: Given = None
        self._changing = threading.RLock()

    @property
    def branch(self) -> str:
        return self._all[0]

    @property
    def _lines(self) -> dict[str, Line]:
        return self._all[1]

    @property
    def line(self) -> Line:
        branch, lines = self._all
        return lines[branch]

    @property
    def branches(self) -> dict[str, Line]:
        return dict(self._lines)

    @property
    def present(self) -> State:
        line = self.line
        return line.state(line.position)

    @property
    def original(self) -> State:
        return self.line.state(0)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.line.steps

    @property
    def position(self) -> int:
        return self.line.position

    @one_at_a_time
    def lines(self) -> dict[str, Line]:
        """Every line by name as it is at this moment, the present one first."""
        return {self.branch: self.line} | self._lines

    def named(self, name: str) -> Line:
        """The line of that name. Raises ValueError listing the branches."""
        if name not in self._lines:
            raise ValueError(f"no branch is called {name!r}; there are {', '.join(self._lines)}")
        return self._lines[name]

    def _become(self, branch: str, lines: dict[str, Line], given: Given) -> None:
        """All that changes does so in one line, which Ctrl+C comes before or after."""
        self._all, self._given = (branch, lines), given

    def _put(self, line: Line, given: Given) -> None:
        self._become(self.branch, self._lines | {self.branch: line}, given)

    # The network that is given away

    @one_at_a_time
    def given(self) -> nn.Module:
        """The present network for somebody who may change it: a copy, the same one while one stays here."""
        model = self.present.model
        if self._given is None or self._given[0] is not model:
            self._given = model, copied(model)
        return self._given[1]

    @one_at_a_time
    def shown(self) -> nn.Module:
        """The network that was given away, on which a person's hooks are, if it is the present one still."""
        self.settle()
        given, model = self._given, self.present.model
        mine = given is not None and given[0] is model and _same(given[1], model)
        return given[1] if given is not None and mine else model

    @one_at_a_time
    def settle(self) -> None:
        """Take over what somebody changed in the network that was given away; the original stays as it is."""
        state, given = self.present, self._given
        if given is None or given[0] is not state.model or not self.position:
            return
        if not _same(given[1], state.model):
            mine = copied(given[1])
            self._replace_present(replace(state, model=mine, problems={}, damages={}), (mine, given[1]))

    # Holding

    @one_at_a_time
    def hold(self, who: object, why: str) -> None:
        """While `who` is in `holding`, what goes to another state raises ValueError with the words `why`."""
        self.check_free()
        self.holding[who] = why

    def check_free(self) -> None:
        """Raises ValueError while it is held."""
        for why in list(self.holding.values()):
            raise ValueError(why)

    # Changing

    @one_at_a_time
    def amend(self, state: State, step: Step | None = None) -> None:
        """Replace the present state, whose network stays (measured anew), and its step; the original is that
        of every line."""
        old = self.line.places[self.position]
        new = replace(old, state=state)

        def amended(line: Line) -> Line:
            places = tuple(new if one is old else one for one in line.places)
            steps = line.steps
            if step is not None:
                steps = tuple(
                    step if one is old else kept for one, kept in zip(line.places, line.steps, strict=True)
                )
            return replace(line, places=places, steps=steps)

        if self.position == 0:
            lines = {name: amended(line) for name, line in self._lines.items()}
            self._become(self.branch, lines, self._given)
        else:
            self._put(amended(self.line), self._given)

    @one_at_a_time
    def replace_present(self, state: State) -> None:
        """Put a state with another network in place of the present one, on the present line alone."""
        self._replace_present(state, self._given)

    def _replace_present(self, state: State, given: Given) -> None:
        line = self.line
        before = line.state(self.position - 1) if self.position else None
        choice = line.steps[self.position].choice
        places = list(line.places)
        places[self.position] = Place(state, None if before is None else folded(before, state, choice))
        self._pin(places, self.position + 1)
        steps = list(line.steps)
        steps[self.position] = replace(
            steps[self.position]
        )  # another object: what is known of it is of before
        self._put(replace(line, places=tuple(places), steps=tuple(steps)), given)

    def _pin(self, places: list[Place], position: int) -> None:
        """What was folded onto a state that is replaced is made whole before."""
        if position < len(places) and places[position].state is None:
            places[position] = replace(places[position], state=self.line.state(position), folded=None)

    @one_at_a_time
    def push(self, found: Sequence[tuple[State, Step]]) -> None:
        """Go on from the present state; what redo would have brought back is dropped."""
        self.check_free()
        line, end = self.line, self.position + 1
        places, before = list(line.places[:end]), self.present
        for state, step in found:
            last = places[-1].folded
            if last is not None:
                places[-1] = replace(places[-1], folded=shortened(last, state, step.choice))
            places[-1] = places[-1].away()
            places.append(Place(state, folded(before, state, step.choice)))
            before = state
        steps = (*line.steps[:end], *(step for _, step in found))
        self._put(Line(tuple(places), steps, len(places) - 1), None)

    @one_at_a_time
    def goto(self, position: int) -> None:
        """Raises ValueError outside of the history."""
        self.check_free()
        if not 0 <= position < len(self.line.steps):
            raise ValueError(f"the history has steps 0 to {len(self.line.steps) - 1}; got {position!r}")
        if position != self.position:
            self.settle()
            self._put(self.line.at(position), None)

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

    @one_at_a_time
    def fork(self, name: str) -> None:
        """A new line that goes on from the present state, under another name; it becomes the present one.

        Raises ValueError for an empty name or one in use.
        """
        self.check_free()
        if not name.strip() or name in self._lines:
            raise ValueError(
                f"a branch needs a name of its own; {name!r} is " + ("in use" if name.strip() else "empty")
            )
        self.settle()
        end, line = self.position + 1, self.line
        new = Line(line.places[:end], line.steps[:end], self.position)
        self._become(name, {**self._lines, self.branch: line.left(), name: new}, self._given)

    @one_at_a_time
    def switch(self, name: str) -> None:
        """Raises ValueError listing the branches."""
        self.check_free()
        line = self.named(name)
        if name != self.branch:
            self.settle()
            here, there = self.line.left(), line.at(line.position)
            self._become(name, {**self._lines, self.branch: here, name: there}, None)

    @one_at_a_time
    def rename(self, name: str) -> None:
        """Call the present line otherwise. Raises ValueError for an empty name or one in use."""
        if name != self.branch:
            before = self.branch
            self.fork(name)
            kept = {other: line for other, line in self._lines.items() if other not in (before, name)}
            self._become(name, kept | {name: self._lines[before]}, self._given)

    @one_at_a_time
    def drop(self, name: str) -> None:
        """Forget a branch. Raises ValueError for the present one, or one that does not exist."""
        self.check_free()
        if name == self.branch or name not in self._lines:
            raise ValueError(f"{name!r} cannot be dropped: it is the present branch, or there is none of it")
        lines = {other: line for other, line in self._lines.items() if other != name}
        self._become(self.branch, lines, self._given)


def _same(a: nn.Module, b: nn.Module) -> bool:
    """The same tensors under the same names, bit for bit, of which the same are to be trained."""
    mine, its = dict(named_tensors(a)), dict(named_tensors(b))
    return mine.keys() == its.keys() and all(
        mine[key].requires_grad == its[key].requires_grad and same_bits(mine[key], its[key]) for key in mine
    )

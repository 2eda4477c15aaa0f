"""Sizes that code writes for axes of units, `x.view(b, t, heads, c // heads)`, made to fall with them.

Code may count its heads on numbers that stay as they are, the width of its input mostly. Such a module runs
with every size that it gives for an axis of units turned into the number of places that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from workbench.network.groups import CodeSize
from workbench.network.rebuilt.code_places import place_of_call, runs_forward
from workbench.network.rebuilt.given_sizes import GIVING, Given, given_sizes
from workbench.network.rebuilt.standing_in import StandIn
from workbench.network.running import one_line

REMEMBERED = 64  # calls with other sizes, batches and lengths, before all are forgotten


@dataclass(frozen=True)
class Fallen:
    """A size that was `was` where the code stands and is `now`.

    `place`, `index`: which size in which call. `units`: how many there were, where the axis held these and
    nothing else, so that their places in more examples fall in proportion; else 0.
    """

    place: str
    index: int
    was: int
    now: int
    units: int


class Resized(StandIn):
    """A module's forward with sizes of its own that have fallen; `inner`: the forward that it had.

    `known`: whether these sizes were seen to be in the code, which for those from a file is to be shown.
    """

    def __init__(
        self, module: nn.Module, inner: Any = None, fallen: Sequence[Fallen] = (), known: bool = False
    ):
        super().__init__(module, inner)
        self.fallen, self.known = tuple(fallen), known
        self.at = {one.place: [other for other in fallen if other.place == one.place] for one in fallen}
        self._all_known = known  # else the code may be another one, which is not to be mended
        self._left_before: dict[tuple[Any, ...], list[Any]] = {}  # by the place and the sizes given there

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the forward returns. Raises RuntimeError where none of these sizes is in its code."""
        if torch.jit.is_tracing():
            raise RuntimeError(
                "torch.jit.trace cannot follow sizes in code that fell with units: write the network with "
                "Session.export(folder, formats=['pt2', 'onnx'])"
            )
        if torch.compiler.is_dynamo_compiling():  # it looks at no frames, and so at none of these sizes
            return torch._dynamo.disable(self._run)(*args, **kwargs)
        return self._run(*args, **kwargs)

    @runs_forward
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        sizes = _Sizes(self)
        try:
            with sizes:
                out = self.run(*args, **kwargs)
        except Exception as error:
            if self.known or sizes.met >= self.at.keys():
                raise
            raise RuntimeError(f"{one_line(error)}; it may be that {self._other_code()}") from error
        # In training mode code may pass its work over by chance; so it may once its sizes are known.
        if not (sizes.met or self.known or self.module.training):
            raise RuntimeError(self._other_code())
        self.known = self.known or bool(sizes.met)
        self._all_known = self._all_known or sizes.met >= self.at.keys()
        return out

    def left(self, given: Given, place: str) -> list[Any]:
        """The sizes that are left of those given in a place of the code."""
        if given.whole is None or not all(type(part) is int for part in (given.whole, *given.sizes)):
            return _left(given, self.at[place])
        key = (place, given.whole, *given.sizes)
        found = self._left_before.get(key)
        if found is None:  # other threads may run it as well
            if len(self._left_before) >= REMEMBERED:
                self._left_before = {}
            found = self._left_before[key] = _left(given, self.at[place])
        return found

    def left_elsewhere(self, given: Given) -> list[Any]:
        """The sizes given where the same code did not run in the proof, in a branch for larger inputs say.

        Those given, wherever torch takes them; else with the one count that has fallen with which it does.
        """
        if not self._all_known or given.could_fill(given.sizes):
            return given.sizes
        now = {one.was: one.now for one in self.fallen if one.now != one.was}
        ways = [
            [*given.sizes[:at], now[size], *given.sizes[at + 1 :]]
            for at, size in enumerate(given.sizes)
            if type(size) is int and size in now
        ]
        taken = [way for way in ways if given.could_fill(way)]
        return taken[0] if len(taken) == 1 else given.sizes

    def _other_code(self) -> str:
        return (
            f"the code of {type(self.module).__name__} is not the one that was pruned: the sizes that fell "
            f"with units, in {self.fallen[0].place.split(' ')[0]!r}, are not there"
        )


class _Sizes(TorchFunctionMode):
    """Within: the sizes in a module's own code are those that are left."""

    def __init__(self, forward: Resized):
        super().__init__()
        self.forward = forward
        self.met: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        given = given_sizes(func, args, kwargs or {}) if func in GIVING else None
        if given is not None:
            module, place = place_of_call()
            if module is self.forward.module:
                here = place in self.forward.at
                self.met |= {place} if here else set()
                sizes = self.forward.left(given, place) if here else self.forward.left_elsewhere(given)
                if sizes != given.sizes:
                    return func(*given.arguments(sizes))
        return func(*args, **kwargs) if kwargs else func(*args)


def _left(given: Given, fallen: Sequence[Fallen]) -> list[Any]:
    """The sizes that are left of those given.

    Where the given ones fit what is there, they may count it already, or fit by chance: then other ones that
    fit as well and hold no count of before are those that are meant.
    """
    now = {(one.index, one.was): one.now for one in fallen if one.now != one.was}
    left = [now.get((at, n), n) if isinstance(n, int) else n for at, n in enumerate(given.sizes)]
    if given.whole is None or given.is_open:
        return left
    left = _fitted(given, left, fallen)
    if given.is_filled_by(left):
        return left
    if given.is_filled_by(given.sizes):
        return given.sizes
    return _fitted(given, [_in_proportion(at, n, fallen) for at, n in enumerate(given.sizes)], fallen)


def _fitted(given: Given, sizes: list[Any], fallen: Sequence[Fallen]) -> list[Any]:
    """The sizes, put right along another axis of a unit, a head's dimension say, where only that fits.

    Code that divides what is left by the heads that were gives such an axis too few places, in proportion.
    The number of examples may be in the same proportion by chance: the axis next to the units' is meant.
    """
    if given.is_filled_by(sizes):
        return sizes
    falling = [one for one in fallen if one.now != one.was]

    def likelihood(one: Fallen) -> tuple[bool, int, int]:
        shrunk = any(given.sizes[one.index] * other.was == one.was * other.now for other in falling)
        return not shrunk, min((abs(one.index - other.index) for other in falling), default=0), -one.index

    within = sorted((one for one in fallen if one.now == one.was), key=likelihood)
    tried = ([*sizes[: one.index], one.was, *sizes[one.index + 1 :]] for one in within)
    return next((other for other in tried if given.is_filled_by(other)), sizes)


def _in_proportion(index: int, size: Any, fallen: Sequence[Fallen]) -> Any:
    """A size of other examples than before: all the units that were, another number of times."""
    here = [one for one in fallen if one.index == index and one.now != one.was]
    exact = [one.now for one in here if isinstance(size, int) and one.was == size]
    if exact:
        return exact[0]
    if len(here) != 1 or here[0].units <= 0 or here[0].was <= 0:
        return size
    if isinstance(size, int) and (size <= 0 or size % here[0].units):
        return size
    return size // here[0].units * (here[0].units * here[0].now // here[0].was)


def lower(module: nn.Module, size: CodeSize, units: int) -> None:
    """Let a size in the module's code fall by `units` units, in place."""
    new = Fallen(size.place, size.index, size.was, size.was, size.units)
    found = list(fallen_of(module))
    at = next((i for i, one in enumerate(found) if _is_of(one, new)), len(found))
    (old,) = found[at : at + 1] or [new]
    sign = -1 if size.was < 0 else 1
    found[at : at + 1] = [replace(old, now=old.now - sign * units * size.per_unit)]
    set_fallen(module, found, known=True)


def _is_of(one: Fallen, other: Fallen) -> bool:
    """Whether both are of one size; a network that was pruned and is taken apart anew has fewer units."""
    same = (one.place, one.index, one.was) == (other.place, other.index, other.was)
    return same and (one.units > 0) == (other.units > 0)


def fallen_of(module: nn.Module) -> tuple[Fallen, ...]:
    """The sizes in a module's code that have fallen."""
    forward = vars(module).get("forward")
    return forward.fallen if isinstance(forward, Resized) else ()


def size_in_code(module: nn.Module, place: str, index: int, size: int) -> int:
    """The size as the code gives it, of one that torch was given, fallen or not."""
    here = (one.was for one in fallen_of(module) if (one.place, one.index, one.now) == (place, index, size))
    return next(here, size)


def set_fallen(module: nn.Module, fallen: Sequence[Fallen], known: bool = False) -> None:
    """Let the module run with these sizes in its code fallen; `known`: they were seen to be there."""
    forward = vars(module).get("forward")
    inner = forward.inner if isinstance(forward, Resized) else forward
    module.__dict__["forward"] = Resized(module, inner, fallen, known)

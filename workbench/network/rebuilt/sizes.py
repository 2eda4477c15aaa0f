"""Sizes that code writes for axes of units, `x.view(b, t, heads, c // heads)`, made to fall with them.

Code may count its heads on numbers that stay as they are, the width of its input mostly. Such a module runs
with every size that it gives for an axis of units turned into the number of places that are left.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from workbench.network.groups import CodeSize
from workbench.network.rebuilt.given_sizes import Given, given_sizes, place_of_call


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


class Resized:
    """A module's forward with sizes of its own that have fallen; `inner`: the forward that it had."""

    def __init__(self, module: nn.Module, inner: Any = None, fallen: Sequence[Fallen] = ()):
        self.module, self.inner, self.fallen = module, inner, tuple(fallen)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the forward returns. Raises RuntimeError where none of these sizes is in its code."""
        sizes = _Sizes(self)
        with sizes:
            out = (
                self.inner(*args, **kwargs)
                if self.inner
                else type(self.module).forward(self.module, *args, **kwargs)
            )
        if not sizes.met:
            raise RuntimeError(
                f"the code of {type(self.module).__name__} is not the one that was pruned: the sizes that "
                f"fell with units, in {self.fallen[0].place.split(' ')[0]!r}, are not there"
            )
        return out

    @property
    def __code__(self) -> CodeType | None:  # torch asks for it where it writes a program
        return getattr(self.inner or type(self.module).forward, "__code__", None)

    @property
    def __signature__(self) -> inspect.Signature:
        if self.inner:
            return inspect.signature(self.inner)
        whole = inspect.signature(type(self.module).forward)
        return whole.replace(parameters=list(whole.parameters.values())[1:])


class _Sizes(TorchFunctionMode):
    """Within: the sizes in a module's own code are those that are left."""

    def __init__(self, forward: Resized):
        super().__init__()
        self.forward, self.met = forward, False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = given_sizes(func, args, kwargs)
        if given is not None:
            module, place = place_of_call()
            here = [one for one in self.forward.fallen if one.place == place]
            if here and module is self.forward.module:
                self.met = True
                sizes = _left(given, here)
                if sizes != given.sizes:
                    return func(*given.arguments(sizes))
        return func(*args, **kwargs)


def _left(given: Given, fallen: Sequence[Fallen]) -> list[Any]:
    """The sizes that are left of those given.

    Where the given ones fit what is there, they may count it already, or fit by chance: then other ones that
    fit as well and hold no count of before are those that are meant.
    """
    now = {(one.index, one.was): one.now for one in fallen if one.now != one.was}
    left = [now.get((at, n), n) if isinstance(n, int) else n for at, n in enumerate(given.sizes)]
    left = _fitted(given, left, fallen)
    is_open = any(isinstance(size, int) and size < 0 for size in given.sizes)
    if given.whole is None or is_open or replace(given, sizes=left).fits:
        return left
    if given.fits:
        return given.sizes
    return _fitted(given, [_in_proportion(at, n, fallen) for at, n in enumerate(given.sizes)], fallen)


def _fitted(given: Given, sizes: list[Any], fallen: Sequence[Fallen]) -> list[Any]:
    """The sizes, put right along another axis of a unit, a head's dimension say, where only that fits."""
    if replace(given, sizes=sizes).fits:
        return sizes
    within = [[*sizes[: one.index], one.was, *sizes[one.index + 1 :]] for one in fallen if one.now == one.was]
    return next((other for other in within if replace(given, sizes=other).fits), sizes)


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
    found = fallen_of(module)
    new = Fallen(size.place, size.index, size.was, size.was, size.units)
    at = next((i for i, one in enumerate(found) if replace(one, now=one.was) == new), len(found))
    now = found[at].now if at < len(found) else size.was
    sign = -1 if size.was < 0 else 1
    changed = replace(new, now=now - sign * units * size.per_unit)
    set_fallen(module, [*found[:at], changed, *found[at + 1 :]])


def fallen_of(module: nn.Module) -> tuple[Fallen, ...]:
    """The sizes in a module's code that have fallen."""
    forward = vars(module).get("forward")
    return forward.fallen if isinstance(forward, Resized) else ()


def set_fallen(module: nn.Module, fallen: Sequence[Fallen]) -> None:
    """Let the module run with these sizes in its code fallen."""
    forward = vars(module).get("forward")
    inner = forward.inner if isinstance(forward, Resized) else forward
    module.__dict__["forward"] = Resized(module, inner, fallen)

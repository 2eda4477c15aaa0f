"""A second size of input: what holds where two numbers happen to be equal need not hold at another size.

A map of one pixel is laid out alike with its channels first and last; code may also branch on a length. So
what was proved on the examples is tried once more on the same examples made larger or smaller, where the
network takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workbench.network.fewer import few_examples
from workbench.network.finding.staying import Staying
from workbench.network.finding.trials import Trials
from workbench.network.groups import UnitGroup
from workbench.network.running import (
    Inputs,
    batch_length,
    is_list_of_examples,
    is_square,
    mapped,
    shape_of,
    units_of,
)

TRIED = 4  # other sizes that are tried before the examples' own is all there is
LARGE = 128  # pixels from which images are made smaller: a smaller map may be left with a single pixel
STRIDE = 32  # by which most networks divide an image


@dataclass(frozen=True)
class Sizes:
    """The shapes of the inputs on which the groups were proved.

    `first`: of the examples; `second`: of the same examples at another size, '' where there was none; then
    `why_not` says why.
    """

    first: str = ""
    second: str = ""
    why_not: str = ""

    def __str__(self) -> str:
        if self.second:
            return f"proved with inputs of {self.first}, and at another size, {self.second}"
        if not self.first:
            return f"not proved: {self.why_not}"
        return f"proved with inputs of {self.first} alone: keep that size, {self.why_not}"


class Parts(NamedTuple):
    """A network taken apart: its groups, what is in none of them, and the sizes of input that show it."""

    groups: tuple[UnitGroup, ...]
    stays: tuple[Staying, ...]
    sizes: Sizes


def proved_elsewhere(
    model: nn.Module,
    example: Inputs,
    groups: Sequence[UnitGroup],
    at_first: Trials,
    tell: Callable[[str], object] = lambda what: None,
) -> tuple[tuple[UnitGroup, ...], Sizes]:
    """The groups, those refused that do not hold at a second size of input, and which sizes were tried.

    One pass of the network tells whether it takes a size; two more, whether all groups hold there together.
    Only where they do not, parts of them are tried. A network that gives another number of outputs an example
    there took the size for something else: code that writes (-1, features) makes several of a larger example.
    `model` is in evaluation mode and is not changed. `at_first`: the trials on the examples. `tell` is told
    before each pass what is tried; what it raises ends the work.
    """
    groups = _proved_for_fewer(model, example, groups, tell)
    proved, first = [group for group in groups if group.prunable], shape_of(example)
    if not proved:
        return tuple(groups), Sizes(why_not="there is no prunable group")
    second, refusals, rows = None, [], at_first.rows()
    swapped = any(getattr(module, "batch_first", True) is False for module in model.modules())
    for other in other_sizes(example, swapped):
        trying = partial(_say, tell, f"trying inputs of {shape_of(other)}")
        trying()
        trials = Trials(model, other, proved, tell=trying)
        refusal = trials.refusal() or _of_another_meaning(rows, trials.rows())
        if not refusal:
            second = other
            break
        refusals.append(f"{shape_of(other)}: {refusal}")
    if second is None:
        why = f"the network took no other. With {refusals[0]}" if refusals else "nothing in them has a length"
        return tuple(groups), Sizes(first, why_not=why)
    where = f"with inputs of {shape_of(second)}, though not of {first}, "
    found = _refused(groups, _failures(trials, [], proved), where)
    return tuple(found), Sizes(first, shape_of(second))


def _proved_for_fewer(
    model: nn.Module,
    example: Inputs,
    groups: Sequence[UnitGroup],
    tell: Callable[[str], object],
) -> Sequence[UnitGroup]:
    """The groups, those refused whose sizes in code do not hold for another number of examples.

    Code may count heads and examples along one axis, and leave another one open: then nothing tells how many
    of the places there are heads.
    """
    sized = [group for group in groups if group.prunable and group.sizes]
    if not sized:
        return groups
    tell("trying fewer examples")
    fewer = few_examples(model, example, max(1, batch_length(example) - 1))
    trials = Trials(model, fewer, sized, tell=partial(_say, tell, "trying fewer examples"))
    reasons = {} if trials.refusal() else _failures(trials, [], sized)
    where = f"with {batch_length(fewer)} of {batch_length(example)} examples alone, "
    return _refused(groups, reasons, where)


def _refused(groups: Sequence[UnitGroup], reasons: dict[str, str], where: str) -> list[UnitGroup]:
    """The groups, those that have a reason by their name refused with it; `where` it holds goes before."""
    return [
        replace(one, prunable=False, why_not=where + reasons[one.name]) if one.name in reasons else one
        for one in groups
    ]


def _of_another_meaning(first: list[Fraction | None], second: list[Fraction | None]) -> str:
    """What the network made of an example, where that is not what it made of one at the first size."""
    for before, now in zip(first, second, strict=False):
        if before == 1 and now != 1:
            return f"it gives {now} outputs for an example there" if now else "it gives no outputs there"
    return ""


def _say(tell: Callable[[str], object], what: str, *_round: object) -> None:
    tell(what)


def _failures(
    trials: Trials, base: list[UnitGroup], groups: list[UnitGroup], known: str = ""
) -> dict[str, str]:
    """Why groups cannot go at this size, beside each other and beside `base`, by name.

    Those at whose layers it showed are tried after the others. `known`: why all at once cannot go, where that
    is known.
    """
    reason = (known or trials.failure([*base, *groups], 0)) if groups else ""
    if not reason:
        return {}
    if len(groups) == 1:
        return {groups[0].name: reason}
    second = [] if known else [group.name for group in groups if group.name in trials.blamed]
    if not 0 < len(second) < len(groups):
        second = [group.name for group in groups[len(groups) // 2 :]]
    first = [group for group in groups if group.name not in second]
    failures = _failures(trials, base, first)
    good = [group for group in first if group.name not in failures]
    rest = [group for group in groups if group.name in second]
    return failures | _failures(trials, [*base, *good], rest, "" if failures else reason)


def other_sizes(example: Inputs, swapped: bool = False) -> Iterator[Inputs]:
    """The examples at other sizes, the likeliest to be taken first, `TRIED` at most.

    Along the axes of positions of the first tensor that has some, and along all axes as long as one of them
    in the other tensors, then in none of these, entries are left out at the end, or come again from the
    start. `swapped`: positions may stand before examples, as torch's recurrent and attention layers have
    them: then both change.
    """
    yield from islice(_others(example, swapped), TRIED)


def _others(example: Inputs, swapped: bool) -> Iterator[Inputs]:
    main = next((unit for unit in units_of(example) if _has_positions(unit)), None)
    if main is None:
        return
    alone = isinstance(main, Tensor)
    tensors = [main] if alone else main
    own = {id(tensor) for tensor in tensors}
    for axes, other in _ways(min(t.dim() for t in tensors), alone, swapped):
        lengths = {t.shape[axis]: other(t.shape[axis]) for t in tensors for axis in axes}

        def change(
            tensor: Tensor, all_of_them: bool, axes: list[int] = axes, lengths: dict[int, int] = lengths
        ) -> Tensor:
            # Both axes of a mask between positions, or where the first may be that of positions.
            first = 0 if is_square(tensor) or 0 in axes else 1
            along = axes if id(tensor) in own else range(first, tensor.dim()) if all_of_them else ()
            for axis in along:
                if tensor.shape[axis] in lengths:
                    tensor = _resized(tensor, axis, lengths[tensor.shape[axis]])
            return tensor

        together, main_alone = (mapped(example, partial(change, all_of_them=one)) for one in (True, False))
        yield together
        if shape_of(main_alone) != shape_of(together):  # a table's columns may be as many as pixels
            yield main_alone


def _has_positions(unit: Any) -> bool:
    if isinstance(unit, Tensor):
        return unit.dim() > 1 and unit.numel() > 0 and not is_square(unit)
    return is_list_of_examples(unit) and all(isinstance(part, Tensor) for part in unit)


def _ways(dims: int, alone: bool, swapped: bool) -> list[tuple[list[int], Callable[[int], int]]]:
    """(axes of positions, the other length along them) for what tensors of so many axes may be.

    `alone`: one tensor with the examples along its first axis; else an example a tensor. Images (…, channels,
    height, width) first, of videos the axes of a frame, then with channels last; sequences (batch, channels,
    length), then of vectors, (batch, length, features), or (length, batch, features) where `swapped`.
    """
    if alone and swapped and dims < 4:
        return [([0, 1], _shorter), *(([axis], _shorter) for axis in range(dims - 1, 0, -1))]
    if alone and dims < 4:
        return [([axis], _shorter) for axis in range(dims - 1, 0, -1)]
    if not alone and dims < 3:
        return [([0], _shorter)]
    spatial = list(range(2 - dims if alone else 1 - dims, 0))
    last = [([axis - 1 for axis in spatial], _scaled)] if alone else []
    frames = [(spatial[1:], _scaled)] if len(spatial) > 2 else []
    return [(spatial, _scaled), *frames, (spatial, _doubled), *last]


def _shorter(length: int) -> int:
    """A length that tables of positions reach."""
    return length - length // 4 if length > 3 else length + 1


def _scaled(pixels: int) -> int:
    """Half as many again of few, or a multiple of `STRIDE` below of many: no map gets down to one pixel."""
    return pixels * 3 // 4 // STRIDE * STRIDE if pixels >= LARGE else max(pixels + 1, pixels * 3 // 2)


def _doubled(pixels: int) -> int:
    """Another size in the same proportion to strides: twice as many of few, half of many."""
    return pixels // 2 if pixels >= LARGE else 2 * pixels


def _resized(tensor: Tensor, axis: int, length: int) -> Tensor:
    """The tensor with another length along an axis: its first entries, or all and then the first again."""
    if length <= tensor.shape[axis]:
        return tensor.narrow(axis, 0, length)
    return tensor.index_select(axis, torch.arange(length, device=tensor.device) % tensor.shape[axis])

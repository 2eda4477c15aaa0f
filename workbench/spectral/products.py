"""Sums over activations in their own layout and precision: Σ_i φ_i φ_iᵀ in short blocks, added in float64.

A product of float32 numbers is summed in float32 over at most `BLOCK` samples; what blocks give is added in
float64. Rounding then stays within 1e-7 of the trace in every entry (method.md §1): that of numbers that
differ is random, and blocks average it. Where few units carry the trace and their numbers repeat, it goes one
way; their rows are multiplied in float64. Σ_i φ_i is within 1e-6 of Σ_i |φ_i|. Float64 activations are
multiplied in float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # rounding of a block's sum, as a share of it: 1e-7 of noise, up to 1e-6 of a constant
_BLOCK_DOUBLE = 1024
_STRIP_UNITS = 64  # units in a strip of the triangle, whose sum stays in the processor's cache
_HELD = 1 << 18  # numbers of activations looked at at a time: 1 MB
_PRODUCTS = 1 << 18  # numbers of blocks' products at a time
_WORK = 8192  # multiply–adds worth the call of a product
_FEW = 16 * BLOCK  # samples in whose blocks rounding averages out
_SMALLEST = 1e-28  # mean square of a sample below which float32 squares lose digits
_LARGEST = 1e300


class NotFiniteError(ValueError):
    """Activations hold NaN or infinite numbers, or such whose squares do not fit in float64."""


class Sums:
    """What is summed over the samples of m units; sums of several batches add.

    `total` (m, m), the upper triangle of Σ_i φ_i φ_iᵀ, `sum` (m,), Σ_i φ_i, `active` (m,), how many are not
    zero, and `magnitude` (m,), Σ_i |φ_i|, over `count` samples, float64; the last two where all was `looked`
    at.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu"):
        self.total = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.sum, self.active, self.magnitude = torch.zeros(3, width, dtype=torch.float64, device=device)
        self.count, self.looked = 0, True
        self._dtype = torch.float64  # in which the activations were added up

    @property
    def width(self) -> int:
        """Number of units m."""
        return len(self.sum)

    def add(self, other: Sums) -> None:
        """Add the sums of other samples of the same units."""
        for i in range(0, self.width, _STRIP_UNITS):
            self.total[i : i + _STRIP_UNITS, i:] += other.total[i : i + _STRIP_UNITS, i:]
        self.sum += other.sum
        if self.looked and other.looked:
            self.active += other.active
            self.magnitude += other.magnitude
        self.looked = self.looked and other.looked
        self.count += other.count

    def full(self) -> Tensor:
        """Σ_i φ_i φ_iᵀ, (m, m), exactly symmetric: `total` itself, its lower triangle now filled."""
        for i in range(0, self.width, _STRIP_UNITS):
            diagonal = self.total[i : i + _STRIP_UNITS, i : i + _STRIP_UNITS]
            diagonal.copy_(diagonal.triu() + diagonal.triu(1).T)
            self.total[i + _STRIP_UNITS :, i : i + _STRIP_UNITS] = self.total[
                i : i + _STRIP_UNITS, i + _STRIP_UNITS :
            ].T
        return self.total

    def take(self, activations: Tensor, activity: bool = False) -> None:
        """Become the sums of these activations alone.

        Args:
            activations: φ, (batch, m, positions), floating, in any layout; every position is a sample.
            activity: whether `active` and `magnitude` are summed too.

        Raises:
            NotFiniteError: there is a NaN or an infinite number, or one of 1e150 and more.
        """
        values = _widened(activations.detach())
        self.looked = activity
        with exact_products(values.device):
            self._sum(values, activity)
            if self.count and values.dtype != torch.float64:
                self._amend(values, activity)
        if not bool(self.total.diagonal().max() < _LARGEST):
            raise NotFiniteError("activations must be finite, and below 1e150")

    def add_up(self, activations: Tensor) -> bool:
        """Whether the activations taken last are these, by Σ_i φ_i of each unit to the last digit."""
        values = _widened(activations.detach())
        if self.count != values.shape[0] * values.shape[2]:
            return False
        again = torch.zeros_like(self.sum)
        if self.count:
            layout, axis = _layout(values.to(self._dtype))
            _put(again, torch.cat([piece.sum(axis) for piece in _pieces(layout, axis)]))
        return torch.equal(again, self.sum)

    def look(self, activations: Tensor) -> None:
        """Sum `active` and `magnitude` of the activations taken, where they were not."""
        if not self.looked and self.count:
            layout, axis = _layout(_widened(activations.detach()))
            self._look(_pieces(layout, axis), axis, activity=True)
        self.looked = True

    def _sum(self, values: Tensor, activity: bool) -> None:
        self.count, self._dtype = values.shape[0] * values.shape[2], values.dtype
        if self.count:
            layout, axis = _layout(values)
            self._look(_pieces(layout, axis), axis, activity)
            self._multiply(_blocks(layout, axis))
        else:
            for total in (self.total, self.sum, self.active, self.magnitude):
                total.zero_()

    def _look(self, pieces: list[Tensor], axis: int, activity: bool) -> None:
        """Add up the values of pieces of a layout, sizes and zeros too where `activity` says so."""
        looks = 3 if activity else 1
        found = pieces[0].new_empty(looks, sum(piece.shape[0] for piece in pieces), self.width)
        sizes, first = torch.empty_like(pieces[0]) if activity else pieces[0], 0
        for piece in pieces:
            last = first + piece.shape[0]
            torch.sum(piece, axis, out=found[0, first:last])
            if activity:
                size = torch.abs(piece, out=_like(sizes, piece))
                torch.sum(size, axis, out=found[1, first:last])
                torch.sum(size.ne_(0), axis, out=found[2, first:last])
            first = last
        totals = (self.sum, self.magnitude, self.active)
        for total, parts in zip(totals, found, strict=False):
            _put(total, parts)

    def _multiply(self, blocks: list[Tensor]) -> None:
        """total = Σ_b X_bᵀ X_b for blocks X_b, (blocks, samples, m): the triangle, strip by strip."""
        count, most = sum(block.shape[0] for block in blocks), min(self.width, _STRIP_UNITS) * self.width
        held = blocks[0].new_empty(min(count * most, max(most, _PRODUCTS)))
        for i in range(0, self.width, _STRIP_UNITS):
            strip = self.total[i : i + _STRIP_UNITS, i:]
            room = min(count, held.shape[0] // strip.numel())
            products, filled, put = held[: room * strip.numel()].view(room, *strip.shape), 0, False
            for part in _parts(blocks, room):
                if filled + part.shape[0] > room:
                    _put(strip, products[:filled], put)
                    filled, put = 0, True
                left, right = part, part
                if self.width > _STRIP_UNITS:
                    left, right = part[:, :, i : i + _STRIP_UNITS], part[:, :, i:]
                last = filled + part.shape[0]
                torch.bmm(left.transpose(1, 2), right, out=products[filled:last])
                filled = last
            _put(strip, products[:filled], put)

    def _amend(self, values: Tensor, activity: bool) -> None:
        """Do in float64 what float32 got wrong: overflow, underflow, and what a few units weigh.

        NaN and infinity among the squares are overflow where the values are finite.
        """
        squares = self.total.diagonal()
        largest, trace = float(squares.max()), float(squares.sum())
        if not largest < _LARGEST:
            again = bool(torch.isfinite(values).all())
        else:
            again = trace < _SMALLEST * self.count and bool(values.any())
        if again:
            self._sum(values.double(), activity)
        elif largest > 0.1 * trace:
            units = self._heavy(values, squares / trace)
            if units:
                self._replace(values, units)

    def _heavy(self, values: Tensor, share: Tensor) -> list[int]:
        """Units whose float32 sums may be off by more than is stated, by their `share` of the trace, (m,).

        Numbers that repeat err one way, and by as much as their mean has of the mean square. Where samples
        are few, noise is not averaged either.
        """
        mean = self.sum.square() / (self.count * self.total.diagonal())  # NaN of a unit that is dead
        few = share > (0.25 if self.count < _FEW else 1)
        units = ((share * mean > 0.1) | few).nonzero().flatten().tolist()
        return [unit for unit in units if bool(few[unit]) or _repeat(values[:, unit])]

    def _replace(self, values: Tensor, units: list[int]) -> None:
        """The rows of `total` of these units, again from products in float64."""
        rows = torch.zeros(len(units), self.width, dtype=torch.float64, device=self.total.device)
        layout, axis = _layout(values)
        for part in _pieces(layout, axis):
            samples = part.to(self.total.device).double()
            samples = samples.transpose(1, 2) if axis == 2 else samples
            samples = samples.reshape(-1, self.width)
            rows.addmm_(samples[:, units].T, samples)
        for unit, row in zip(units, rows, strict=True):
            self.total[: unit + 1, unit] = row[: unit + 1]
            self.total[unit, unit:] = row[unit:]


def _put(total: Tensor, parts: Tensor, more: bool = False) -> None:
    """total = Σ parts, (parts, …), in float64; with `more`, it is added."""
    parts = parts.to(total.device)
    if more:
        total += parts.sum(0, dtype=torch.float64)
    else:
        torch.sum(parts, 0, dtype=torch.float64, out=total)


def _repeat(numbers: Tensor) -> bool:
    """Whether numbers other than zero come again and again, by a few hundred of them."""
    some = numbers.flatten()[:: max(1, numbers.numel() // 256)]
    some = some[some != 0]
    return len(some.unique()) < 0.75 * len(some)


def _widened(values: Tensor) -> Tensor:
    """In float32 at least, in which products of two half-precision numbers are exact."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _like(held: Tensor, piece: Tensor) -> Tensor:
    """As much of `held` as `piece` is."""
    return held if held.shape == piece.shape else held[tuple(map(slice, piece.shape))]


def _layout(values: Tensor) -> tuple[Tensor, int]:
    """(batch, m, positions) as products take it, and the axis of its samples.

    As it is, axis 2, where positions lie side by side, and are so many that a copy would cost more; else
    (1, samples, m), axis 1, a copy only where units do not lie side by side.
    """
    batch, width, positions = values.shape
    apart = values.stride(2) == 1 and (width > 1 and values.stride(1) != 1)
    length = max(1, min(positions, BLOCK))
    # Adding m·m products a block costs what copying m numbers a sample does.
    if apart and width * (1 / length - 1 / BLOCK) < 1 and width * width * length >= _WORK:
        return values, 2
    rows = values.transpose(1, 2).reshape(batch * positions, width)
    return (rows if rows.stride(1) == 1 else rows.contiguous())[None], 1


def _pieces(layout: Tensor, axis: int) -> list[Tensor]:
    """Parts of a layout, by samples, that fit in the processor's cache."""
    axis = 0 if layout.shape[0] > 1 else axis
    step = max(1, _HELD * layout.shape[axis] // layout.numel())
    return [layout.narrow(axis, *span) for span in _spans(layout.shape[axis], step)]


def _blocks(layout: Tensor, axis: int) -> list[Tensor]:
    """Views (blocks, samples, m) with at most a block's samples each, that together are all."""
    longest = _BLOCK_DOUBLE if layout.dtype == torch.float64 else BLOCK
    samples = layout.shape[axis]
    if axis == 2:
        length = -(-samples // -(-samples // longest))  # as even as can be
        turned = layout.transpose(1, 2)
        return [turned.narrow(1, *span) for span in _spans(samples, length)]
    whole = samples - samples % longest
    blocks = [layout[0, :whole].unflatten(0, (-1, longest))] if whole else []
    return [*blocks, layout[:, whole:]] if samples > whole else blocks


def _parts(blocks: list[Tensor], room: int) -> Iterator[Tensor]:
    """The same blocks, at most `room` in a tensor."""
    for block in blocks:
        if block.shape[0] <= room:
            yield block
        else:
            yield from block.split(room)


def _spans(size: int, step: int) -> list[tuple[int, int]]:
    """Where parts of `step` and less begin, and their lengths."""
    return [(first, min(step, size - first)) for first in range(0, size, step)]


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Within: products of float32 numbers are not done in fewer digits, whatever the program asks for."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    if not all(hasattr(backend, "fp32_precision") for backend in backends):  # torch before 2.9
        backends, precision = [], torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
    shortened = [(b, b.fp32_precision) for b in backends if b.fp32_precision not in ("none", "ieee")]
    for backend, _ in shortened:
        backend.fp32_precision = "ieee"
    try:
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        for backend, before in shortened:
            backend.fp32_precision = before
        if not backends:
            torch.set_float32_matmul_precision(precision)

"""The second moment of a layer's units, summed batch by batch in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Units: TypeAlias = Sequence[int] | Iterable[int] | Tensor

_CHUNK_ELEMENTS = 1 << 22  # values converted to float64 at a time: 32 MB
_LARGEST = 1e150  # its square still fits in float64 with room for the sum


class Moment:
    """Uncentred second moment Σ = (1/n) Σ_i φ_i φ_iᵀ of a vector of m units (method, §1).

    It holds sums only, so batches, processes and machines merge by addition.

    Example:
        >>> moment = Moment.zeros(13)
        >>> for batch in torch.randn(4, 100, 13):
        ...     _ = moment.update(batch)
        >>> moment.count, tuple(moment.matrix.shape)
        (400, (13, 13))
    """

    def __init__(self, total: Tensor, sum: Tensor, count: int) -> None:
        """Take the sums as they are: `total` (m, m) and `sum` (m,), both float64, over `count` samples."""
        self.total = total
        self.sum = sum
        self.count = count

    @classmethod
    def zeros(cls, width: int, device: torch.device | str = "cpu") -> Moment:
        """A moment that has seen no sample.

        Args:
            width: m, the number of units.
            device: where it sums; it needs float64.

        Returns:
            A moment of zeros, `count` 0.

        Raises:
            ValueError: `width` is below 1.
        """
        if width < 1:
            raise ValueError(f"A moment needs a width of at least 1 unit, but the width given is {width}.")
        total = torch.zeros(width, width, dtype=torch.float64, device=device)
        return cls(total, torch.zeros(width, dtype=torch.float64, device=device), 0)

    @classmethod
    def of(cls, samples: Tensor) -> Moment:
        """The moment of samples, summed on their own device (Apple's mps has no float64: on the CPU).

        Args:
            samples: φ, (n, m), any floating dtype; a row a sample, a column a unit.

        Returns:
            Their moment, `count` n.

        Raises:
            ValueError: the samples are not a finite floating (n, m) tensor.

        Source:
            method.md §1.
        """
        _check_batch(samples, None)
        device = "cpu" if samples.device.type == "mps" else samples.device
        return cls.zeros(samples.shape[1], device).update(samples)

    def update(self, batch: Tensor) -> Moment:
        """Add a batch; it is converted to float64 a chunk at a time, so memory stays bounded.

        Args:
            batch: φ, (n, m), any floating dtype and device.

        Returns:
            This moment.

        Raises:
            ValueError: wrong shape, wrong width, not floating, or a NaN or infinite value; the moment is
                unchanged then.
        """
        _check_batch(batch, self.width)
        chunks = batch.detach().split(max(1, _CHUNK_ELEMENTS // self.width))
        for number, chunk in enumerate(chunks):
            _check_finite(chunk, number * chunks[0].shape[0])
        for chunk in chunks:
            # Move before converting when leaving a device that may have no float64.
            values = chunk.to(self.total.device).to(torch.float64)
            self.total.addmm_(values.T, values)  # Σ_i φ_i φ_iᵀ   (m, m)
            self.sum.add_(values.sum(0))  # Σ_i φ_i   (m,)
        self.count += batch.shape[0]
        return self

    @property
    def width(self) -> int:
        """Number of units m."""
        return self.total.shape[0]

    @property
    def matrix(self) -> Tensor:
        """Σ, (m, m) float64, exactly symmetric.

        Raises:
            ValueError: no sample has been added yet.
        """
        return (self.total + self.total.T) / (2 * self._checked_count())  # (1/n) Σ_i φ_i φ_iᵀ

    @property
    def mean(self) -> Tensor:
        """Mean activation, (m,) float64.

        Raises:
            ValueError: no sample has been added yet.
        """
        return self.sum / self._checked_count()

    def centred(self) -> Tensor:
        """Covariance Σ − mean·meanᵀ, (m, m) float64 **[beyond the paper]**.

        Raises:
            ValueError: no sample has been added yet.
        """
        return self.matrix - torch.outer(self.mean, self.mean)

    def __add__(self, other: Moment) -> Moment:
        """The moment of both sets of samples together, on this moment's device.

        Raises:
            ValueError: the widths differ.
        """
        if not isinstance(other, Moment):
            return NotImplemented
        if other.width != self.width:
            raise ValueError(
                f"Moments merge only at equal width, but these have {self.width} and {other.width} units; "
                "measure both on the same layer."
            )
        device = self.total.device
        total, sum = self.total + other.total.to(device), self.sum + other.sum.to(device)
        return Moment(total, sum, self.count + other.count)

    def restrict(self, kept: Units) -> Moment:
        """The moment of the kept units alone, φ_J.

        Args:
            kept: J, distinct indices in [0, m), in the order wanted.

        Returns:
            A moment of width |J| over the same samples.

        Raises:
            ValueError: `kept` is empty, repeats a unit or leaves the range.
        """
        index = unit_indices(kept, self.width).to(self.total.device)
        if index.numel() == 0:
            raise ValueError("A moment cannot be restricted to no unit at all: keep at least one.")
        return Moment(self.total[index][:, index], self.sum[index], self.count)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to rebuild the moment: `total` (m, m), `sum` (m,), `count` ()."""
        return {"total": self.total.clone(), "sum": self.sum.clone(), "count": torch.tensor(self.count)}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Moment:
        """Rebuild a moment.

        Args:
            state: what `state()` gave: `total` (m, m), `sum` (m,), `count` ().

        Returns:
            The moment, on the tensors' device.

        Raises:
            ValueError: an entry is missing, the shapes disagree, or the numbers are not finite.
        """
        missing = {"total", "sum", "count"} - state.keys()
        if missing:
            raise ValueError(f"A moment's state needs total, sum and count; missing: {sorted(missing)}.")
        if not all(isinstance(state[key], Tensor) for key in ("total", "sum")):
            raise TypeError("A moment's state needs tensors for total and sum, as state() gives them.")
        total, sum, count = state["total"], state["sum"], int(state["count"])
        if total.ndim != 2 or total.shape[0] != total.shape[1] or sum.shape != total.shape[:1] or count < 0:
            raise ValueError(
                "A moment's state needs total (m, m), sum (m,) and count >= 0, but got shapes "
                f"{tuple(total.shape)}, {tuple(sum.shape)} and count {count}."
            )
        if not (total.isfinite().all() and sum.isfinite().all()):
            raise ValueError("The moment's state holds NaN or infinite numbers; measure the layer again.")
        return cls(total.to(torch.float64).clone(), sum.to(torch.float64).clone(), count)

    def __repr__(self) -> str:
        return f"Moment(width={self.width}, count={self.count})"

    def _checked_count(self) -> int:
        if self.count == 0:
            raise ValueError("This moment has seen no sample yet; call update(batch) before reading it.")
        return self.count


def unit_indices(kept: Units, width: int) -> Tensor:
    """Units as a tensor of indices.

    Args:
        kept: distinct indices, as a sequence or a tensor.
        width: m; every index lies in [0, m).

    Returns:
        (k,) int64 on the CPU, in the order given.

    Raises:
        ValueError: an index is not an integer, is outside [0, m) or occurs twice.
    """
    values = kept.tolist() if isinstance(kept, Tensor) else list(kept)
    if not isinstance(values, list):
        raise ValueError(f"Kept units must be a sequence of indices, but a single {values} was given.")
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"Kept units must be integer indices, but {value!r} was given.")
        if not 0 <= value < width:
            raise ValueError(f"Kept unit {value} does not exist: this layer has units 0 to {width - 1}.")
    if len(set(values)) != len(values):
        repeated = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"Kept units must be distinct, but unit {repeated} occurs more than once.")
    return torch.tensor([int(value) for value in values], dtype=torch.int64)


def second_moment(moment: Moment | Tensor) -> Tensor:
    """Σ, exactly symmetric.

    Args:
        moment: a moment, or Σ itself, (m, m).

    Returns:
        (m, m) float64.

    Raises:
        ValueError: no sample yet, or a matrix that is not square, finite and symmetric (to 1e-6).
    """
    if isinstance(moment, Moment):
        return moment.matrix
    if not isinstance(moment, Tensor):
        raise TypeError(f"Expected a Moment or an (m, m) tensor, but a {type(moment).__name__} was given.")
    if moment.ndim != 2 or moment.shape[0] != moment.shape[1] or moment.shape[0] == 0:
        raise ValueError(f"A second moment must be a square (m, m) matrix, got shape {tuple(moment.shape)}.")
    matrix = moment.detach().to(torch.float64)
    if not matrix.isfinite().all():
        raise ValueError("The second moment holds NaN or infinite values; check the activations measured.")
    asymmetry = float((matrix - matrix.T).abs().max())
    if asymmetry > 1e-6 * float(matrix.abs().max()):
        raise ValueError(
            f"A second moment must be symmetric, but entries differ from their mirror by {asymmetry:.3g}; "
            "to get the moment of samples (n, m), use Moment.of(samples)."
        )
    return (matrix + matrix.T) / 2


def _check_batch(batch: Tensor, width: int | None) -> None:
    if not isinstance(batch, Tensor):
        raise TypeError(f"Samples must be a tensor of shape (n, m), but a {type(batch).__name__} was given.")
    if batch.ndim != 2 or batch.shape[1] == 0:
        raise ValueError(
            f"Samples must have shape (n, m), a row a sample and a column a unit, got {tuple(batch.shape)}; "
            "move the channels last and flatten the rest."
        )
    if not batch.is_floating_point():
        raise ValueError(
            f"Samples must be floating-point activations, got {batch.dtype}; convert them first."
        )
    if width is not None and batch.shape[1] != width:
        raise ValueError(
            f"This moment has {width} units, but the batch has {batch.shape[1]} columns; "
            "it comes from another layer."
        )


def _check_finite(chunk: Tensor, first_row: int) -> None:
    if chunk.numel() == 0 or bool(chunk.abs().amax() < _LARGEST):
        return
    row, unit = (~(chunk.abs() < _LARGEST)).nonzero()[0].tolist()
    raise ValueError(
        f"Sample {first_row + row} has the value {float(chunk[row, unit])} at unit {unit}; activations must "
        "be finite (and below 1e150). The moment is unchanged; check the data and the model's numbers."
    )

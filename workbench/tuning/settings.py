"""How a network is fine-tuned: the settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

# What no fine-tuning needs, but a number in a damaged recipe may be.
LARGEST = {
    "epochs": 100_000,
    "steps": 10_000_000,
    "until": 10_000_000,
    "checks": 100_000,
    "batch": 1 << 30,
    "shifts": 1 << 16,
    "rate": 1e6,
    "decay": 1e6,
    "temperature": 1e6,
}


@dataclass(frozen=True)
class Tuning:
    """How a network is fine-tuned: AdamW under a one-cycle learning rate.

    `epochs` of the training data, or `steps` where that is given. `rate` is the largest learning rate,
    `batch` the examples a step where the data is given as whole tensors; a loader makes its own batches.

    Shares of the loss, in [0, 1] and together at most 1: `distill` follows the original network's outputs,
    softened by `temperature` where the targets say that these are classes, else in the mean square;
    `match` follows its activations at every reader, of the units that are left, and its outputs, in the mean
    square **[beyond the paper]**. The rest follows the labels; where nothing is left to them, they are not
    needed.

    `flips` and `shifts` change images at random in every step: mirrored left to right, and moved by up to so
    many pixels in each direction. They multiply few calibration images; a loader may bring its own changes.

    `until`: the step of that schedule at which to end, where a run was stopped. `frozen`: batch norms keep
    their running statistics and dropout is off, as the network will be used; None: so where labels have no
    share. `checks`: how often the score is taken on the way; the best network found is kept.

    Raises ValueError for a number that is none of these, or beyond what any fine-tuning needs (`LARGEST`).
    """

    epochs: float = 1.0
    steps: int | None = None
    rate: float = 1e-3
    decay: float = 1e-4
    distill: float = 0.0
    temperature: float = 4.0
    checks: int = 4
    seed: int = 0
    match: float = 0.0
    batch: int = 128
    frozen: bool | None = None
    until: int | None = None
    flips: bool = False
    shifts: int = 0

    def __post_init__(self) -> None:
        for name, most in LARGEST.items():
            value = getattr(self, name)
            if isinstance(value, (int, float)) and value > most:
                raise ValueError(f"{name} must be {most:,.0f} or less, got {_short(value)}")
        if isinstance(self.seed, int) and not -(1 << 63) <= self.seed < 1 << 64:
            raise ValueError(f"the seed must have 64 bits at most, got {_short(self.seed)}")
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise ValueError(f"the number of steps must be 1 or more, got {self.steps!r}")
        if self.until is not None and (not isinstance(self.until, int) or self.until < 1):
            raise ValueError(f"until must be a step, 1 or more, got {self.until!r}")
        for name in ("epochs", "rate", "temperature"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"the seed must be a whole number, got {self.seed!r}")
        for name in ("distill", "match"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], got {getattr(self, name)!r}")
        if self.labels < 0:
            raise ValueError(
                f"distill and match are shares of one loss and together at most 1; got {self.distill!r} and "
                f"{self.match!r}"
            )
        if not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"the batch must be a whole number of examples, 1 or more; got {self.batch!r}")
        if not isinstance(self.flips, bool):
            raise ValueError(f"flips must be True or False, got {self.flips!r}")
        if not isinstance(self.shifts, int) or self.shifts < 0:
            raise ValueError(f"shifts must be a whole number of pixels, 0 or more; got {self.shifts!r}")
        if not self.decay >= 0 or self.checks < 1:
            raise ValueError(f"decay must be >= 0 and checks >= 1, got {self.decay!r} and {self.checks!r}")

    @property
    def length(self) -> str:
        """How long it goes, in words."""
        number, what = (self.steps, "step") if self.steps else (self.epochs, "epoch")
        whole = f"{number:g} {what}{'s' * (number != 1)}"
        if self.until is None:
            return whole
        # Steps and epochs do not stand in one sentence: nobody knows here how many steps an epoch has.
        done = f"of {whole}" if self.steps else "step" + "s" * (self.until != 1)
        return f"stopped after {self.until} {done}"

    @property
    def labels(self) -> float:
        """The share of the loss that follows the labels."""
        left = 1 - self.distill - self.match
        return 0.0 if abs(left) < 1e-9 else left

    @property
    def keeps_norms(self) -> bool:
        """Whether the network is trained in evaluation mode."""
        return self.labels == 0 if self.frozen is None else self.frozen


def _short(value: float) -> str:
    """A number in an error, however many digits it has."""
    if isinstance(value, int) and value.bit_length() > 80:
        return f"a whole number of {value.bit_length():,} bits"
    return repr(value)

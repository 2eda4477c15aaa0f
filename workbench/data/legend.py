"""How a person reads examples: the names of classes, and the way from a network's inputs back to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEEP = 8  # loaders and subsets within one another, through which a data set is looked for


@dataclass(frozen=True)
class Legend:
    """What is known of inputs and targets beside their numbers.

    Attributes:
        classes: names of the classes, by number; empty where they are not known.
        mean, std: what pixels in 0–1 units were less and over when they became inputs, a number or one a
            channel; `std` is empty where that is not known, and (1,) for pixels as they are.
    """

    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def pixels(self, image: Tensor) -> Tensor | None:
        """`image` (channels, height, width) of the inputs in 0–1 units; None where nobody knows."""
        if not self.std or {len(self.mean), len(self.std)} - {0, 1, len(image)}:
            return None
        mean, std = (
            torch.tensor(one or (0.0,), dtype=torch.float32).view(-1, 1, 1) for one in (self.mean, self.std)
        )
        return image.float() * std + mean


NOTHING_KNOWN = Legend()


def legend_of(data: Any) -> Legend:
    """The legend that data brings along, or the names in `classes` of its data set, as torchvision's."""
    for _ in range(DEEP):
        found = getattr(data, "legend", None)
        if isinstance(found, Legend):
            return found
        classes = getattr(data, "classes", None)
        if isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes):
            return Legend(tuple(classes))
        data = getattr(data, "dataset", None)
    return NOTHING_KNOWN

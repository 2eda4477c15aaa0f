"""From which of a network's inputs a tensor is made, and so of which tokens a mask tells there.

Two parts of a network may have as many positions, a text and its translation say, or an image as many rows as
a text has tokens. A mask tells of what is made of the input that it goes with: by shape, and by name where an
encoder's and a decoder's tokens are of one shape. What is made of both belongs to the decoder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

SECOND = ("decoder", "tgt")  # what the names of a decoder's tokens, and of their mask, begin with
OTHER = "encoder_"  # what a decoder is given of an encoder, and its mask


class Origins:
    """Which mask tells of a tensor that is made of some of the inputs; these are bits of a number.

    `named`: the inputs by name; `masks`: (batch, positions) each, by the same names.
    """

    def __init__(self, named: Mapping[str, Any], masks: Mapping[str, Tensor]):
        inputs = [(n, t) for n, t in named.items() if isinstance(t, Tensor) and n not in masks]
        self.bits: list[tuple[Tensor, int]] = [(t, 1 << place) for place, (_, t) in enumerate(inputs)]
        self.all = (1 << len(inputs)) - 1
        self._ranks = [(_rank(name), 1 << place) for place, (name, _) in enumerate(inputs)]
        self._carriers: dict[str, int] = {}
        self._blocked: dict[str, int] = {}
        for name, mask in masks.items():
            fits = [bit for tensor, bit in self.bits if _has_positions(tensor, mask)]
            own = [bit for rank, bit in self._ranks if bit in fits and rank == _rank(name)]
            self._carriers[name] = sum(own or fits) or self.all
            self._blocked[name] = sum(b for rank, b in self._ranks if b in fits and rank > _rank(name))
            if not own:
                self._blocked[name] &= ~self._carriers[name]

    @property
    def followed(self) -> list[tuple[Tensor, int]]:
        """The inputs with their bits, where it matters of which of them a tensor is made; else none."""
        alike = all(bits == self.all for bits in self._carriers.values()) and not any(self._blocked.values())
        return [] if alike and len(self._carriers) == 1 else self.bits

    def guessed(self, layer: str) -> int:
        """Of which inputs what a layer receives is likely to be made; '' for the network's outputs."""
        if not layer or any(part.startswith(SECOND) for part in layer.split(".")):
            return self.all
        return sum(bit for rank, bit in self._ranks if rank < _rank(SECOND[0])) or self.all

    def telling(self, names: Iterable[str], origin: int) -> str | None:
        """Which of the masks of these names tells of a tensor of this origin; None where none does."""
        found = [
            name
            for name in names
            if (origin & self._carriers[name] or not self.all) and not origin & self._blocked[name]
        ]
        return max(found, key=_rank, default=None)


def _rank(name: str) -> int:
    """Whose tokens an argument is of, where an encoder and a decoder have some: the decoder's last."""
    return 0 if name.startswith(OTHER) else 2 if name.startswith(SECOND) else 1


def _has_positions(tensor: Tensor, mask: Tensor) -> bool:
    return mask.shape in (tensor.shape[:2], tensor.shape[:2][::-1])

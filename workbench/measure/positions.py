"""Which positions count: those of tokens that an attention mask does not hide.

Padding is nobody's data. By default the arguments of the network tell, by their names: one number a position,
(batch, positions), called

- `attention_mask`, `encoder_attention_mask` or `decoder_attention_mask`, as in transformers: what is not 0
  counts;
- `key_padding_mask`, `src_key_padding_mask` or another name that ends in `padding_mask`, as in torch: True,
  or −∞, hides.

Rows that are picked from the positions, for experts, are followed (`routing`). A mask between pairs of
positions, (batch, …, positions, positions) or (positions, positions), hides none. A tensor that has not the
mask's positions among its axes, pooled or with another number of them, counts whole. What a recurrent layer
carries from step to step counts where the step does that reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from workbench.data.batches import IGNORED
from workbench.measure.routing import Routing
from workbench.network.groups import features_last
from workbench.network.layers import SPATIAL
from workbench.network.rebuilt.attention import Attention
from workbench.network.rebuilt.recurrent import RecurrentLayer
from workbench.network.running import Inputs, batch_length, is_square, tensors_of
from workbench.network.tensors import named_tensors

Mask: TypeAlias = "str | bool | Callable[[Inputs], Tensor] | None"
"""None: by the arguments' names. False: every position counts. The name of an argument; or a function of a
batch's inputs that returns (batch, positions), True where a position counts."""

VISIBLE = ("attention_mask", "encoder_attention_mask", "decoder_attention_mask")
HIDING = "padding_mask"  # what the names end in
CARRIED = (-1, -1)  # in place of axes: what a recurrent layer carries, (batch, units) at every step
SECOND = ("decoder", "tgt")  # what the name of the mask of a decoder's tokens begins with


class Positions:
    """Tells of each batch which of its positions count."""

    def __init__(self, model: nn.Module, mask: Mask = None):
        """`mask` as `Mask` says. Raises TypeError where it is none of these."""
        if not (mask is None or mask is False or isinstance(mask, str) or callable(mask)):
            raise TypeError(
                f"mask= is {mask!r}; give the name of an argument, a function of a batch's inputs, False "
                "where every position counts, or None"
            )
        self.model, self.mask = model, mask

    @classmethod
    def of_data(cls, model: nn.Module, data: Any) -> Positions:
        """As the data says, by default by the names of the network's arguments."""
        return cls(model, getattr(data, "mask_rule", None))

    def of(self, inputs: Inputs) -> Visible:
        """The positions of a batch that count.

        Raises ValueError where the batch has no argument of the name that was given, or the mask is not one
        number a position.
        """
        if self.mask is False:
            return Visible(self.model, {})
        named = _named(self.model, inputs)
        if isinstance(self.mask, str):
            if not isinstance(named.get(self.mask), Tensor):
                names = ", ".join(name for name, part in named.items() if isinstance(part, Tensor))
                raise ValueError(
                    f"mask={self.mask!r}, but the batch has no tensor of that name; it has {names or 'none'}"
                )
            found = {self.mask: _shown(self.mask, named[self.mask])}
        elif self.mask is not None:
            found = {"mask": self._asked(inputs)}
        else:
            found = {
                name: _shown(name, part)
                for name, part in named.items()
                if (name in VISIBLE or name.endswith(HIDING)) and _is_of_positions(name, part, inputs)
            }
        for name, shown in found.items():
            if shown.dim() != 2:
                raise ValueError(
                    f"the mask {name} is {tuple(shown.shape)}; expected one number a position, (batch, "
                    "positions)"
                )
        hides = any(not bool(shown.all()) for shown in found.values())
        return Visible(self.model, found if hides else {})

    def _asked(self, inputs: Inputs) -> Tensor:
        assert callable(self.mask)
        shown = self.mask(inputs)
        if not isinstance(shown, Tensor) or shown.dtype != torch.bool:
            given = str(shown.dtype) if isinstance(shown, Tensor) else type(shown).__name__
            raise ValueError(
                f"the function mask= returned {given}; expected a tensor of bool, (batch, positions), True "
                "where a position counts"
            )
        return shown


@dataclass(frozen=True)
class Visible:
    """Masks of one batch by name, (batch, positions) bool, True where a position counts; none: all do."""

    model: nn.Module
    masks: Mapping[str, Tensor]
    routed: Routing | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.masks:
            object.__setattr__(self, "routed", Routing(self._known))

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Within: rows that the network picks are followed, where a mask hides any."""
        if self.routed is None:
            yield
            return
        with self.routed:
            yield

    @property
    def nothing(self) -> bool:
        """Whether no position counts."""
        return bool(self.masks) and not any(bool(mask.any()) for mask in self.masks.values())

    def flags(self, shape: tuple[int, ...], layer: str = "", step: int | None = None) -> Tensor | None:
        """Which positions of a tensor count, of `shape`, its axes without that of features.

        `layer`: who receives it; `step`: in which call of a recurrent layer, by default the present one. None
        where all do, or the masks are of other positions.
        """
        fitting = {
            name: axes for name, mask in self.masks.items() if (axes := self._axes(mask, shape, layer))
        }
        if not fitting:
            return None
        # Of two masks of one shape, a decoder's belongs to its layers.
        inside = any(part.startswith(SECOND) for part in layer.split("."))
        name = next((name for name in fitting if name.startswith(SECOND) == inside), next(iter(fitting)))
        mask, (rows, length) = self._directed(self.masks[name], layer), fitting[name]
        if (rows, length) == CARRIED:
            around: Any = self.model.get_submodule(layer.rpartition(".")[0])
            return mask[:, (around.step if step is None else step) % mask.shape[1]]
        if len(shape) == 1:
            return mask.flatten()
        laid = [1] * len(shape)
        laid[rows], laid[length] = mask.shape
        return (mask if rows < length else mask.T).reshape(laid).expand(shape)

    def flags_of(
        self, tensor: Tensor, shape: tuple[int, ...], layer: str = "", step: int | None = None
    ) -> Tensor | None:
        """`flags` of `shape`, the axes of a tensor's positions; those of its rows where these were picked."""
        picked = None if self.routed is None else self.routed.of(tensor)
        if picked is None or picked.shape != shape[:1]:
            return self.flags(shape, layer, step)
        return picked.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)

    def counted(
        self, tensor: Tensor, kind: str, layer: str = "", like: Tensor | None = None, step: int | None = None
    ) -> Tensor:
        """What a layer of `kind` receives, at the positions that count alone: (count, features, *1).

        The tensor itself where all do. `like`: the one that was seen in the pass, which has its positions.
        """
        if not self.masks:
            return tensor
        features = features_last(tensor, kind)
        flags = self.flags_of(tensor if like is None else like, tuple(features.shape[:-1]), layer, step)
        if flags is None:
            return tensor
        picked = features[flags.to(features.device)]  # (count, features)
        return picked.reshape(*picked.shape, *[1] * SPATIAL[kind])

    def targets(self, targets: Tensor) -> Tensor:
        """Whole-number targets, one or more a position: those of hidden ones are marked as not counting."""
        if targets.is_floating_point() or targets.is_complex():
            return targets
        for mask in self.masks.values():
            if targets.shape[:2] == mask.shape:
                hidden = ~mask.reshape(*mask.shape, *[1] * (targets.dim() - 2)).to(targets.device)
                return targets.long().masked_fill(hidden, IGNORED)
        return targets

    def _known(self, tensor: Tensor) -> Tensor | None:
        """`flags` of a tensor; None of the network's own, a table of embeddings say."""
        place = tensor.untyped_storage()._cdata
        if any(place == own.untyped_storage()._cdata for _, own in named_tensors(self.model)):
            return None
        return self.flags(tuple(tensor.shape[:-1]))

    def _axes(self, mask: Tensor, shape: tuple[int, ...], layer: str) -> tuple[int, int] | None:
        """Axes of `shape` that are examples and positions of the mask; (0, 0): one is both; or `CARRIED`."""
        rows, length = mask.shape
        within = self._recurrent(layer)
        if within is not None and layer.endswith(".recurrent"):
            return CARRIED if shape == (rows,) else None
        if len(shape) == 1:
            return (0, 0) if length > 1 and shape[0] == rows * length else None
        found = [(0, axis) for axis in range(1, len(shape)) if (shape[0], shape[axis]) == (rows, length)]
        if shape[:2] == (length, rows):
            found.insert(0 if self._is_sequence_first(layer) else len(found), (1, 0))
        return next(iter(found), None)

    def _recurrent(self, layer: str) -> RecurrentLayer | None:
        """The recurrent layer of which `layer` is a part."""
        around = self.model.get_submodule(layer.rpartition(".")[0])
        return around if isinstance(around, RecurrentLayer) else None

    def _directed(self, mask: Tensor, layer: str) -> Tensor:
        """The mask in the direction in which a recurrent layer goes through positions."""
        within = self._recurrent(layer)
        return mask.flip(1) if within is not None and within.reverse else mask

    def _is_sequence_first(self, layer: str) -> bool:
        """Whether the network has positions before examples at this layer: torch's layers mostly do."""
        around = layer.rpartition(".")[0]
        if isinstance(self.model.get_submodule(around), Attention):
            return False  # within it, examples are first
        return any(getattr(module, "batch_first", True) is False for module in self.model.modules())


def _named(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """The inputs by the names of the network's arguments."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if not isinstance(inputs, tuple):
        return {}
    try:
        taken = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward without a signature
        return {}
    return dict(
        zip((one.name for one in taken if one.kind <= one.POSITIONAL_OR_KEYWORD), inputs, strict=False)
    )


def _is_of_positions(name: str, part: Any, inputs: Inputs) -> bool:
    """One number a position: a row an example, and in transformers' form zeros and whole numbers alone.

    A square matrix is a mask between positions, but where other inputs have its examples and positions.
    """
    if not isinstance(part, Tensor) or part.dim() != 2:
        return False
    begin = [t.shape[:2] for t in tensors_of(inputs) if t is not part]
    fits = part.shape in begin or part.T.shape in begin
    if not fits and (is_square(part) or len(part) != batch_length(inputs)):
        return False
    if name.endswith(HIDING) or not part.is_floating_point():
        return True
    return bool(((part == 0) | (part == 1)).all())


def _shown(name: str, mask: Tensor) -> Tensor:
    """True where a position counts."""
    if not name.endswith(HIDING):
        return mask != 0
    return ~mask if mask.dtype == torch.bool else mask == 0

"""Which positions count: those of tokens that an attention mask does not hide.

Padding is nobody's data. By default the arguments of the network tell, by their names: one number a position,
(batch, positions), called

- `attention_mask`, `encoder_attention_mask` or `decoder_attention_mask`, as in transformers: what is not 0
  counts;
- `key_padding_mask`, `src_key_padding_mask` or another name that ends in `padding_mask`, as in torch: True,
  or −∞, hides.

Axes of one entry, as in (batch, 1, 1, positions), are passed over, and a single row is that of all examples.
A mask that is added, zeros and large negative numbers, shows its zeros.

Rows that are picked from the positions, for experts, are followed (`routing`). A mask between pairs of
positions, (batch, …, positions, positions) or (positions, positions), hides none. A tensor that has not the
mask's positions along one axis, pooled, flattened, with another number of them or along two, counts whole; so
does what is made of other inputs alone (`origins`). What a recurrent layer
carries from step to step counts where the step does that reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from workbench.data.batches import IGNORED, Batches, Rewritten
from workbench.measure.origins import Origins
from workbench.measure.routing import Routing
from workbench.network.groups import features_last
from workbench.network.layers import SPATIAL
from workbench.network.rebuilt.attention import Attention
from workbench.network.rebuilt.recurrent import RecurrentLayer
from workbench.network.running import Inputs, batch_length, is_square, placed_tensors, tensors_of
from workbench.network.tensors import named_tensors

Mask: TypeAlias = "str | bool | Callable[[Inputs], Tensor] | None"
"""None: by the arguments' names. False: every position counts. The name of an argument; or a function of a
batch's inputs that returns (batch, positions), True where a position counts. An argument of another name than
those above is read as `attention_mask` is, or, where it ends in `padding_mask`, as torch's."""

VISIBLE = ("attention_mask", "encoder_attention_mask", "decoder_attention_mask")
HIDING = "padding_mask"  # what the names end in
CARRIED = (-1, -1)  # in place of axes: what a recurrent layer carries, (batch, units) at every step
ADDED = -1e3  # what is added to scores to hide a position is below, in half precision too


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
            laid = _laid(named[self.mask], batch_length(inputs))
            found = {self.mask: _shown(self.mask, laid)}
        elif self.mask is not None:
            found = {"mask": _laid(self._asked(inputs), batch_length(inputs))}
        else:
            found = {
                name: _shown(name, mask)
                for name, part in named.items()
                if (name in VISIBLE or name.endswith(HIDING))
                and (mask := _of_positions(name, part, inputs)) is not None
            }
        for name, shown in found.items():
            if shown.dim() != 2:
                raise ValueError(
                    f"the mask {name} is {tuple(shown.shape)}; expected one number a position, (batch, "
                    "positions)"
                )
        if all(bool(shown.all()) for shown in found.values()):
            return Visible(self.model, {})
        return Visible(self.model, found, Origins(named, found))

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
    origins: Origins = field(default_factory=lambda: Origins({}, {}))

    @cached_property
    def _routed(self) -> Routing | None:
        return Routing(self._known, self.origins.followed) if self.masks else None

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Within: rows that the network picks are followed, where a mask hides any."""
        if self._routed is None:
            yield
            return
        with self._routed:
            yield

    @property
    def nothing(self) -> bool:
        """Whether no position counts."""
        return bool(self.masks) and not any(bool(mask.any()) for mask in self.masks.values())

    def flags(
        self, shape: tuple[int, ...], layer: str = "", step: int | None = None, origin: int | None = None
    ) -> Tensor | None:
        """Which positions of a tensor count, of `shape`, its axes without that of features.

        `layer`: who receives it; `step`: in which call of a recurrent layer, by default the present one;
        `origin`: of which inputs it is made, where that is known. None where all count, or the masks are of
        other positions.
        """
        fitting = {
            name: axes for name, mask in self.masks.items() if (axes := self._axes(mask, shape, layer))
        }
        name = self.origins.telling(fitting, self.origins.guessed(layer) if origin is None else origin)
        if name is None:
            return None
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
        picked = None if self._routed is None else self._routed.of(tensor)
        if picked is None or picked.shape != shape[:1]:
            origin = None if self._routed is None else self._routed.origin(tensor)
            return self.flags(shape, layer, step, origin)
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
        fitting = [name for name, mask in self.masks.items() if targets.shape[:2] == mask.shape]
        name = self.origins.telling(fitting, self.origins.guessed(""))
        if name is None:
            return targets
        hidden = ~self.masks[name].reshape(*targets.shape[:2], *[1] * (targets.dim() - 2)).to(targets.device)
        return targets.long().masked_fill(hidden, IGNORED)

    def _known(self, tensor: Tensor) -> Tensor | None:
        """`flags` of a tensor; None of the network's own, a table of embeddings say."""
        place = tensor.untyped_storage()._cdata
        if any(place == own.untyped_storage()._cdata for _, own in named_tensors(self.model)):
            return None
        origin = None if self._routed is None else self._routed.origin(tensor)
        return self.flags(tuple(tensor.shape[:-1]), origin=origin)

    def _axes(self, mask: Tensor, shape: tuple[int, ...], layer: str) -> tuple[int, int] | None:
        """Axes of `shape` that are examples and positions of the mask; (0, 0): one is both; or `CARRIED`."""
        rows, length = mask.shape
        within = self._recurrent(layer)
        if within is not None and layer.endswith(".recurrent"):
            return CARRIED if shape == (rows,) else None
        if len(shape) == 1:
            return (0, 0) if length > 1 and shape[0] == rows * length else None
        found = [(0, axis) for axis in range(1, len(shape)) if (shape[0], shape[axis]) == (rows, length)]
        if len(found) > 1:
            return None  # along which of them nobody can tell
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


def with_mask(data: Iterable, mask: Mask) -> Iterable:
    """`data`, from `as_batches`, that says by itself which of its positions count (`Positions.of_data`)."""
    if mask is None:
        return data
    return replace(data, mask_rule=mask) if isinstance(data, Batches) else Rewritten(data, mask_rule=mask)


def _named(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """The inputs by the names of the network's arguments, those within a dictionary of them too."""
    named: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    elif isinstance(inputs, tuple):
        with suppress(TypeError, ValueError):  # a forward without a signature
            taken = inspect.signature(model.forward).parameters.values()
            names = (one.name for one in taken if one.kind <= one.POSITIONAL_OR_KEYWORD)
            named = dict(zip(names, inputs, strict=False))
    within = [
        (str(path[-1]), tensor)
        for part in named.values()
        if not isinstance(part, Tensor)
        for path, tensor in placed_tensors(part)
    ]
    return {**dict(within), **named}


def _of_positions(name: str, part: Any, inputs: Inputs) -> Tensor | None:
    """The mask as (batch, positions), where it is one: in transformers' form not of fractions.

    A square matrix is a mask between positions, but where other inputs have its examples and positions.
    """
    if not isinstance(part, Tensor):
        return None
    begin = [t.shape[:2] for t in tensors_of(inputs) if t is not part]
    mask = _laid(part, batch_length(inputs))
    if mask.dim() != 2 or (len(part) == 1 and mask.shape not in begin):
        return None
    fits = mask.shape in begin or mask.T.shape in begin
    if not fits and (is_square(mask) or len(mask) != batch_length(inputs)):
        return None
    if name.endswith(HIDING) or not mask.is_floating_point():
        return mask
    return mask if _is_added(mask) or bool(((mask == 0) | (mask == 1)).all()) else None


def _laid(mask: Tensor, examples: int) -> Tensor:
    """(batch, positions) of a mask that has axes of one entry, or one row for all examples."""
    if mask.dim() > 2 and mask.numel() == len(mask) * max(mask.shape[1:]):
        mask = mask.reshape(len(mask), -1)
    if mask.dim() == 2 and len(mask) == 1 < examples:
        mask = mask.expand(examples, -1)
    return mask


def _is_added(mask: Tensor) -> bool:
    """Whether a mask is added to scores: zeros, where it hides nothing, and large negative numbers."""
    return mask.is_floating_point() and bool(((mask == 0) | (mask < ADDED)).all())


def _shown(name: str, mask: Tensor) -> Tensor:
    """True where a position counts."""
    if not name.endswith(HIDING):
        return mask == 0 if _is_added(mask) else mask != 0
    return ~mask if mask.dtype == torch.bool else mask == 0

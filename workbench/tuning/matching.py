"""How far a pruned network's activations are from the original's, for gradients **[beyond the paper]**."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from workbench.measure.positions import Visible
from workbench.network.groups import Reader, UnitGroup
from workbench.network.running import Inputs, call, main_output, received


@dataclass(frozen=True)
class Pair:
    """One reader as it is in the original network and in the pruned one.

    `units`: which of the original's units are left, in the pruned network's order.
    """

    before: Reader
    now: Reader
    units: tuple[int, ...]


@dataclass(frozen=True)
class Matching:
    """The original network, and every reader whose inputs are to be matched."""

    original: nn.Module
    pairs: tuple[Pair, ...]

    @classmethod
    def of(
        cls,
        original: nn.Module,
        before: Sequence[UnitGroup],
        now: Sequence[UnitGroup],
        units: Mapping[str, Sequence[int]],
    ) -> Matching:
        """`before`, `now`: the groups of both networks; `units`: those of `before` that are left, by name."""
        named = {group.name: group for group in now}
        pairs = [
            Pair(old, new, tuple(units[group.name]))
            for group in before
            if group.name in named
            for old, new in zip(group.readers, named[group.name].readers, strict=True)
        ]
        return cls(original, tuple(pairs))

    def run(
        self, model: nn.Module, inputs: Inputs, visible: Visible | None = None
    ) -> tuple[Any, Any, Tensor]:
        """Both networks' main outputs, and the distance, a scalar of which gradients go to `model` alone.

        The distance is the mean of E‖φ_J − φ♯‖²/E‖φ_J‖² over all readers, φ_J what a reader receives in the
        original, of the units that are left and in all its calls, φ♯ what it receives now, and of the same
        for the outputs. `visible`: which positions count, all by default.
        """
        shown = visible or Visible(self.original, {})
        read = [pair.before.module for pair in self.pairs]
        with torch.no_grad(), shown.followed(), _received(self.original, read) as wanted:
            target = main_output(call(self.original, inputs))
        with _received(model, [p.now.module for p in self.pairs]) as found:
            output = main_output(call(model, inputs))
        ours, theirs = (shown.counted(one, "Linear", like=target) for one in (output, target))
        terms = [_relative([ours], [theirs])]
        for pair in self.pairs:
            units, old, new = torch.tensor(pair.units), pair.before, pair.now
            whole, pruned = wanted[old.module], found[new.module]
            if len(whole) != len(pruned):
                raise ValueError(
                    "a layer is called more often in one of the two networks: they cannot be matched"
                )
            before = [
                old.features(shown.counted(one, old.kind, old.module, step=step), units)
                for step, one in enumerate(whole)
            ]
            after = [  # of the whole network's tensor it is known of what it is made
                new.features(shown.counted(one, new.kind, new.module, its, step))
                for step, (one, its) in enumerate(zip(pruned, whole, strict=True))
            ]
            terms.append(_relative(after, before))
        return output, target, torch.stack(terms).mean()


def _relative(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Squared distance over the squared length of what is wanted, both summed; nothing where that is zero."""
    length = sum((torch.linalg.vector_norm(one).square() for one in wanted), torch.zeros(()))
    pairs = zip(found, wanted, strict=True)
    distance = sum((mse_loss(mine, its, reduction="sum") for mine, its in pairs), torch.zeros(()))
    return distance / length if length > 0 else distance * 0


@contextmanager
def _received(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What each layer receives in every call of it, while the context lasts."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def watch(name: str) -> Any:
        def note(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            seen[name].append(received(args, kwargs))

        return model.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)

    handles = [watch(name) for name in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

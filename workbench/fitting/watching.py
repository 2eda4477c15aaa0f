"""Watching layers during forward passes: their inputs, their outputs, and the additions they run into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from workbench.measure.passes import ActivationError, run_batch, traced
from workbench.network.modes import Watching
from workbench.network.running import Inputs, evaluating, hook_after, received

_ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass(eq=False)
class LayerCall:
    """One call of `layer`. `output` is None where only inputs were asked for.

    `other` is the other operand of the addition that the output runs into, a residual stream say: directly,
    or behind one batch norm, whose factor γ/σ a channel is then `scale`, (outputs,). None without an
    addition, and where the other operand was itself computed from the output.
    """

    layer: str
    inputs: Tensor
    output: Tensor | None = None
    other: Tensor | None = None
    scale: Tensor | None = None
    marks: list[_Mark] = field(default_factory=list)
    depends: set[StorageWeakRef] = field(default_factory=set)


class _Mark:
    """A tensor to be known again: the layer's output, or that output behind its norm."""

    def __init__(self, tensor: Tensor, scale: Tensor | None):
        self.tensor, self.version, self.scale = tensor, tensor._version, scale

    def fits(self, other: Any) -> bool:
        """The same memory, seen the same way, not written to since (an in-place ReLU)."""
        return (
            isinstance(other, Tensor)
            and other.shape == self.tensor.shape
            and other.stride() == self.tensor.stride()
            and other.data_ptr() == self.tensor.data_ptr()
            and other._version == self.version
        )


class _Enough(BaseException):
    """All that was wanted of this forward pass has been seen. No error, so `except Exception` passes it."""


class Watch:
    """What layers of a network are called with, batch by batch; made by `watching`.

    Set `stop` where it is one layer, known to be called once a pass: the pass then ends as soon as everything
    wanted has been seen. `additions` may be switched off once it is known that there are none.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], outputs: bool, additions: bool):
        self.network, self.names, self.outputs, self.additions = network, tuple(names), outputs, additions
        self.stop = False
        self._calls: list[LayerCall] | None = None  # None: this pass is not ours to watch

    def run(self, inputs: Inputs, index: int) -> list[LayerCall]:
        """One forward pass over a batch.

        Args:
            inputs: the batch, on the network's device.
            index: its number, for messages.

        Returns:
            The watched layers' calls, in the order of running.

        Raises:
            ValueError: the batch does not go through, or a layer gets or gives NaN or Inf.
        """
        calls: list[LayerCall] = []
        self._calls = calls
        try:
            with torch.no_grad(), _Additions(self) if self.additions else nullcontext():
                run_batch(self.network, inputs, index)
        except _Enough:
            pass
        finally:
            self._calls = None
        for seen in calls:
            seen.marks, seen.depends = [], set()
            if not all(_finite(t) for t in (seen.inputs, seen.output) if t is not None):
                error = ActivationError(
                    f"calibration batch {index} has NaN or Inf at layer {seen.layer}: check that batch, and "
                    "the weights before that layer"
                )
                raise traced(error, inputs, index)
        return calls

    def hooks(self) -> Iterator[Any]:
        """Register every hook; yields the handles."""
        for name in self.names:
            layer = self.network.get_submodule(name)
            yield layer.register_forward_pre_hook(partial(self._received, name), with_kwargs=True)
            if self.outputs:
                yield hook_after(layer, partial(self._gave, name))
        if self.additions:
            for module in self.network.modules():
                # Without running statistics a norm is not one factor a channel.
                if isinstance(module, _BatchNorm) and module.running_var is not None:
                    yield module.register_forward_hook(self._normalised)

    def _received(self, name: str, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._calls is None:
            return
        # A copy, because what follows may write into it.
        self._calls.append(LayerCall(name, received(args, kwargs).detach().clone()))
        if self.stop and not self.outputs:
            raise _Enough

    def _gave(self, name: str, _module: nn.Module, _args: tuple, _kwargs: Any, output: Tensor) -> None:
        if self._calls is None:
            return
        last = next(seen for seen in reversed(self._calls) if seen.layer == name)
        last.output = output.detach().clone()
        if self.additions and not output.is_inference():  # those have no version to know them by
            last.marks.append(_Mark(output, None))
            last.depends.add(StorageWeakRef(output.untyped_storage()))
        elif self.stop:
            raise _Enough

    def _normalised(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        for seen in self._calls or ():
            if args and any(mark.scale is None and mark.fits(args[0]) for mark in seen.marks):
                seen.marks.append(_Mark(output, _factor(module)))

    def meets(self, operands: tuple) -> None:
        """Look for a watched output among the operands of an addition; ends the pass where that was all."""
        for seen in self._calls or ():
            for own, other in (operands[:2], operands[1::-1]):
                mark = next((mark for mark in seen.marks if mark.fits(own)), None)
                if mark is None or not isinstance(other, Tensor) or _depends(other, seen):
                    continue
                seen.other, seen.scale = other.detach().clone(), mark.scale
                seen.marks = []
                if self.stop:
                    raise _Enough
                break

    def follow(self, inputs: Any, outputs: Any) -> None:
        """Note what is computed, from `inputs` to `outputs`, from a watched output."""
        for seen in self._calls or ():
            if seen.marks and any(isinstance(t, Tensor) and _depends(t, seen) for t in tree_leaves(inputs)):
                made = [t for t in tree_leaves(outputs) if isinstance(t, Tensor)]
                seen.depends |= {StorageWeakRef(t.untyped_storage()) for t in made}


class _Additions(Watching):
    """Shows every operation of a forward pass to a watch."""

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _ADDITIONS and kwargs.get("alpha", 1) == 1:
            self.watch.meets(args)
        outputs = func(*args, **kwargs)
        self.watch.follow((args, kwargs), outputs)
        return outputs


@contextmanager
def watching(
    network: nn.Module, *names: str, outputs: bool = False, additions: bool = False
) -> Iterator[Watch]:
    """Within: the network is in evaluation mode and its layers are watched; both undone at the end.

    Args:
        network: to be run by `Watch.run`.
        names: of the layers.
        outputs: whether what they give is wanted too.
        additions: whether the other operands are wanted, of the additions that their outputs run into.

    Yields:
        The watch.
    """
    watch = Watch(network, names, outputs, additions)
    handles = []
    try:
        for handle in watch.hooks():
            handles.append(handle)
        with evaluating(network):
            yield watch
    finally:
        for handle in handles:
            handle.remove()


def _depends(tensor: Tensor, seen: LayerCall) -> bool:
    return StorageWeakRef(tensor.untyped_storage()) in seen.depends


def _finite(tensor: Tensor) -> bool:
    # A sum shows NaN and Inf several times faster than a look at each value, but may itself overflow.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _factor(norm: Any) -> Tensor:
    """γ/σ of a batch norm in evaluation mode, (channels,)."""
    factor = (norm.running_var + norm.eps).rsqrt()  # 1/σ   (channels,)
    return factor if norm.weight is None else factor * norm.weight.detach()

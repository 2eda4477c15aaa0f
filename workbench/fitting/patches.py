"""Patches: how a layer cuts its input into the samples that its weight multiplies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.network.layers import CONVOLUTIONS, SPATIAL, TRANSPOSED, kind_of
from workbench.network.running import Inputs, call, evaluating, tensors_of

# Float64 values cut out at a time. 8 MB stays near the processor's cache and is twice as fast as 64 MB;
# a wide layer still gets `_LEAST` samples a product, within 64 MB, lest its Gram matrix be read too often.
_CHUNK, _LARGEST_CHUNK, _LEAST = 1 << 20, 1 << 23, 1024


@dataclass(frozen=True)
class PatchLayer:
    """A linear layer seen as one matrix: targets = matrix · patch.

    A patch holds channels·`patch` features, channel-major. A convolution's patch is its kernel's window; a
    Linear layer's is the vector of its features. A transposed convolution whose blocks do not overlap takes
    one position and gives a `block` of kernel positions for every output.

    `grid_axes` is the number of axes that count samples: examples, then output (for a transposed
    convolution, input) positions.
    """

    name: str
    kind: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    padding_mode: str = "constant"
    transposed: bool = False

    @classmethod
    def of(cls, network: nn.Module, name: str) -> PatchLayer:
        """A layer of a network, seen that way.

        Args:
            network: in which the layer is.
            name: of the layer.

        Returns:
            How it cuts its input into patches.

        Raises:
            ValueError: a layer whose output is not one matrix times its patches, naming it.
        """
        module: Any = network.get_submodule(name)
        kind = kind_of(module)
        if kind not in SPATIAL:
            raise ValueError(
                f"layer {name} is a {kind}; patches are known for {', '.join(SPATIAL)}: choose 'channel'"
            )
        if not SPATIAL[kind]:
            return cls(name, kind)
        if module.groups > 1:
            raise ValueError(
                f"layer {name} is a {kind} in {module.groups} groups, which reads channels group by group; "
                "patches are fitted for ungrouped convolutions only: choose 'channel'"
            )
        if isinstance(module, TRANSPOSED):
            _check_blocks(module, name)
            return cls(name, kind, module.kernel_size, module.stride, transposed=True)
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        return cls(name, kind, module.kernel_size, module.stride, module.dilation, _pads(module), mode)

    @classmethod
    def known(cls, network: nn.Module, name: str) -> bool:
        """Whether `PatchLayer.of` knows a layer.

        Args:
            network: in which the layer is.
            name: of the layer.

        Returns:
            False where its output is not one matrix times its patches.
        """
        try:
            cls.of(network, name)
        except ValueError:
            return False
        return True

    @property
    def grid_axes(self) -> int:
        """How many axes count samples: examples and output positions."""
        return 1 + SPATIAL[self.kind]

    @property
    def patch(self) -> int:
        """Features a channel in a patch."""
        return 1 if self.transposed else math.prod(self.kernel)

    @property
    def block(self) -> int:
        """Targets an output channel at one sample."""
        return math.prod(self.kernel) if self.transposed else 1

    def windows(self, inputs: Tensor, channels: Tensor | None = None) -> Tensor:
        """The patches of the layer's input, as a view.

        Args:
            inputs: what the layer receives.
            channels: which input channels (features of a Linear layer), in this order; None for all.

        Returns:
            (examples, *positions, channels, *kernel).
        """
        if not self.kernel:
            features = inputs.reshape(-1, inputs.shape[-1])  # (samples, features)
            return features if channels is None else features[:, channels.to(features.device)]
        x = self._batched(inputs)  # (examples, channels, *sizes)
        if channels is not None:
            x = x.index_select(1, channels.to(x.device))
        if self.transposed:
            return x.movedim(1, -1)  # (examples, *positions, channels)
        if any(self.pads):
            x = functional.pad(x, self.pads, mode=self.padding_mode)
        for axis, (size, step, spread) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=2
        ):
            x = x.unfold(axis, spread * (size - 1) + 1, step)[
                ..., ::spread
            ]  # one axis of the kernel at the end
        return x.movedim(1, self.grid_axes)  # (examples, *positions, channels, *kernel)

    def targets(self, outputs: Tensor) -> Tensor:
        """The layer's output as a view that goes with `windows`: (examples, *positions, outputs, *block)."""
        if not self.kernel:
            return outputs.reshape(-1, outputs.shape[-1])
        y = self._batched(outputs)  # (examples, outputs, *sizes)
        if not self.transposed:
            return y.movedim(1, -1)  # (examples, *positions, outputs)
        spatial = len(self.kernel)
        for axis, size in reversed(list(enumerate(self.kernel, start=2))):
            y = y.unflatten(axis, (-1, size))  # (examples, outputs, positions, block, positions, block, …)
        positions = [2 + 2 * axis for axis in range(spatial)]
        return y.permute(0, *positions, 1, *(position + 1 for position in positions))

    def matrix_of(self, weight: Tensor) -> Tensor:
        """A weight (outputs, channels, kernel positions) as the matrix (targets, features)."""
        # (outputs·block, channels), or (outputs, channels·kernel)
        return weight.transpose(1, 2).flatten(0, 1) if self.transposed else weight.flatten(1)

    def weight_of(self, matrix: Tensor, outputs: int) -> Tensor:
        """The inverse of `matrix_of`.

        Args:
            matrix: (targets, features).
            outputs: how many outputs the layer has.

        Returns:
            (outputs, channels, kernel positions).
        """
        if self.transposed:
            return matrix.reshape(outputs, self.block, -1).transpose(1, 2)
        return matrix.reshape(outputs, -1, self.patch)

    def _batched(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.dim() == self.grid_axes + 1 else tensor[None]


def matrix(view: Tensor, index: tuple, grid_axes: int) -> Tensor:
    """The samples of a view at one place.

    Args:
        view: of `PatchLayer.windows` or `PatchLayer.targets`.
        index: one of `pieces`.
        grid_axes: how many axes of the view count samples.

    Returns:
        (features, samples) float64.
    """
    part = view[index]
    if isinstance(index[0], Tensor):
        return part.flatten(1).T.to(torch.float64)
    # Positions last: they lie side by side in memory, and copying runs along them.
    order = (*range(grid_axes, part.dim()), *range(grid_axes))
    values = part.permute(order).to(torch.float64, memory_format=torch.contiguous_format)
    return values.reshape(math.prod(part.shape[grid_axes:]), math.prod(part.shape[:grid_axes]))


def pieces(grid: tuple[int, ...], features: int, picked: Tensor | None = None) -> Iterator[tuple]:
    """Indices that together go through all samples, a bounded chunk at a time.

    Args:
        grid: (examples, *positions).
        features: values a sample.
        picked: flat numbers of the samples wanted, (n,) int64; None for all.

    Yields:
        An index into (examples, *positions).
    """
    most = max(1, _CHUNK // features, min(_LEAST, _LARGEST_CHUNK // features))
    if picked is not None:
        for part in picked.split(most):
            yield torch.unravel_index(part, grid)
        return
    of_example = math.prod(grid[1:])
    if of_example <= most:
        step = most // max(1, of_example)
        yield from ((slice(start, start + step),) for start in range(0, grid[0], step))
        return
    step = max(1, most // math.prod(grid[2:]))
    for example in range(grid[0]):
        for start in range(0, grid[1], step):
            yield (slice(example, example + 1), slice(start, start + step))


def _check_blocks(module: Any, name: str) -> None:
    overlapping = tuple(module.kernel_size) != tuple(module.stride)
    if overlapping or any(module.padding) or any(module.output_padding) or set(module.dilation) != {1}:
        raise ValueError(
            f"layer {name} is a {kind_of(module)} with kernel {tuple(module.kernel_size)}, stride "
            f"{tuple(module.stride)}, padding {tuple(module.padding)}; its output blocks must neither "
            "overlap nor be cut (kernel equal to stride, no padding) for a fit on patches: choose 'channel'"
        )


def _pads(module: Any) -> tuple[int, ...]:
    """Padding before and after every axis, last axis first, as `functional.pad` takes it."""
    if not isinstance(module, CONVOLUTIONS):
        return ()
    if isinstance(module.padding, str):
        sizes = zip(module.kernel_size, module.dilation, strict=True)
        totals = [spread * (size - 1) if module.padding == "same" else 0 for size, spread in sizes]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(side, side) for side in module.padding]
    return tuple(side for pair in reversed(sides) for side in pair)


def given_several(network: nn.Module, names: Iterable[str], example: Inputs) -> set[str]:
    """The layers that are given more than one tensor a call: of one's own kind, and no matrix times the
    patches of what they are given first.

    Args:
        network: run in evaluation mode, and left as it was.
        names: of the layers that are asked about.
        example: a batch as the network takes it, on its device.

    Returns:
        Those of `names`.
    """
    found: set[str] = set()
    handles = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, kwargs, name=name: (
                found.add(name) if len(tensors_of((args, kwargs))) > 1 else None
            ),
            with_kwargs=True,
        )
        for name in names
    ]
    try:
        with evaluating(network), torch.no_grad():
            call(network, example)
    finally:
        for handle in handles:
            handle.remove()
    return found

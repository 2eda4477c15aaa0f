"""Images mirrored and shifted at random, so that few of them teach more."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from workbench.network.running import Inputs, mapped, shape_of, tensors_of


def is_image_batch(tensor: Tensor) -> bool:
    """Whether `tensor` has the shape of images: (n, channels, height, width), of floating numbers."""
    return tensor.dim() == 4 and tensor.is_floating_point() and min(tensor.shape[2:]) > 1


def augmented(
    inputs: Inputs, flips: bool = False, shifts: int = 0, generator: torch.Generator | None = None
) -> Inputs:
    """`inputs` with their images, (n, channels, height, width), changed at random, each on its own.

    `flips`: half of them are mirrored left to right. `shifts`: each is moved by up to so many pixels up or
    down and left or right; what comes in at an edge is the mirrored image. Several tensors of images change
    alike. Draws from `generator`, by default torch's own.

    Raises ValueError where there are no images, they have several sizes, or are not larger than `shifts`.
    """
    images = [tensor for tensor in tensors_of(inputs) if is_image_batch(tensor)]
    sizes = {(len(tensor), *tensor.shape[2:]) for tensor in images}
    if len(sizes) != 1:
        raise ValueError(
            "flips and shifts are for images of one size, (n, channels, height, width) floating numbers; got "
            f"{shape_of(inputs)}: leave them off"
        )
    count, height, width = sizes.pop()
    if shifts >= min(height, width):
        raise ValueError(f"shifts of up to {shifts} pixels need larger images than {height} × {width}")
    mirrored = torch.rand(count, generator=generator) < 0.5 if flips else None
    offsets = torch.randint(0, 2 * shifts + 1, (2, count), generator=generator) if shifts else None

    def change(tensor: Tensor) -> Tensor:
        if not is_image_batch(tensor):
            return tensor
        if mirrored is not None:
            tensor = torch.where(mirrored.to(tensor.device)[:, None, None, None], tensor.flip(-1), tensor)
        if offsets is not None:
            padded = functional.pad(tensor, (shifts,) * 4, mode="reflect")
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)
            tensor = windows[torch.arange(count), :, offsets[0], offsets[1]]
        return tensor

    return mapped(inputs, change)

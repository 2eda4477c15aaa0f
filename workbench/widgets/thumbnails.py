"""One example as a person sees it: a small picture where it is an image, else a line of its numbers."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from workbench.data.legend import Legend
from workbench.network.running import tensors_of

SIDE = 96  # pixels of the longer side, at most
SMALLEST = 4  # pixels of a side that is one of an image
LISTED = 12  # numbers of what is no image
STRETCHED = "stretched"  # from the least number of the image to the largest, where its pixels are not known
CHANNELS = (1, 3)


def shown_example(inputs: Any, legend: Legend) -> dict[str, str]:
    """One example for the page.

    Args:
        inputs: of one example, each tensor (1, …), as `measure.answers.examples_at` gives them.
        legend: of the data.

    Returns:
        "image", a PNG as a data URL, with "how" it was made, "" or `STRETCHED`; else "text", a line.
    """
    tensors = tensors_of(inputs)
    for tensor in tensors:
        image = as_image(tensor)
        if image is not None:
            pixels, how = in_pixels(image, legend)
            return {"image": data_url(pixels), "how": how}
    return {"text": "; ".join(in_words(tensor) for tensor in tensors[:2]) or "no numbers"}


def as_image(tensor: Tensor) -> Tensor | None:
    """(channels, height, width), 1 or 3 channels, of an example (1, …) that is an image; else None."""
    if tensor.is_complex() or tensor.dtype == torch.bool or not tensor.dim() or len(tensor) != 1:
        return None
    one = tensor[0]
    if one.dim() == 2 and one.shape[0] == one.shape[1] and len(one) > SMALLEST:
        one = one[None]
    elif one.dim() == 3 and one.shape[0] not in CHANNELS and one.shape[2] in CHANNELS:
        one = one.permute(2, 0, 1)
    if one.dim() != 3 or min(one.shape[1:]) < SMALLEST:
        return None
    return one if len(one) in CHANNELS else one[:1]


def in_pixels(image: Tensor, legend: Legend) -> tuple[Tensor, str]:
    """`image` in 0–1 units as the legend says, or as they are; else stretched. With how it was done."""
    numbers = image.detach().cpu()
    known = legend.pixels(numbers)
    if known is None:
        if numbers.dtype == torch.uint8:
            known = numbers.float() / 255
        elif bool(((numbers >= 0) & (numbers <= 1)).all()):
            known = numbers.float()
    if known is not None:
        return known.clamp(0, 1), ""
    numbers = numbers.float().nan_to_num(0.0, 0.0, 0.0)
    low, high = numbers.amin(), numbers.amax()
    return ((numbers - low) / (high - low) if high > low else torch.full_like(numbers, 0.5)), STRETCHED


def data_url(pixels: Tensor) -> str:
    """(channels, height, width) in 0–1 units as a PNG, no longer than `SIDE`."""
    array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    found = io.BytesIO()
    picture.save(found, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(found.getvalue()).decode()


def in_words(tensor: Tensor) -> str:
    """Shape and first numbers: "7 × 11 numbers, −2.1 to 1.8: 0.31 −1.2 …"."""
    one = tensor[0] if tensor.dim() and len(tensor) == 1 else tensor
    flat = one.detach().cpu().flatten()
    size = " × ".join(str(side) for side in one.shape) or "1"
    if one.is_floating_point():
        least, most = (float(flat.min()), float(flat.max())) if flat.numel() else (0.0, 0.0)
        numbers = [f"{value:.3g}" for value in flat[:LISTED].tolist()]
        what = f"{size} numbers, {least:.3g} to {most:.3g}"
    else:
        numbers = [str(value) for value in flat[:LISTED].tolist()]
        what = f"{size} {'numbers' if one.is_complex() else 'whole numbers'}"
    more = " …" if flat.numel() > LISTED else ""
    return f"{what}: {' '.join(numbers)}{more}".replace("-", "−")

"""Images as a model takes them: decoded, resized, cropped, in 0–1 units, normalised."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from workbench.data.bounds import ODD_ERRORS, FileError
from workbench.data.image_trees import ImageTree
from workbench.data.progress import Progress
from workbench.network.running import one_line

REPORT_EVERY = 500  # images between two progress reports
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
LARGEST_PIXELS = 1 << 26  # of one image: 8,192 × 8,192
MOST_SCANS = 200  # of one JPEG; each is a pass over all of its pixels
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
LARGEST_DATA = 4 << 30  # bytes that the inputs of one data set may take as float32
CHUNK = 256  # images that are converted at a time
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow converts


@dataclass(frozen=True)
class Look:
    """What is done to every image, checked as it is made (ValueError).

    `size`: the length of the shorter side, or (height, width); `crop`: (height, width) from the centre;
    `mean`, `std`: subtracted and divided by, in 0–1 units, one number or one a channel; `()` for none.
    """

    size: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int | None = None

    @classmethod
    def of(cls, size: Any = None, crop: Any = None, mean: Any = None, std: Any = None) -> Look:
        """From what a person gives. A sequence of 3 means makes images RGB, one of 1 greyscale.

        Args:
            size: the length of the shorter side, or (height, width), pixels; None: as they are.
            crop: the side of a square, or (height, width), pixels; None: no crop.
            mean: subtracted, in 0–1 units, a number or one a channel; None: nothing.
            std: divided by, the same.

        Returns:
            The look, checked.

        Raises:
            ValueError: a side that is no positive whole number, a number that is not finite, a `std` that is
                not positive, or as many means as there are not stds.
        """
        sides = None if size is None else _sides("size", size)
        side = sides[0] if sides is not None and not isinstance(size, Sequence) else sides
        means, stds = _numbers("mean", mean), _numbers("std", std)
        listed = {len(values) for values in (means, stds) if isinstance(values, tuple)}
        means, stds = (v if isinstance(v, tuple) else () if v is None else (v,) for v in (means, stds))
        if any(not value > 0 for value in stds):
            raise ValueError(f"std must be positive, got {std!r}")
        if len(listed) > 1:
            raise ValueError(f"mean and std must have one number a channel each, got {mean!r} and {std!r}")
        return cls(side, None if crop is None else _sides("crop", crop), means, stds, *listed)

    @property
    def moves_pixels(self) -> bool:
        """Whether images are resized or cropped."""
        return self.size is not None or self.crop is not None

    def check_image_units(self) -> None:
        """Check that the look fits images in 0–1 units.

        Raises:
            ValueError: means or stds of other than 1 or 3 channels, or in the units 0–255.
        """
        if self.channels not in (None, 1, 3):
            raise ValueError(
                f"mean and std of images take 1 or 3 numbers, one a channel; got {self.channels}"
            )
        if any(abs(value) > 1 for value in self.mean):
            raise ValueError(
                f"the mean {self.mean} lies outside of 0–1, the units of pixels here: divide mean and std "
                "by 255"
            )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size of an image after `size`.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.

        Returns:
            (height, width), pixels.

        Raises:
            ValueError: more pixels than one image may have.
        """
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            tall, wide = self.size
        else:
            short = min(height, width)
            tall, wide = (int(self.size * side / short) for side in (height, width))
        if tall * wide > LARGEST_PIXELS:
            raise ValueError(f"resized, an image would have {tall} × {wide} pixels: give a smaller size")
        return tall, wide

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where the crop lies in an image.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.

        Returns:
            (top, left, height, width), pixels.

        Raises:
            ValueError: the crop is larger than the image.
        """
        tall, wide = self.crop or (height, width)
        if tall > height or wide > width:
            raise ValueError(
                f"the crop {tall} × {wide} is larger than the image, {height} × {width}: give a smaller crop "
                "or a larger size"
            )
        return round((height - tall) / 2), round((width - wide) / 2), tall, wide


def read_images(
    tree: ImageTree, chosen: Sequence[int], look: Look, progress: Progress | None = None
) -> Tensor:
    """Images of a tree, decoded, resized (bilinear, antialiased) and cropped.

    Greyscale images stay so (1 channel) where all of them are and `look` does not ask for 3 channels.

    Args:
        tree: where they are.
        chosen: their indices in the tree.
        look: what is done to each.
        progress: called as ``progress(done, total, what)`` with images.

    Returns:
        (n, channels, height, width) uint8.

    Raises:
        ValueError: naming an image that cannot be decoded, or two that differ in size; or more memory than
            one data set may take.
    """
    look.check_image_units()
    images: list[np.ndarray] = []
    for done, index in enumerate(chosen):
        image = decode(tree, tree.names[index], look)
        if not images:
            check_memory(len(chosen), (3 if image.ndim == 3 else 1) * image.shape[0] * image.shape[1])
        elif image.shape[:2] != images[0].shape[:2]:
            raise ValueError(
                f"{tree.where}: {tree.names[chosen[0]]} is {_by(images[0])} pixels, {tree.names[index]} "
                f"{_by(image)}: give size and crop so that all are alike, or leave that one out"
            )
        images.append(image)
        if progress is not None and ((done + 1) % REPORT_EVERY == 0 or done + 1 == len(chosen)):
            progress(done + 1, len(chosen), f"reading images from {tree.where}")
    channels = look.channels or max(3 if image.ndim == 3 else 1 for image in images)
    out = np.empty((len(images), channels, *images[0].shape[:2]), np.uint8)
    for index, image in enumerate(images):
        out[index] = image.transpose(2, 0, 1) if image.ndim == 3 else image  # grey fills every channel
    return torch.from_numpy(out)


def decode(tree: ImageTree, name: str, look: Look) -> np.ndarray:
    """One image, resized and cropped.

    Args:
        tree: where it is.
        name: of its file.
        look: what is done to it.

    Returns:
        (height, width) uint8 where it is grey, (height, width, 3) where it is not.

    Raises:
        FileError: naming the image, where it cannot be decoded, has more than 8 bits a number or too many
            pixels, or is smaller than the crop.
    """
    try:
        content = tree.read(name)
        if content.startswith(_JPEG) and content.count(_SCAN) > MOST_SCANS:
            raise ValueError(f"it has more than {MOST_SCANS} scans, which no camera or program writes")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ValueError(f"it has {image.width} × {image.height} pixels, too many for one image")
            if image.mode[0] in "IF":
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode}): convert them to 8")
            grey = image.mode in ("1", "L", "LA") if look.channels is None else look.channels == 1
            plain = image.convert("L" if grey else "RGB")
        height, width = look.resized(plain.height, plain.width)
        if (height, width) != (plain.height, plain.width):
            plain = plain.resize((width, height), Image.Resampling.BILINEAR)
        top, left, tall, wide = look.box(height, width)
        return np.asarray(plain.crop((left, top, left + wide, top + tall)))
    except (OSError, ValueError, Image.DecompressionBombError, *ODD_ERRORS) as error:
        raise FileError(f"the image {name} in {tree.where} cannot be read: {one_line(error)}") from error


def as_inputs(pixels: Tensor, look: Look) -> Tensor:
    """Bytes as a model's inputs: resized and cropped, divided by 255, normalised.

    Args:
        pixels: (n, channels, height, width) uint8.
        look: what is done to them.

    Returns:
        (n, channels, height, width) float32.

    Raises:
        ValueError: the crop, the channels or the memory do not suffice.
    """
    look.check_image_units()
    count, channels, height, width = pixels.shape
    _, _, tall, wide = look.box(*look.resized(height, width))
    wanted = look.channels or channels
    if wanted not in (channels, 3 if channels == 1 else 1) or (wanted == 1 and channels not in (1, 3)):
        raise ValueError(f"the images have {channels} channels, but mean and std are given for {wanted}")
    check_memory(count, wanted * tall * wide)
    out = torch.empty(count, wanted, tall, wide, device=pixels.device)
    for start in range(0, count, CHUNK):
        part = moved_pixels(pixels[start : start + CHUNK].float() / 255, look)
        if wanted < channels:
            shares = torch.tensor(LUMINANCE, device=part.device).view(1, 3, 1, 1)
            part = (part * shares).sum(1, keepdim=True)  # 0.299 R + 0.587 G + 0.114 B   (n, 1, h, w)
        out[start : start + CHUNK] = normalised(part.expand(-1, wanted, -1, -1), look)
    return out


def moved_pixels(images: Tensor, look: Look) -> Tensor:
    """Images resized (bilinear, antialiased) and cropped.

    Args:
        images: (n, channels, height, width), floating.
        look: of which `size` and `crop` are used.

    Returns:
        (n, channels, height, width), of the new size.

    Raises:
        ValueError: the crop is larger than the image.
    """
    height, width = look.resized(*images.shape[2:])
    if (height, width) != tuple(images.shape[2:]):
        images = functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    top, left, tall, wide = look.box(height, width)
    return images[..., top : top + tall, left : left + wide]


def normalised(inputs: Tensor, look: Look) -> Tensor:
    """(x − mean) / std, a number a channel.

    Args:
        inputs: (n, channels, …), floating.
        look: of which `mean` and `std` are used.

    Returns:
        The same shape.

    Raises:
        ValueError: `mean` or `std` has another number of channels.
    """
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    for what, values in (("mean", look.mean), ("std", look.std)):
        if not values:
            continue
        if inputs.dim() < 2 or len(values) not in (1, inputs.shape[1]):
            raise ValueError(
                f"{what} has {len(values)} numbers, but the inputs {tuple(inputs.shape)} have "
                f"{inputs.shape[1] if inputs.dim() > 1 else 'no'} channels"
            )
        numbers = torch.tensor(values, dtype=inputs.dtype, device=inputs.device).view(shape)
        inputs = inputs - numbers if what == "mean" else inputs / numbers
    return inputs


def check_memory(count: int, numbers: int) -> None:
    """Refuse data that is too large to hold.

    Args:
        count: examples.
        numbers: of float32 in each.

    Raises:
        ValueError: it takes more memory than one data set may.
    """
    needed = 4 * count * numbers
    if needed > LARGEST_DATA:
        raise ValueError(
            f"{count:,} examples of {numbers:,} numbers take {needed / 1e9:.1f} GB of memory, the limit is "
            f"{LARGEST_DATA / 1e9:.1f} GB: give limit={LARGEST_DATA // (4 * numbers):,} or less, a smaller "
            "size, or a DataLoader of your own"
        )


def _sides(what: str, value: Any) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    if len(sides) != 2 or not whole:
        raise ValueError(f"{what} must be a positive whole number or two (height, width), got {value!r}")
    return sides


def _numbers(what: str, value: Any) -> float | tuple[float, ...] | None:
    """A number as a float, several as a tuple."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if value is None:
        return None
    values = value if isinstance(value, (tuple, list)) else [value]
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
    if not values or not numbers or not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be a finite number, or one a channel, got {value!r}")
    return tuple(map(float, values)) if isinstance(value, (tuple, list)) else float(value)


def _by(image: np.ndarray) -> str:
    return f"{image.shape[0]} × {image.shape[1]}"

"""Single units as small pictures: kernels or weights, and mean activations. No traits here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.measure.maps import mean_maps, unit_weights
from workbench.network.groups import UnitGroup, named_group
from workbench.network.running import tensors_of
from workbench.session.looking import running_network
from workbench.session.session import Session
from workbench.widgets.thumbnails import data_url

LOOKED_AT = 256  # examples over which activations are averaged
TILES = 9  # input channels of a kernel, at most, that are shown
OUTLIERS = 0.005  # share of numbers beyond the scale
COLOURS = 3


def pictures_of(session: Session, name: str, count: int, cancel: Any = None) -> dict[str, Any]:
    """The first `count` units of a group.

    Args:
        session: only looked at.
        name: of the group.
        count: of units.
        cancel: set, it ends the work between two batches.

    Returns:
        "weights" and "maps", PNGs as data URLs, a unit each, or none; "weights_are" and "maps_are", in words.

    Raises:
        ValueError: no such group.
        Cancelled: `cancel` was set.
    """
    group, model = named_group(session.groups, name), running_network(session)
    weights = unit_weights(model, group)
    tiles, words = as_tiles(weights, _image_shape(session, weights))
    values = {"weights": urls(tiles[:count], signed=True), "weights_are": words if len(tiles) else ""}
    maps = mean_maps(model, group, session.calibration, LOOKED_AT, cancel) if group.readers else None
    found = (
        [] if maps is None else urls(maps[:count, None], signed=bool((maps < 0).any()), scale=_scale(maps))
    )
    return values | {"maps": found, "maps_are": _map_words(maps, group) if found else ""}


def as_tiles(weights: Tensor, image: tuple[int, ...] | None = None) -> tuple[Tensor, str]:
    """Weights as pictures.

    Args:
        weights: (m, inputs, *kernel), see `unit_weights`.
        image: (channels, height, width), where the inputs are an image's pixels.

    Returns:
        (m, channels, height, width), 1 or 3 channels, and in words what is shown.
    """
    m = len(weights)
    if not weights.numel():
        return torch.zeros(0, 1, 1, 1), ""
    if image is not None:
        weights = weights.reshape(m, *image)
    if weights.dim() > 4:  # the middle slice of a volume
        weights = weights[:, :, weights.shape[2] // 2]
    if weights.dim() == 3 and weights.shape[2] > 1 and weights.shape[1] > 1:
        return weights[:, None].float(), "weights, inputs along the rows"
    if weights.dim() < 4 or weights.shape[2] * weights.shape[3] == 1:
        return _rows_of_weights(weights.reshape(m, -1)), "weights, row by row"
    kernel = "weights as the image" if image is not None else "kernels"
    if weights.shape[1] in (1, COLOURS):
        return weights.float(), kernel + (" in its colours" if weights.shape[1] == COLOURS else "")
    shown = min(TILES, weights.shape[1])
    return _strongest(weights, shown), f"kernels of the {shown} input channels that weigh most"


def _strongest(weights: Tensor, shown: int) -> Tensor:
    """The kernels of the input channels with the largest norms, in their order, side by side."""
    m, _, height, width = weights.shape
    norms = weights.flatten(2).norm(dim=2)
    chosen = norms.topk(shown, dim=1).indices.sort(dim=1).values  # (m, shown)
    kernels = weights.gather(1, chosen[:, :, None, None].expand(-1, -1, height, width)).float()
    columns = min(3, shown)
    rows = -(-shown // columns)
    sheet = torch.zeros(m, 1, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for i in range(shown):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[:, 0, top : top + height, left : left + width] = kernels[:, i]
    return sheet


def _rows_of_weights(weights: Tensor) -> Tensor:
    """(m, inputs) as pictures about as wide as high, zeros behind the last."""
    m, inputs = weights.shape
    columns = max(1, round(inputs**0.5))
    rows = -(-inputs // columns)
    sheet = torch.zeros(m, rows * columns)
    sheet[:, :inputs] = weights
    return sheet.reshape(m, 1, rows, columns)


def urls(pictures: Tensor, signed: bool, scale: float | None = None) -> list[str]:
    """(m, channels, height, width) as PNGs on one scale: 0 is black, or the middle grey of what has signs."""
    if not len(pictures):
        return []
    numbers = pictures.double() / (scale or _scale(pictures) or 1.0)
    return [data_url(one) for one in (0.5 + numbers / 2 if signed else numbers).clamp(0, 1)]


def _scale(numbers: Tensor) -> float:
    """The size that all but a few stay below, the largest where these are not there."""
    sizes = numbers.abs().flatten().double()
    rank = max(1, round((1 - OUTLIERS) * len(sizes)))
    found = float(sizes.kthvalue(rank).values)
    return found if found > 0 else float(sizes.max())


def _image_shape(session: Session, weights: Tensor) -> tuple[int, ...] | None:
    """The shape of the inputs, where the weights of a layer stand on their pixels."""
    inputs = [t for t in tensors_of(session.example_input) if t.dim() == 4 and t.is_floating_point()]
    if len(inputs) != 1 or weights.dim() != 2:
        return None
    shape = tuple(inputs[0].shape[1:])
    return shape if inputs[0][0].numel() == weights.shape[1] and shape[0] in (1, COLOURS) else None


def _map_words(maps: Tensor | None, group: UnitGroup) -> str:
    assert maps is not None
    sides = f"{maps.shape[1]} × {maps.shape[2]}" if maps.shape[1] > 1 else str(maps.shape[2])
    signs = "zero grey" if bool((maps < 0).any()) else "zero black"
    return f"mean activation at {group.readers[0].module}, {sides} places, {signs}"

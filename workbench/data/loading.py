"""Bring your own data: files, arrays, image folders and functions, as batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.arrays import as_tensor, find_idx, is_idx, pair_of, read_idx, read_idx_pair, read_numpy
from workbench.data.batches import BATCH_SIZE, IGNORED, Batches, as_batches
from workbench.data.bounds import FileError, check_file, reading
from workbench.data.factories import (
    call_factory,
    find_factory,
    importable,
    is_factory,
    made_by,
    needed_arguments,
)
from workbench.data.image_trees import open_tree
from workbench.data.images import Look, as_inputs, check_memory, moved_pixels, normalised, read_images
from workbench.data.legend import Legend
from workbench.data.progress import Progress
from workbench.network.running import mapped, tensors_of

TARGET_TYPES = ("classes", "values")
ACCEPTED = "give a folder or .zip of images, an .npy, .npz or IDX file, or MODULE:FACTORY, which returns data"
TWICE = "targets are given twice, in the data and by the option targets: leave one out"
Size = int | Sequence[int]
Numbers = float | Sequence[float]


@dataclass(frozen=True)
class _Wishes:
    """The options of `load_data` as they were given, checked."""

    look: Look
    limit: int | None
    targets: Any
    batch_size: int
    seed: int
    split: str | None
    target_type: str | None
    progress: Progress | None

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be a whole number, got {self.seed!r}")
        if self.target_type not in (None, *TARGET_TYPES):
            raise ValueError(f"target_type must be 'classes' or 'values', got {self.target_type!r}")

    @property
    def any_given(self) -> bool:
        others = (self.limit, self.targets, self.split, self.target_type)
        return self.look != Look() or any(option is not None for option in others)


def load_data(
    source: Any,
    *,
    size: Size | None = None,
    crop: Size | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    limit: int | None = None,
    targets: Any = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    split: str | None = None,
    target_type: str | None = None,
    progress: Progress | None = None,
) -> Any:
    """Data of one's own, as batches of (inputs, targets).

    Whatever has whole bytes in three or four axes is taken for images, (n, height, width) or (n, channels,
    height, width) or channels last: inputs are then float32 in 0–1 units, not normalised unless asked. Other
    inputs stay as they are, but float64 of NumPy becomes float32.

    Args:
        source: a tensor or array of inputs (n, …), a pair (inputs, targets) of them, or tensors in a
            dictionary (see `as_batches`); the path of an `.npy` or `.npz` file (see `read_numpy`), of an IDX
            file or a folder of them, of a folder of images or a `.zip` of one (see `open_tree`); the name
            'package.module:factory' or 'file.py:factory' of what gives one of these; a DataLoader, or any
            iterable of batches that can be gone through again, to which no option applies.
        size: the shorter side of images, or (height, width).
        crop: the same, cut from the centre.
        mean, std: (x − mean)/std, in 0–1 units for images, a number or one a channel (three make images RGB,
            a list of one makes them grey).
        limit: a random subset of so many, with as many of each class as its share.
        targets: array, sequence or file, where the source has none.
        batch_size: examples a batch.
        seed: fixes the subset.
        split: the subfolder 'train', or the arrays 'x_train'.
        target_type: 'classes' or 'values'; by default whole numbers are classes, others values (regression).
        progress: called as ``progress(done, total, what)`` while images are read.

    Returns:
        `Batches`; a DataLoader or another iterable of batches as it is.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: a file is no regular one, damaged, not finite, or beyond its bounds; the message names it.
        ValueError, TypeError: the data or an option is malformed, empty, not finite or too large; the message
            says which and where. Nothing is unpacked or read that is too large by what it says of itself.
    """
    look = Look.of(size, crop, mean, std)
    return _loaded(source, _Wishes(look, limit, targets, batch_size, seed, split, target_type, progress))


def _loaded(source: Any, wishes: _Wishes) -> Any:
    if isinstance(source, str) and is_factory(source) and not Path(source).exists():
        source = made_by(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(source).expanduser(), wishes)
    pair = pair_of(source)
    if pair is not None:
        if wishes.split is not None:
            raise ValueError(f"split={wishes.split!r} is for files and folders; tensors and arrays have none")
        return _from_arrays(*pair, wishes)
    batches = as_batches(source, "given")
    if isinstance(batches, Batches):
        return _from_batches(batches, wishes)
    if wishes.any_given:
        raise ValueError(
            f"options such as size, mean or limit do not apply to a {type(source).__name__}: do that where "
            "its batches are made"
        )
    return batches


def load_evaluation(source: Any, **options: Any) -> Any:
    """Data to score a model on, or a function of the model that scores it.

    Args:
        source: as for `load_data`; or a function of the model, its own score; or the name 'module:function'
            of one, which needs an argument or returns what can be called.
        options: as for `load_data`.

    Returns:
        As `load_data`; the function as it is.

    Raises:
        FileNotFoundError, ValueError, TypeError: as for `load_data`.
    """
    if isinstance(source, str) and is_factory(source) and not Path(source).exists():
        with importable(source):
            found = find_factory(source)
            if callable(found) and needed_arguments(found):
                return found
            source = call_factory(source, found)
    if callable(source) and not isinstance(source, Iterable):
        return source
    return load_data(source, **options)


def _from_path(path: Path, wishes: _Wishes) -> Batches:
    if not path.is_dir():
        try:
            check_file(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no file or folder {path}: {ACCEPTED}") from error
    idx = find_idx(path, wishes.split) if path.is_dir() else None
    if idx is None and (path.is_dir() or path.suffix.lower() == ".zip"):
        return _from_tree(path, wishes)
    if path.suffix.lower() in (".npy", ".npz"):
        if wishes.split is not None and path.suffix.lower() == ".npy":
            raise ValueError(f"{path} is one array, which has no split {wishes.split!r}")
        pair = read_numpy(path, wishes.split)
    elif idx is not None or is_idx(path):
        pair = read_idx_pair(idx or path, labels=wishes.targets is None)
    else:
        raise FileError(f"{path} is not a kind of data that can be read: {ACCEPTED}")
    with reading(path):
        return _from_arrays(*pair, wishes)


def _from_tree(path: Path, wishes: _Wishes) -> Batches:
    with reading(path), open_tree(path, wishes.split) as tree:
        given = tree.labels if wishes.targets is None else wishes.targets
        targets = _targets(given, len(tree.names), wishes)
        chosen = subset(len(tree.names), targets, wishes.limit, wishes.seed)
        pixels = read_images(tree, chosen.tolist(), wishes.look, wishes.progress)
    inputs = as_inputs(pixels, replace(wishes.look, size=None, crop=None))  # sizes are as wished already
    classes = tree.classes if wishes.targets is None and tree.labels is not None else ()
    legend = _legend(wishes.look, tuple(classes))
    return Batches(inputs, None if targets is None else targets[chosen], wishes.batch_size, legend=legend)


def _legend(look: Look, classes: tuple[str, ...] = ()) -> Legend:
    """Of bytes that became inputs as `look` says."""
    return Legend(classes, look.mean, look.std or (1.0,))


def _from_arrays(inputs: Any, targets: Any, wishes: _Wishes) -> Batches:
    if wishes.targets is not None and targets is not None:
        raise ValueError(TWICE)
    if inputs.ndim == 0:
        raise ValueError("the data is a single number, expected (n, …): an example a row")
    if 0 in inputs.shape:
        raise ValueError(f"the data is empty, of shape {tuple(inputs.shape)}: give at least one example")
    given = _targets(wishes.targets if targets is None else targets, len(inputs), wishes)
    count = min(len(inputs), wishes.limit or len(inputs))
    if isinstance(inputs, np.memmap):  # still on disc
        check_memory(count, inputs[0].size)
    if count < len(inputs):
        chosen = subset(len(inputs), given, count, wishes.seed)
        inputs = inputs[chosen.to(inputs.device)] if isinstance(inputs, Tensor) else inputs[chosen.numpy()]
        given = None if given is None else given[chosen.to(given.device)]
    values = as_tensor(inputs, "input")
    images = _as_images(values)
    values = _changed(values, wishes.look) if images is None else as_inputs(images, wishes.look)
    _check_finite(values, "input")
    legend = Legend() if images is None else _legend(wishes.look)
    return Batches(values, given, wishes.batch_size, legend=legend)


def _from_batches(batches: Batches, wishes: _Wishes) -> Batches:
    """Batches that are there already, or several inputs in a tuple or a dictionary."""
    if isinstance(batches.inputs, Tensor):
        found = _from_arrays(batches.inputs, batches.targets, wishes)
        return replace(found, legend=batches.legend) if wishes.look == Look() else found
    if wishes.look != Look() or wishes.split is not None:
        raise ValueError(
            "size, crop, mean, std and split do not apply to several inputs: prepare them before"
        )
    if wishes.targets is not None and batches.targets is not None:
        raise ValueError(TWICE)
    given = _targets(wishes.targets if batches.targets is None else batches.targets, batches.examples, wishes)
    for values in tensors_of(batches.inputs):
        numbers = as_tensor(values, "input")
        # −Inf alone is a mask, beside other inputs; whether it is a fault shows where it reaches a layer.
        _check_finite(numbers.clamp(min=0) if numbers.is_floating_point() else numbers, "input")
    chosen = subset(batches.examples, given, wishes.limit, wishes.seed)
    inputs = mapped(batches.inputs, lambda tensor: tensor[chosen.to(tensor.device)])
    return Batches(inputs, None if given is None else given[chosen.to(given.device)], wishes.batch_size)


def _as_images(values: Tensor) -> Tensor | None:
    """Bytes in three or four axes as (n, channels, height, width); None for anything else."""
    if values.dtype != torch.uint8 or values.dim() not in (3, 4):
        return None
    if values.dim() == 3:
        return values.unsqueeze(1)
    channels_last = values.shape[1] not in (1, 3) and values.shape[3] in (1, 3)
    return values.permute(0, 3, 1, 2) if channels_last else values


def _changed(values: Tensor, look: Look) -> Tensor:
    """What the options do to inputs that are no bytes."""
    if look == Look():
        return values
    if not values.is_floating_point():
        raise ValueError(
            f"size, crop, mean and std are for images and floating-point data, not for {values.dtype} of "
            f"shape {tuple(values.shape)}"
        )
    if look.moves_pixels:
        if values.dim() != 4:
            raise ValueError(
                f"size and crop are for images (n, channels, height, width), not for {tuple(values.shape)}"
            )
        values = moved_pixels(values, look)
    return normalised(values, look)


def _targets(given: Any, count: int, wishes: _Wishes) -> Tensor | None:
    """Targets (n, …): int64 classes or float32 values; floats of a tensor keep their type."""
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        given = _target_file(Path(given).expanduser())
    if isinstance(given, np.ndarray) and given.ndim and len(given) != count:  # before it is read
        raise ValueError(f"{count} inputs but {len(given)} targets were given: one each is needed")
    targets = as_tensor(given, "target")
    if targets.dim() == 0 or len(targets) != count:
        found = "a single one" if targets.dim() == 0 else len(targets)
        raise ValueError(f"{count} inputs but {found} targets were given: one each is needed")
    _check_finite(targets, "target")
    kind = wishes.target_type or ("values" if targets.is_floating_point() else "classes")
    if kind == "values":
        return targets if targets.is_floating_point() else targets.float()
    classes = targets.long()
    if not torch.equal(classes.to(targets.dtype), targets):
        raise ValueError("the targets are no classes, which are whole numbers: give target_type='values'")
    counted = classes[classes != IGNORED]
    if classes.dim() == 1 and counted.numel() and int(counted.min()) < 0:
        raise ValueError(
            f"classes are numbered from 0, but a target is {int(counted.min())} ({IGNORED}: does not count)"
        )
    return classes


def _target_file(path: Path) -> Any:
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file of targets {path}: give an .npy, .npz or IDX file"
        ) from error
    if path.suffix.lower() in (".npy", ".npz"):
        return read_numpy(path)[0]
    if is_idx(path):
        return read_idx(path, 1)
    raise FileError(f"{path} is not a file of targets: give an .npy, .npz or IDX file")


def subset(count: int, targets: Tensor | None, limit: int | None, seed: int = 0) -> Tensor:
    """Which examples a limit leaves: always the same for a seed, as many of each class as its share.

    Args:
        count: examples there are.
        targets: (count,) int64 classes, each of which has its share, to the rounding.
        limit: examples wanted; None for all.
        seed: fixes the choice.

    Returns:
        Indices, ascending, (limit,) int64; all `count` where there are no more.
    """
    if limit is None or limit >= count:
        return torch.arange(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if targets is not None and not targets.is_floating_point() and targets.numel() == count:
        labels = targets.flatten().cpu()[order]
        members = [torch.nonzero(labels == kind).flatten() for kind in labels.unique()]
        # The j-th of a class's k members stands at (j + ½)/k: the first `limit` of all take even shares.
        place = torch.empty(count, dtype=torch.float64)
        for found in members:
            place[found] = (torch.arange(len(found), dtype=torch.float64) + 0.5) / len(found)
        order = order[place.argsort(stable=True)]
    return order[:limit].sort().values


def _check_finite(values: Tensor, what: str) -> None:
    if not values.is_floating_point():
        return
    for start in range(0, len(values), BATCH_SIZE):
        part = values[start : start + BATCH_SIZE]
        if not bool(torch.isfinite(part).all()):
            bad = next(i for i, example in enumerate(part) if not bool(torch.isfinite(example).all()))
            raise ValueError(f"the {what} of example {start + bad} has NaN or infinite numbers: leave it out")

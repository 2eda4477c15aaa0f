"""CIFAR-10 from its files: the python batches, or a tree of images.

Every function here reads what it is given and checks it; where data is looked for is the matter of
`datasets.py`. A file that is not what it should be is a ValueError that names it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.bounds import ODD_ERRORS, FileError, read_bytes
from workbench.data.image_trees import open_tree
from workbench.data.images import Look, read_images
from workbench.data.progress import Progress

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32  # pixels, of every image
LARGEST_BATCH = 64 << 20  # bytes of a file of the python version, of 10,000 images
MOST_STEPS = 1_000_000  # of a pickle


def read_cifar_images(
    source: Path, split: str, per_class: int | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """CIFAR-10 as a tree of images, ``split/<class>/<image>`` in a folder or in a zip of one.

    Names are taken in sorted order, class after class.

    Args:
        source: a folder that has the folder `split`, or a zip in which the tree may stand below others.
        split: "train" or "test".
        per_class: how many of each class are taken, and decoded; None for all.
        progress: called as ``progress(done, total, what)`` while images are read.

    Returns:
        Pixels (n, 3, 32, 32) uint8, and labels (n,) int64.

    Raises:
        ValueError: the tree cannot be read (see `open_tree`), has other classes than CIFAR-10, or an image
            does not decode or has another size; the message names it.
    """
    folder = source / split
    with open_tree(folder) if folder.is_dir() else open_tree(source, split) as tree:
        if tree.labels is None or tree.classes != CIFAR10_CLASSES:
            raise FileError(
                f"{source}: the folders under {split}/ are {', '.join(tree.classes) or 'none'}; "
                f"expected {', '.join(CIFAR10_CLASSES)}"
            )
        labels = torch.tensor(tree.labels)
        members = [(labels == kind).nonzero().flatten()[:per_class] for kind in range(len(CIFAR10_CLASSES))]
        chosen = torch.cat(members)
        pixels = read_images(tree, chosen.tolist(), Look(channels=3), progress)
    if pixels.shape[2:] != (SIDE, SIDE):
        height, width = pixels.shape[2:]
        raise FileError(f"{source}: its images are {height} × {width} pixels, expected {SIDE} × {SIDE}")
    return pixels, labels[chosen]


def read_cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file of CIFAR-10's python version.

    The file is a pickle. It is read by an unpickler that knows numpy's array constructor and nothing
    else, so that a file from elsewhere can run no code.

    Args:
        path: such as data_batch_1.

    Returns:
        Pixels (n, 3, 32, 32) uint8, and labels (n,) int64.

    Raises:
        FileError: the file is larger than 64 MiB, does not unpickle, names anything but plain arrays, or does
            not hold n rows of 3,072 bytes with n labels from 0 to 9.
    """
    content = read_bytes(path, LARGEST_BATCH)
    try:
        _check_steps(content)
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except (OSError, ValueError, pickle.UnpicklingError, *ODD_ERRORS) as error:
        raise FileError(f"{path} is not a CIFAR-10 python batch: {error}") from error
    if not isinstance(batch, dict):
        raise FileError(
            f"{path} is not a CIFAR-10 python batch: it holds a {type(batch).__name__}, not a dict"
        )
    data, labels = (batch.get(key, batch.get(key.decode())) for key in (b"data", b"labels"))
    data = data.values if isinstance(data, _Array) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise FileError(f"{path}: 'data' should be a uint8 array of shape (n, 3072)")
    if not isinstance(labels, list) or any(type(one) is not int or not 0 <= one < 10 for one in labels):
        raise FileError(f"{path}: 'labels' should be a list of integers from 0 to 9")
    if len(labels) != len(data):
        raise FileError(f"{path} has {len(data)} images but {len(labels)} labels")
    return data.reshape(-1, 3, 32, 32), np.asarray(labels, dtype=np.int64)


def _check_steps(content: bytes) -> None:
    """Refuse a pickle whose memory would be larger than itself: one may ask for places without end."""
    for count, (kind, argument, place) in enumerate(pickletools.genops(content)):
        if "PUT" in kind.name and (argument or 0) > len(content):
            raise pickle.UnpicklingError(f"at byte {place} it asks for more memory than it can need")
        if count > MOST_STEPS:
            raise pickle.UnpicklingError(f"at byte {place} it has more than {MOST_STEPS:,} steps")


class _Number:
    """Stands for NumPy's type of unsigned bytes; what a pickle says of another one does not reach NumPy."""

    def __init__(self, *arguments: Any):
        if not arguments or arguments[0] not in ("u1", "|u1", b"u1", b"|u1"):
            raise pickle.UnpicklingError(f"arrays of {arguments[:1]!r:.60} are not admitted, uint8 alone")

    def __setstate__(self, state: Any) -> None:
        """Its byte order and the like: of bytes there are none."""


class _Array:
    """Stands for an array, which a pickle makes empty and then gives a shape and bytes."""

    values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, number, by_columns, content = state
        if not (isinstance(number, _Number) and isinstance(content, bytes) and type(shape) is tuple):
            raise pickle.UnpicklingError("only plain arrays of bytes are admitted")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r:.60} is not admitted")
    return text.encode("latin1")


def _reconstruct_array(kind: Any, shape: Any, code: Any) -> _Array:
    # What pickles carry here is an empty array, filled afterwards from bytes: nothing else is built.
    if kind is not _Array or tuple(shape) != (0,):
        raise pickle.UnpicklingError("only plain arrays are admitted")
    return _Array()


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and arrays of bytes; refuses every other name."""

    ADMITTED: dict[tuple[str, str], Any] = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Number,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted") from None

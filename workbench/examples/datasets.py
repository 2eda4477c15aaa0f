"""The built-in data sets: scikit-learn's digits, MNIST and CIFAR-10, found on disc or downloaded.

MNIST and CIFAR-10 are looked for under the folder that the environment variable ``WORKBENCH_DATA`` names,
then in the cache folder; what is in neither place is downloaded into the cache, with its checksum.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.data.arrays import read_idx
from workbench.data.progress import Progress
from workbench.examples.cifar import CIFAR10_CLASSES, read_cifar_batch, read_cifar_images
from workbench.examples.download import DownloadError, fetch, unpack

DATA_VARIABLE = "WORKBENCH_DATA"

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}  # of the files with .gz at the end
MNIST_LAYOUTS = (
    "MNIST/raw/, MNIST/ or the folder itself with train-images-idx3-ubyte[.gz] and its three companions"
)

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
CIFAR10_BATCHES = "cifar-10-batches-py"
CIFAR10_NAME = re.compile(r"cifar[-_]?10(?!0)", re.IGNORECASE)
CIFAR10_LAYOUTS = (
    f"{CIFAR10_BATCHES}/ with data_batch_1…5 and test_batch; cifar10*/ or the folder itself with "
    "train/<class>/*.jpg|png and test/<class>/*.jpg|png; a zip of such a tree, named cifar10*.zip"
)

DIGITS_SEED = 20
DIGITS_TEST_SHARE = 0.25
DIGITS_FILE = "datasets/data/digits.csv.gz"  # in scikit-learn


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: pixels (n, channels, height, width) uint8, labels (n,) int64, the classes' names."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def cache_folder() -> Path:
    """Where downloads go: ``$XDG_CACHE_HOME/spectral-pruning-workbench``, or the same in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "spectral-pruning-workbench"


def data_folders() -> tuple[Path, ...]:
    """The folders that are searched, in order: WORKBENCH_DATA's, if set, then the cache.

    Returns:
        One or two folders; the cache need not exist.

    Raises:
        ValueError: WORKBENCH_DATA is set, but does not name a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return (cache_folder(),)
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{DATA_VARIABLE} is {named!r}, which is not a folder: correct it, or unset it")
    return (folder, cache_folder())


def load_digits(split: str, per_class: int | None = None, progress: Progress | None = None) -> Images:
    """scikit-learn's handwritten digits: 8 × 8 pixels from 0 to 16, 1 channel, 10 classes.

    A fixed stratified split: a quarter of every class (450 images) is "test", the rest (1,347) "train".

    Args:
        split: "train" or "test".
        per_class: the first so many of every class; None for all.
        progress: not called, since nothing takes long.

    Returns:
        The images, (n, 1, 8, 8) uint8.

    Raises:
        ValueError: `split` is neither "train" nor "test".
    """
    _check_split(split)
    every, labels = _all_digits()
    generator = torch.Generator().manual_seed(DIGITS_SEED)
    chosen = []
    for kind in range(10):
        members = torch.nonzero(labels == kind).flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        tests = round(DIGITS_TEST_SHARE * len(members))
        chosen.append(members[:tests] if split == "test" else members[tests:])
    index = torch.cat(chosen).sort().values
    return _first_per_class(Images(every[index].unsqueeze(1), labels[index], tuple("0123456789")), per_class)


@cache
def _all_digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 8, 8) uint8 and labels (1797,): both splits are taken of them.

    Of scikit-learn the file alone is read, where it lies as it has for years: to import it takes longer than
    to measure the network.
    """
    found = find_spec("sklearn")
    file = Path(found.origin).parent / DIGITS_FILE if found is not None and found.origin else None
    if file is not None and file.is_file():
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
        pixels, labels = table[:, :-1].reshape(-1, 8, 8).astype(np.uint8), table[:, -1].copy()
    else:
        from sklearn.datasets import load_digits as load

        bunch = load()
        pixels, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def load_mnist(
    split: str, per_class: int | None = None, progress: Progress | None = None, base_url: str = MNIST_URL
) -> Images:
    """MNIST: 28 × 28 pixels from 0 to 255, 1 channel, 10 classes; 60,000 "train", 10,000 "test" images.

    Looked for in `data_folders()` as IDX files, plain or .gz (torchvision's layout), else downloaded.

    Args:
        split: "train" or "test".
        per_class: the first so many of every class, in the files' order; None for all.
        progress: called as ``progress(done, total, what)`` while files are read or downloaded.
        base_url: where downloads come from.

    Returns:
        The images, (n, 1, 28, 28) uint8.

    Raises:
        ValueError: `split` is neither "train" nor "test", or a file is malformed (the message names it).
        DownloadError: the data is not on this machine and cannot be downloaded.
    """
    _check_split(split)
    stem = "train" if split == "train" else "t10k"
    names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    found = _find_mnist(names)
    if found is None:
        folder = cache_folder() / "MNIST" / "raw"
        files = [(base_url, f"{name}.gz", MNIST_MD5[name]) for name in names]
        found = _download("MNIST", files, folder, MNIST_LAYOUTS, progress)
    images, labels = read_idx(found[0], 3), read_idx(found[1], 1)
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{found[0]} has images of shape {images.shape[1:]}, expected (28, 28)")
    if len(images) != len(labels):
        raise ValueError(f"{found[0]} has {len(images)} images, but {found[1]} has {len(labels)} labels")
    if len(labels) == 0 or labels.max() > 9:
        raise ValueError(f"{found[1]} should hold labels from 0 to 9, one an image")
    targets = torch.from_numpy(labels.astype(np.int64))
    whole = Images(torch.from_numpy(images.copy()).unsqueeze(1), targets, tuple("0123456789"))
    return _first_per_class(whole, per_class)


def load_cifar10(
    split: str, per_class: int | None = None, progress: Progress | None = None, base_url: str = CIFAR10_URL
) -> Images:
    """CIFAR-10: 32 × 32 pixels, 0 to 255, 3 channels, 10 classes; 50,000 "train", 10,000 "test" images.

    Looked for in `data_folders()` as python batches, a folder of images, or a zip of one; else the python
    version is downloaded.

    Args:
        split: "train" or "test".
        per_class: the first so many of every class; of a tree, only those are decoded; None for all.
        progress: called as ``progress(done, total, what)`` while files are read or downloaded.
        base_url: where downloads come from.

    Returns:
        The images, (n, 3, 32, 32) uint8.

    Raises:
        ValueError: `split` is neither "train" nor "test", or a file is malformed (the message names it).
        DownloadError: the data is not on this machine and cannot be downloaded.
    """
    _check_split(split)
    read = _find_cifar10(split, per_class, progress)
    if read is None:
        cache = cache_folder()
        files = [(base_url, CIFAR10_ARCHIVE, CIFAR10_MD5)]
        (archive,) = _download("CIFAR-10", files, cache, CIFAR10_LAYOUTS, progress)
        folder = unpack(archive, CIFAR10_BATCHES, cache / CIFAR10_BATCHES)
        archive.unlink()
        pixels, labels = _read_batches(_batch_files(folder, split))
    else:
        pixels, labels = read()
    return _first_per_class(Images(pixels, labels, CIFAR10_CLASSES), per_class)


def at_hand(data_name: str) -> bool:
    """Whether a data set is on this machine, so that nothing need be downloaded for it.

    Args:
        data_name: as an example's specification names it: "MNIST", "CIFAR-10", or what a package brings.

    Returns:
        True where both splits were found in `data_folders()`.

    Raises:
        ValueError: WORKBENCH_DATA is set, but does not name a folder.
    """
    if data_name == "MNIST":
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        splits = [[f"{stem}-{kind}" for kind in kinds] for stem in ("train", "t10k")]
        return all(_find_mnist(names) is not None for names in splits)
    if data_name == "CIFAR-10":
        return all(_find_cifar10(split, 1, None) is not None for split in ("train", "test"))
    return True


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}, expected 'train' or 'test'")


def _first_per_class(images: Images, per_class: int | None) -> Images:
    if per_class is None:
        return images
    members = [
        torch.nonzero(images.labels == kind).flatten()[:per_class] for kind in range(len(images.classes))
    ]
    index = torch.cat(members).sort().values
    return Images(images.pixels[index], images.labels[index], images.classes)


def _find_mnist(names: Sequence[str]) -> list[Path] | None:
    """Images and labels from one folder: those of two folders need not be in the same order."""
    for root in data_folders():
        for folder in (root / "MNIST" / "raw", root / "MNIST", root):
            options = [[folder / name, folder / f"{name}.gz"] for name in names]
            found = [next((path for path in paths if path.is_file()), None) for paths in options]
            if all(path is not None for path in found):
                return [path for path in found if path is not None]
    return None


Reading = Callable[[], tuple[Tensor, Tensor]]


def _find_cifar10(split: str, per_class: int | None, progress: Progress | None) -> Reading | None:
    for root in data_folders():
        for folder in (root / CIFAR10_BATCHES, root):
            files = _batch_files(folder, split)
            if all(file.is_file() for file in files):
                return partial(_read_batches, files)
        named = sorted(path for path in root.glob("*") if CIFAR10_NAME.match(path.name))
        folders = (root, *(path for path in named if path.is_dir()))
        trees = [folder for folder in folders if (folder / split / CIFAR10_CLASSES[0]).is_dir()]
        trees += [path for path in named if path.suffix.lower() == ".zip"]
        if trees:
            return partial(read_cifar_images, trees[0], split, per_class, progress)
    return None


def _batch_files(folder: Path, split: str) -> list[Path]:
    names = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    return [folder / name for name in names]


def _read_batches(files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    pixels, labels = zip(*map(read_cifar_batch, files), strict=True)
    return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))


def _download(
    data: str, files: Sequence[tuple[str, str, str]], folder: Path, layouts: str, progress: Progress | None
) -> list[Path]:
    targets = []
    for base_url, name, md5 in files:
        target = folder / name
        if not target.is_file():
            try:
                fetch(base_url.rstrip("/") + "/" + name, target, md5, progress)
            except DownloadError as error:
                raise DownloadError(_advice(data, error, layouts)) from error
        targets.append(target)
    return targets


def _advice(data: str, error: Exception, layouts: str) -> str:
    searched = ", ".join(str(folder) for folder in data_folders())
    return (
        f"{data} was not found on this machine and could not be downloaded.\n"
        f"Searched: {searched}\nTried: {error}\n"
        f"Set the environment variable {DATA_VARIABLE} to a folder that has the data. "
        f"Recognised there: {layouts}."
    )

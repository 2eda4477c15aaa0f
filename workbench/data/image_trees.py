"""Folders of images, and zips of them: which images there are, and their classes. Nothing is unpacked."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from workbench.data.bounds import ODD_ERRORS, FileError, check_file, read_bytes

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
LARGEST_FILE = 64 << 20  # bytes of one image file, as a zip declares it
LARGEST_ZIP = 64 << 30  # bytes of all images of a zip, as it declares them
MOST_FILES = 4_000_000
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for any memory to be unpacked


@dataclass(frozen=True)
class ImageTree:
    """Image files by name in sorted order, a label each, and how one is read.

    `labels` (n,) and `classes` come from the folders' names, in sorted order as in torchvision's
    ImageFolder; `labels` is None where all images lie in one folder.
    """

    where: str
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def open_tree(source: Path, split: str | None = None) -> Iterator[ImageTree]:
    """The images in a folder or zip, and their classes; nothing is unpacked to disc.

    Folders that all images share do not count; the next folder is the class. Hidden files and files that are
    no images (.jpg, .png, .bmp, .webp, .ppm) are passed over.

    Args:
        source: a folder, or a .zip of one.
        split: the subfolder that is wanted, such as 'train'; None where there are no splits.

    Yields:
        The tree; it can be read until the context ends.

    Raises:
        FileNotFoundError: there is neither.
        FileError: there is no image, no such split, several splits and none chosen, or images both beside
            and inside folders; a zip that is damaged, encrypted, holds links, names that lead out of it, one
            name twice, or more bytes than an image has; more files than 4,000,000. Where the tree is read: an
            image that is no regular file, larger than 64 MiB, or a link that leads out of the folder.
    """
    if source.is_dir():
        files = (path for path in source.rglob("*") if path.is_file())
        names = [path.relative_to(source).as_posix() for path in islice(files, MOST_FILES + 1)]
        _check_count(source, len(names))
        yield _arranged(source, names, split, lambda name: read_bytes(source / name, LARGEST_FILE, source))
        return
    check_file(source)
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, ValueError, *ODD_ERRORS) as error:
        raise FileError(f"{source} is not a readable zip file, or is truncated: {error}") from error
    with archive:
        entries = archive.infolist()
        _check_count(source, len(entries))
        for entry in entries:
            _check_entry(source, entry)
        _check_total(source, entries)
        names = [entry.filename for entry in entries if not entry.is_dir()]
        yield _arranged(source, names, split, archive.read)


def _check_count(source: Path, count: int) -> None:
    if count > MOST_FILES:
        raise FileError(
            f"{source} has more than {MOST_FILES:,} files: give the folder of the images alone, or a part"
        )


def _check_entry(source: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        raise FileError(f"{source} is refused: its entry {name!r} leads out of the archive")
    if "\\" in name:
        raise FileError(f"{source} is refused: its entry {name!r} has backslashes; write the zip anew")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise FileError(f"{source} is refused: its entry {name!r} is a link; put the image itself in the zip")
    if not _is_image(name):
        return
    if entry.flag_bits & 1:
        raise FileError(
            f"{source} is refused: its entry {name!r} is encrypted; write the zip without password"
        )
    if entry.compress_type not in PACKINGS:
        raise FileError(
            f"{source} is refused: its entry {name!r} is packed by method {entry.compress_type}; write the "
            "zip with deflate, or without packing"
        )
    if entry.file_size > LARGEST_FILE:
        raise FileError(
            f"{source} is refused: its entry {name!r} would unpack to {entry.file_size:,} bytes; the limit "
            f"for one image is {LARGEST_FILE:,}"
        )


def _check_total(source: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries if _is_image(entry.filename)]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise FileError(f"{source} is refused: its entry {twice!r} is there twice; write the zip anew")
    total = sum(entry.file_size for entry in entries if _is_image(entry.filename))
    if total > LARGEST_ZIP:
        raise FileError(
            f"{source} is refused: its images would unpack to {total:,} bytes, the limit is {LARGEST_ZIP:,}; "
            "unpack it and give the folder"
        )


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in _parts(name))
    return not hidden and name.lower().endswith(SUFFIXES)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file name; pathlib gives the same in twenty times the time, and there may be a million."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _arranged(
    source: Path, found: Sequence[str], split: str | None, read: Callable[[str], bytes]
) -> ImageTree:
    names = sorted(set(filter(_is_image, found)))
    if not names:
        raise FileError(
            f"{source} holds no images ({', '.join(SUFFIXES)}; {len(found)} other files): give a folder with "
            "a subfolder for each class, a folder of images, or a zip of one"
        )
    folders = {name: _parts(name)[:-1] for name in names}
    depth = _shared_depth(folders.values())
    if split is not None:
        folders, depth = _of_split(source, folders, depth, split)
    tops = {"".join(folder[depth : depth + 1]) for folder in folders.values()}
    if split is None and {top.lower() for top in tops} <= SPLITS:
        raise FileError(f"{source} has the parts {', '.join(sorted(tops))}: choose one with split=")
    if tops == {""}:
        return ImageTree(str(source), tuple(folders), None, (), read)
    if "" in tops:
        beside = next(name for name, folder in folders.items() if len(folder) == depth)
        raise FileError(
            f"{source} has images both in folders and beside them ({beside}): every image needs a folder, "
            "its class, or none does"
        )
    classes = sorted(tops)
    labels = tuple(classes.index(folder[depth]) for folder in folders.values())
    return ImageTree(str(source), tuple(folders), labels, tuple(classes), read)


def _shared_depth(folders: Collection[tuple[str, ...]]) -> int:
    """How many folders, from the top, all of them share."""
    levels = enumerate(zip(*folders, strict=False))
    return next((depth for depth, level in levels if len(set(level)) > 1), min(map(len, folders)))


def _of_split(
    source: Path, folders: dict[str, tuple[str, ...]], depth: int, split: str
) -> tuple[dict[str, tuple[str, ...]], int]:
    """The images below the folder `split`, and the depth at which their classes stand."""
    shared = next(iter(folders.values()))[:depth]
    depth = shared.index(split) if split in shared else depth
    chosen = {name: folder for name, folder in folders.items() if folder[depth : depth + 1] == (split,)}
    if not chosen:
        present = sorted({folder[depth] for folder in folders.values() if len(folder) > depth})
        raise FileError(f"{source} has no folder {split!r}; it has {', '.join(present) or 'none'}")
    return chosen, depth + 1

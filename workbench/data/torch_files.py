"""What torch.save wrote, read without running anything of it, and within bounds."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from workbench.data.bounds import FileError, is_of_system
from workbench.data.tensor_files import MOST_TENSORS
from workbench.network.running import one_line

ADVICE = "save model.state_dict() alone with torch.save, or use safetensors"
REFUSED = f"and was refused: nothing in it was run. {ADVICE[0].upper()}{ADVICE[1:]}"
LARGEST_PICKLE = 16 << 20  # bytes of what stands beside the numbers: names, shapes, settings
MOST_READS = 8_000_000  # in a file of the older format, about one an instruction of its pickle
MOST_RECORDS = 3 * MOST_TENSORS  # files in the archive, a tensor each: optimisers keep two more
SHOWN = 5  # names in an error
_ZIP = b"PK\x03\x04"


def read_torch_file(path: Path) -> Any:
    """What the file holds, on the CPU.

    Raises FileError where it is damaged, asks for code, or is beyond the bounds: more than 16 MiB of names
    and shapes, or 300,000 tensors.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
        if is_zip:
            _check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        with _Counted(io.FileIO(path)) as counted:  # the older format
            return torch.load(counted, map_location="cpu", weights_only=True)
    except FileError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way at all
        if is_of_system(error):
            raise
        raise FileError(_what_is_wrong(path, error)) from error


class _Counted(io.BufferedReader):
    """A file that is not read without end, a byte at a time."""

    def __init__(self, raw: io.FileIO):
        super().__init__(raw)
        self._reads = 0

    def _count(self) -> None:
        self._reads += 1
        if self._reads > MOST_READS:
            raise FileError(f"{self.name} holds more than a state dict: {ADVICE}")

    def read(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().readline(size)


def _check_archive(path: Path) -> None:
    """What is in the archive, before anything of it is read: torch.save packs nothing."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if len(entries) > MOST_RECORDS:
        raise FileError(f"{path} holds {len(entries):,} tensors; the limit for one file is {MOST_RECORDS:,}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise FileError(
                f"{path} is refused: its part {entry.filename!r} is packed, which torch.save never does; "
                f"{ADVICE}"
            )
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if pickled > LARGEST_PICKLE:
        raise FileError(
            f"{path} has {pickled:,} bytes of names, shapes and settings beside its numbers; the limit is "
            f"{LARGEST_PICKLE:,}: {ADVICE}"
        )


def _what_is_wrong(path: Path, error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return f"{path} holds a TorchScript program, not weights, {REFUSED}"
    names = _names_in_the_way(path, text)
    if any(name.startswith("torch.nn.modules.") for name in names):
        return f"{path} holds a whole module ({few(names)}), not its weights, {REFUSED}"
    if names:
        return f"{path} holds more than tensors (it asks for {few(names)}) {REFUSED}"
    if "Weights only load failed" in text:
        return f"{path} is a pickle that torch.save did not write, {REFUSED}"
    return (
        f"{path} is no whole checkpoint ({type(error).__name__}: {one_line(error) or 'it ends too soon'}): "
        "it may be truncated, or no file of torch.save: copy or download it again"
    )


def _names_in_the_way(path: Path, text: str) -> list[str]:
    """The classes and functions that the file asks for, beyond tensors; found without running any."""
    with contextlib.suppress(Exception):  # files in the older format cannot be listed
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return sorted(set(re.findall(r"GLOBAL ([\w.]+)", text)))


def few(names: Iterable[str]) -> str:
    """The first names, and whether there are more."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")

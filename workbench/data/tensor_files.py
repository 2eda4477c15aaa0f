"""Tensors in safetensors files: what a file says of itself is checked before any tensor is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import safetensors.torch
from torch import Tensor

from workbench.data.bounds import FileError, check_file, is_of_system
from workbench.data.plain_json import parsed

SUFFIX = ".safetensors"
LARGEST_FILE = 256 << 30  # bytes; it is mapped, not read
LARGEST_HEADER = 32 << 20  # bytes
MOST_TENSORS = 100_000
MOST_AXES = 32
LONGEST_AXIS = 1 << 36
_LENGTH = 8  # bytes that say how long the header is
_METADATA = "__metadata__"

Axis = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_AXIS)]
Offset = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct):
    """What the header says of one tensor."""

    dtype: str
    shape: Annotated[list[Axis], msgspec.Meta(max_length=MOST_AXES)]
    data_offsets: tuple[Offset, Offset]


def starts_as_safetensors(path: Path) -> bool:
    """Whether the first bytes of a file are those of a safetensors file."""
    with path.open("rb") as file:
        head = file.read(_LENGTH + 1)
    return head[_LENGTH:] == b"{" and int.from_bytes(head[:_LENGTH], "little") < path.stat().st_size


def read_tensors(path: Path, within: Path | None = None) -> dict[str, Tensor]:
    """A safetensors file.

    Args:
        path: of the file.
        within: the folder out of which no link may lead to it.

    Returns:
        Tensors by name, on the CPU; what they are read into may be the file itself.

    Raises:
        FileNotFoundError: there is none.
        FileError: the file is damaged, or says of itself what no file of weights has: more than 100,000
            tensors, axes of more than 2^36. The message names it, and the tensor.
    """
    size = check_file(path, LARGEST_FILE, within)
    with path.open("rb") as file:
        head = file.read(_LENGTH)
        length = int.from_bytes(head, "little") if len(head) == _LENGTH else size
        _check_length(length, size, path)
        _check_header(file.read(length), path)
    return _made(safetensors.torch.load_file, path, path)


def tensors_in(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose content is given, checked as in `read_tensors`."""
    length = int.from_bytes(content[:_LENGTH], "little") if len(content) >= _LENGTH else len(content)
    _check_length(length, len(content), path)
    _check_header(content[_LENGTH : _LENGTH + length], path)
    return _made(safetensors.torch.load, content, path)


def _check_length(length: int, size: int, path: Path) -> None:
    if length > size - _LENGTH:
        raise _not_whole(path, f"its header would have {length:,} of the {size:,} bytes")
    if length > LARGEST_HEADER:
        raise FileError(f"{path} has a header of {length:,} bytes; the limit is {LARGEST_HEADER:,}")


def _check_header(header: bytes, path: Path) -> None:
    count = header.count(b'"data_offsets"')
    if count > MOST_TENSORS:
        raise FileError(f"{path} holds {count:,} tensors; the limit for one file is {MOST_TENSORS:,}")
    try:
        entries = parsed(header, f"the header of {path}")
    except FileError as error:
        raise _not_whole(path, str(error)) from error
    if not isinstance(entries, dict):
        raise _not_whole(path, "its header is no object")
    for name, entry in entries.items():
        if name == _METADATA:
            continue
        try:
            msgspec.convert(entry, _Entry)
        except msgspec.ValidationError as error:
            words = str(error).replace("`", "'")
            raise FileError(f"{path} has a damaged header: tensor {name!r}: {words}") from error


def _made(load: Any, source: Any, path: Path) -> dict[str, Tensor]:
    try:
        return load(source)
    except Exception as error:  # of the library, of torch for a kind of number that it does not know
        if is_of_system(error):
            raise
        raise _not_whole(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _not_whole(path: Path, words: str) -> FileError:
    return FileError(
        f"{path} is not a whole safetensors file: {words}. It may be truncated: copy or download it again"
    )

"""Tensors in files under the hash of what they hold: written once, never changed, checked whenever read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import safetensors.torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from workbench.data.bounds import check_within, read_bytes
from workbench.data.durable import DamagedError, digest, digest_of, left_in, sync, write_whole
from workbench.data.tensor_files import SUFFIX, tensors_in

ALONE = 1 << 14  # bytes: a tensor from this size on has a file to itself, so that it is written once
LARGEST = 32 << 30  # bytes of one file, which is read into memory
ONLY = "tensor"  # what a tensor is called in a file of its own
_BLOB = re.compile(rf"([0-9a-f]{{64}}){re.escape(SUFFIX)}")

Known = WeakIdKeyDictionary  # of a tensor that is in a file of its own: its version, and its hash
Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Bundle(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where tensors that belong together are: large ones each in a file, the others in one, by its hash."""

    alone: dict[str, Hash] = {}
    together: Hash | None = None

    def hashes(self) -> set[str]:
        """Of all its files."""
        return {*self.alone.values(), *([self.together] if self.together else [])}


class Blobs:
    """The tensors in one folder, which is there."""

    def __init__(self, folder: Path, known: Known | None = None):
        """`known`: hashes of tensors that were put here before, by this process; it is added to."""
        self.folder = folder
        self._known = WeakIdKeyDictionary() if known is None else known
        self.written: list[Path] = []  # by this object
        self._read: dict[str, dict[str, Tensor]] = {}

    def path(self, name: str) -> Path:
        """The file whose content has the hash `name`."""
        return self.folder / f"{name}{SUFFIX}"

    def put(self, tensors: Mapping[str, Tensor]) -> Bundle:
        """Write what is not there yet; `synced` puts the names onto the disk. Raises OSError."""
        large = {name: tensor for name, tensor in tensors.items() if tensor.nbytes >= ALONE}
        small = {name: tensor for name, tensor in tensors.items() if name not in large}
        alone = {name: self._put_alone(tensor) for name, tensor in large.items()}
        return Bundle(alone, self._put(small) if small else None)

    def _put_alone(self, tensor: Tensor) -> str:
        """`_put` of a large one, which is not read again where it is known."""
        version, name = self._known.get(tensor, (-1, ""))
        if version != tensor._version or not self.path(name).is_file():
            version, name = tensor._version, self._put({ONLY: tensor})
            self._known[tensor] = version, name
        return name

    def _put(self, tensors: Mapping[str, Tensor]) -> str:
        # Clones of several, since a file holds no two tensors in the same memory.
        plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        if len(plain) > 1:
            plain = {name: tensor.clone() for name, tensor in plain.items()}
        content = safetensors.torch.save(plain)
        name = digest(content)
        path = self.path(name)
        whole = path.is_file() and not path.is_symlink() and digest_of(path) == name
        if not whole:  # one that was damaged is mended
            self.written.append(path)
            write_whole(path, content)
        return name

    def synced(self) -> None:
        """Put the names of all files onto the disk itself."""
        sync(self.folder)

    def get(self, bundle: Bundle) -> dict[str, Tensor]:
        """The tensors of a bundle, on the CPU. Raises FileError naming the file; OSError."""
        found = dict(self._get(bundle.together)) if bundle.together else {}
        for name, one in bundle.alone.items():
            tensors = self._get(one)
            if tensors.keys() != {ONLY}:
                raise DamagedError(f"{self.path(one)} is not the file of one tensor that {name} should be")
            found[name] = tensors[ONLY]
        return found

    def _get(self, name: str) -> dict[str, Tensor]:
        if name not in self._read:
            path = self.path(name)
            try:
                content = read_bytes(path, LARGEST, self.folder.parent)
            except FileNotFoundError as error:
                raise DamagedError(
                    f"{path} is missing: copy the whole folder, with all of its files"
                ) from error
            if digest(content) != name:
                raise DamagedError(
                    f"{path} is damaged: its content does not have the SHA-256 that its name says. Copy it "
                    "again from where it is whole"
                )
            self._read[name] = tensors_in(content, path)
        return self._read[name]

    def unused(self, used: Collection[str]) -> list[Path]:
        """Files of ours that are none of `used`, or were never whole; whatever else is there is not ours.

        Raises FileError where the folder is a link to another place.
        """
        check_within(self.folder, self.folder.parent)
        named = ((path, _BLOB.fullmatch(path.name)) for path in self.folder.iterdir())
        others = [path for path, found in named if found and found[1] not in used]
        return [*others, *left_in(self.folder)]


def remove(paths: Collection[Path]) -> None:
    """Take files away as far as that goes: what stays goes another time."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)

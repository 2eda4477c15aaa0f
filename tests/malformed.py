"""What the malformed things share: the bench they are made on, and the table that they enter."""

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from earlier_layout import save_earlier
from networks import conv_net
from PIL import Image
from torch import nn

from workbench.session.session import Session


@dataclass
class Bench:
    """A folder, a model that must not change, a measured session on another, and where code would show."""

    folder: Path
    model: nn.Module
    session: Session

    @property
    def sprung(self) -> Path:
        return self.folder / "sprung"

    @property
    def trap(self) -> Any:
        return Trap(str(self.sprung))

    def weights(self, **changes: Any) -> dict[str, Any]:
        return dict(conv_net(3).state_dict()) | {key.replace("__", "."): v for key, v in changes.items()}

    def file(self, name: str, content: bytes | str = b"") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def torch_file(self, held: Any, **options: Any) -> Path:
        torch.save(held, self.folder / "weights.pt", **options)
        return self.folder / "weights.pt"

    def zip_file(self, *entries: str | zipfile.ZipInfo) -> Path:
        path = self.folder / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for entry in entries:
                archive.writestr(entry, png())
        return path

    def saved_session(self) -> Path:
        self.session.save(self.folder / "saved")
        return self.folder / "saved"

    def session_of_an_earlier_version(self) -> Path:
        return save_earlier(self.session, self.folder / "saved")


class Trap:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


Call = Callable[[], Any]
CASES: dict[str, tuple[Callable[[Bench], Call], str, type[Exception]]] = {}


def malformed(message: str, error: type[Exception] = ValueError) -> Callable:
    """Enter a case: what is raised, and words of it (a regular expression)."""

    def enter(case: Callable[[Bench], Call]) -> Callable[[Bench], Call]:
        CASES[case.__name__] = (case, message, error)
        return case

    return enter


def png(height: int = 5, width: int = 7, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, "PNG")
    return out.getvalue()


def patched(path: Path, marker: bytes, offset: int, value: bytes) -> Path:
    """The file with `value` written `offset` bytes behind the first `marker`."""
    content = bytearray(path.read_bytes())
    start = content.index(marker) + offset
    content[start : start + len(value)] = value
    path.write_bytes(bytes(content))
    return path

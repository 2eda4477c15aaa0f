"""Fetching a file or an archive from a public address: a checksum or nothing.

A file appears under its final name only when it has arrived whole and its MD5 matches, so that an
interrupted download never looks like data.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
import uuid
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from workbench.data.progress import Progress

CHUNK = 1 << 18


class DownloadError(OSError):
    """Data that is not on this machine could not be fetched; the message says what was tried."""


def fetch(url: str, target: Path, md5: str, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Download `url` to `target`, and return `target`.

    The bytes go to a temporary name beside `target` and are moved there once their MD5 (32 hexadecimal
    digits) matches; whatever else happens, the temporary file is removed. `progress` counts bytes;
    `timeout` is in seconds, for each wait on the network.

    Raises
    ------
    DownloadError
        The address does not answer, answers with an error, sends too few bytes or the wrong ones, or
        `target` cannot be written.
    """
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            found = _receive(url, out, target.name, progress, timeout)
        if found != md5:
            raise DownloadError(f"{url}: the MD5 of what arrived is {found}, expected {md5}")
        os.replace(partial, target)
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {type(error).__name__}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return target


def _receive(url: str, out: BinaryIO, name: str, progress: Progress | None, timeout: float) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with urllib.request.urlopen(url, timeout=timeout) as response:
        header = response.headers.get("Content-Length")
        total = int(header) if header and header.isdigit() else None
        while chunk := response.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total, f"downloading {name}")
    # http.client ends a chunked read quietly when the connection drops, so the length is checked here.
    if total is not None and done != total:
        raise DownloadError(f"{url}: cut off after {done} of {total} bytes")
    return digest.hexdigest()


def unpack(archive: Path, member: str, folder: Path) -> Path:
    """Unpack the files of the folder `member` of the tar file `archive` into `folder`; return `folder`.

    They are written into a temporary folder beside `folder` first, so that no half of them looks like data.

    Raises
    ------
    ValueError
        `archive` is not a readable tar file, holds a path that leads outside, a link or a device, or has no
        files in `member`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        try:
            with tarfile.open(archive) as tar:
                _write_members(tar, PurePosixPath(member), Path(temporary))
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ValueError(f"{archive} is not a tar archive that can be unpacked: {error}") from error
        files = sorted(Path(temporary).iterdir())
        if not files:
            raise ValueError(f"{archive} holds no files in {member!r}: it is not the expected archive")
        folder.mkdir(exist_ok=True)
        for file in files:
            os.replace(file, folder / file.name)
    return folder


def _write_members(tar: tarfile.TarFile, member: PurePosixPath, folder: Path) -> None:
    # By hand, since extractall has its safe filter only from Python 3.11.4 on.
    for entry in tar:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or not (entry.isfile() or entry.isdir()):
            raise ValueError(f"{entry.name!r} leads outside, or is a link or a device")
        source = tar.extractfile(entry) if path.parent == member else None  # None for a folder
        if source is not None:
            with source, open(folder / path.name, "wb") as file:
                shutil.copyfileobj(source, file)

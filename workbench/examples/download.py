"""Fetching a file from a public address, by its checksum, and unpacking an archive that came that way.

pooch fetches: a file appears under its final name only when it has arrived whole and its MD5 matches, so that
an interrupted download never looks like data. Unpacking is our own: pooch hands an archive to `extractall`,
which has a safe filter only from Python 3.11.4 on and leaves half an archive where it fails.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging import WARNING, Logger
from pathlib import Path, PurePosixPath

from workbench.data.progress import Progress

CHUNK = 1 << 18  # bytes that are written, and told, at a time
LARGEST_UNPACKED = 4 << 30  # bytes of all that an archive holds


class DownloadError(OSError):
    """Data that is not on this machine could not be fetched; the message says what was tried."""


def fetch(url: str, target: Path, md5: str, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Download `url` to `target`, unless it is there with that checksum.

    Args:
        url: an http or https address.
        target: the file to be; its folder is made where it is missing.
        md5: what the file must have, 32 hexadecimal digits.
        progress: called as ``progress(done, total, what)`` with bytes; `total` is None where it is not told.
        timeout: seconds, for each wait on the network.

    Returns:
        `target`.

    Raises:
        DownloadError: the address does not answer, answers with an error, sends too few bytes or the wrong
            ones, or `target` cannot be written. What was at `target` is then still there.
    """
    import pooch  # with requests it takes longer to import than the rest of this package's examples

    bar = False if progress is None else _Bar(progress, target.name)
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=timeout)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, f"md5:{md5}", fname=target.name, path=target.parent, downloader=downloader)
    except (OSError, ValueError) as error:  # those of requests are OSErrors
        raise DownloadError(f"{url}: {type(error).__name__}: {error}") from error
    return target


class _Bar:
    """What pooch takes for a progress bar, told on to a `Progress`."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.total, self.done = progress, name, 0, 0

    def update(self, count: int) -> None:
        self.done += count
        if count and self.total:  # the last chunk counts as a whole one
            self.progress(min(self.done, self.total), self.total, f"downloading {self.name}")
        elif count:
            self.progress(self.done, None, f"downloading {self.name}")

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def _quiet(logger: Logger) -> Iterator[None]:
    """Within: pooch writes no line of its own, since `progress` tells as much."""
    level = logger.level
    logger.setLevel(WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def unpack(archive: Path, member: str, folder: Path) -> Path:
    """Unpack the files of one folder of a tar file.

    They are written into a temporary folder beside `folder` first, so that no half of them looks like data.

    Args:
        archive: the tar file, compressed or not.
        member: the folder in it whose files are wanted.
        folder: where they go; made where it is missing.

    Returns:
        `folder`.

    Raises:
        ValueError: `archive` is not a readable tar file, holds a path that leads outside, a link or a device,
            or has no files in `member`.
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
    left = LARGEST_UNPACKED
    # By hand, since extractall has its safe filter only from Python 3.11.4 on.
    for entry in tar:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or not (entry.isfile() or entry.isdir()):
            raise ValueError(f"{entry.name!r} leads outside, or is a link or a device")
        left -= entry.size
        if left < 0:
            raise ValueError(f"{entry.name!r} leads to more than {LARGEST_UNPACKED:,} bytes unpacked")
        source = tar.extractfile(entry) if path.parent == member else None  # None for a folder
        if source is not None:
            with source, open(folder / path.name, "wb") as file:
                shutil.copyfileobj(source, file)

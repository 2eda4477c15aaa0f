"""The folder that a session was last saved in, or opened from: it has that open, and others are told."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.data.claims import Claim, claim, in_use
from workbench.data.durable import FolderInUseError, digest_of
from workbench.export.kinds import RECIPE


class Place:
    """One session's folder. `read_only`: why nothing is to be saved in it, in words; empty where it may."""

    def __init__(self) -> None:
        self.read_only = ""
        self._claim: Claim | None = None
        self._release: Callable[[], Any] = lambda: None
        self._read: tuple[Path, str] | None = None  # the recipe that was opened read-only, its hash

    def opened(self, folder: Path, take_over: bool) -> str:
        """The session was opened from `folder`: what its person is to be told, if anything."""
        other = in_use(folder)
        if other is None or take_over:
            self.take(folder)
            return ""
        self.read_only = (
            f"{folder} is open in another notebook or program ({other}), so it was opened read-only here: "
            "save in another folder, or take it over with take_over=True, of which that one is told"
        )
        with suppress(OSError):
            self._read = folder / RECIPE, digest_of(folder / RECIPE)
        return self.read_only

    def check(self, folder: Path) -> None:
        """Raises FolderInUseError where another process has `folder` open, or saved there since."""
        other = in_use(folder)
        taken = self._claim is not None and _same(self._claim.folder, folder)
        if other is not None:
            what = "was taken over by" if taken else "is open in"
            raise FolderInUseError(
                f"{folder} {what} another notebook or program ({other}), which goes on with the session "
                "there: save in another folder, or take it over with take_over=True, of which that one is "
                "told"
            )
        if self._read is None or not _same(self._read[0].parent, folder):
            return
        with suppress(FileNotFoundError):
            if digest_of(self._read[0]) != self._read[1]:
                raise FolderInUseError(
                    f"{folder} was saved by another notebook or program after it was opened here: save in "
                    "another folder, or replace what is there with take_over=True"
                )

    def take(self, folder: Path) -> None:
        """The session is saved in `folder`, which is its own from now on."""
        before, self.read_only, self._read = self._claim, "", None
        if before is not None and _same(before.folder, folder) and before.is_mine:
            return
        self._release()
        self._claim = None
        with suppress(OSError):
            self._claim = claim(folder, take_over=True)
        if self._claim is not None:
            self._release = weakref.finalize(self, self._claim.release)


def _same(a: Path, b: Path) -> bool:
    with suppress(OSError):
        return a.samefile(b)
    return False

"""The folder that a session was last saved in, or opened from: it has that open, and others are told."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.data.claims import Claim, claim, in_use
from workbench.data.durable import OpenElsewhereError, seal_of
from workbench.export.kinds import RECIPE

_written: set[str] = set()  # the seals of all that this process has saved: its sessions are one person's


class Place:
    """One session's folder. `read_only`: why nothing is to be saved in it, in words; empty where it may.
    `read`: the seal of what this session is, where it was opened."""

    def __init__(self) -> None:
        self.read_only = self.read = ""
        self._claim: Claim | None = None
        self._release: Callable[[], Any] = lambda: None
        self._seen: tuple[Path, str] | None = None  # a folder, and the seal of what was read or saved there

    def opened(self, folder: Path, take_over: bool) -> str:
        """The session was opened from `folder`: what its person is to be told, if anything."""
        other = in_use(folder)
        if other is None or take_over:
            self._take(folder, self.read)
            return ""
        self.read_only = (
            f"{folder} is open in another notebook or program ({other}), so it was opened read-only here: "
            "save in another folder, or take it over with take_over=True, of which that one is told"
        )
        self._seen = folder.absolute(), self.read
        return self.read_only

    def check(self, folder: Path) -> None:
        """Raises OpenElsewhereError where another process has `folder` open, or saved there since."""
        other = in_use(folder)
        taken = self._claim is not None and _same(self._claim.folder, folder)
        if other is not None:
            what = "was taken over by" if taken else "is open in"
            raise OpenElsewhereError(
                f"{folder} {what} another notebook or program ({other}), which goes on there",
                "save in another folder, or open it there and take it over (take_over=True), of which that "
                "one is told",
            )
        if self._seen is None or not _same(self._seen[0], folder):
            return
        now = seal_of(folder / RECIPE)
        if now and now != self._seen[1] and now not in _written:
            raise OpenElsewhereError(
                f"{folder} was saved by another notebook or program after it was opened or saved here",
                "save in another folder, open what is there now, or replace it (take_over=True)",
            )

    def saved(self, folder: Path, seal: str) -> None:
        """The session was saved in `folder`, which is its own from now on; `seal` of what was written."""
        _written.add(seal)
        self._take(folder, seal)

    def _take(self, folder: Path, seal: str) -> None:
        before, self.read_only, self._seen = self._claim, "", (folder.absolute(), seal)
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

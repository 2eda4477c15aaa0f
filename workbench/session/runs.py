"""The runs in which sessions kept themselves: what they are of, which there are, and which go."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal

import msgspec

from workbench.data.claims import OPEN, OWNER, claim, in_use, is_open
from workbench.data.durable import FolderInUseError, read_sealed
from workbench.data.progress import Progress
from workbench.export.kinds import RECIPE, TENSORS
from workbench.session import store
from workbench.session.recipe import read_recipe
from workbench.session.session import Session

FORMAT: Literal["spectral-pruning-run"] = "spectral-pruning-run"
ABOUT = "about.json"
LONG = 60  # characters of a name, as it is offered
DAY, HOUR = 86400.0, 3600.0
LONG_MEASURED = 5.0  # seconds of measuring that a person would not wait for once more
KEPT = 3  # newer runs with as many steps, before one that is over goes
_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_PLACE = re.compile(r"[\w.-]{1,60}-[0-9a-f]{16}")


class About(msgspec.Struct, frozen=True):
    """What a run is of.

    `examples`: hash of those with which groups were found. `how`: how its network comes back, {"example":
    name} or {"form": what the Load card said}. `doing`: what was running. `screen`: what was set and shown
    beside the session, plain values. `measuring`: seconds that measuring the original took.
    """

    format: Literal["spectral-pruning-run"]
    key: str
    name: str
    data: str
    examples: str
    how: dict[str, Any] = {}
    doing: str = ""
    screen: dict[str, Any] = {}
    measuring: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0


@dataclass(frozen=True)
class Run:
    """One run on the disk. `steps` of its longest branch, with those that were undone, which `undone` counts
    on the present one; `when` it was last written, in seconds since 1970; `open`: whether somebody works on
    it now; `trials` of groups alone that were measured, and the seconds that these took, `trying`."""

    folder: Path
    about: About
    steps: int
    undone: int
    branches: int
    when: float
    open: bool
    trials: int = 0
    trying: float = 0.0

    def __str__(self) -> str:
        return self.words(time.time())

    def words(self, now: float) -> str:
        """As 'digits-cnn, 4 steps, 2 branches, 3 minutes ago'."""
        work = in_words(self.about.name, self.steps, self.branches, self.about.screen, self.undone)
        if self.only_measured:
            work += f", measured in {_long(self.measuring)}, no step yet"
        return f"{work}, {_ago(now - self.when)}"

    @property
    def has_work(self) -> bool:
        """Whether there is anything that a person would miss."""
        return not self.only_measured or self.measuring >= LONG_MEASURED

    @property
    def measuring(self) -> float:
        """Seconds that all measuring took."""
        return self.about.measuring + self.trying

    @property
    def only_measured(self) -> bool:
        """Whether nothing was done but measuring."""
        return not (self.steps or self.branches > 1 or made_beside(self.about.screen))


def in_words(name: str, steps: int, branches: int, screen: Mapping[str, Any], undone: int = 0) -> str:
    """What a session holds, as 'digits-cnn, 4 steps, 2 branches'. Counts as `Run`, `screen` as `About`."""
    parts = [name if len(name) <= LONG else f"{name[: LONG - 1]}…"]
    parts += [_many(steps, "step")] if steps or branches > 1 else []
    parts += [f"{undone} of them undone"] if undone else []
    parts += [_many(branches, "branch", "branches")] if branches > 1 else []
    return ", ".join([*parts, *([] if steps else made_beside(screen))])


def made_beside(screen: Mapping[str, Any]) -> list[str]:
    """What a person made on a screen beside the steps, in words."""
    found = screen.get("found")
    planned = ["widths planned"] if screen.get("widths") or screen.get("locks") else []
    return planned + (["compared"] if found else [])


def runs(root: Path, key: str = "") -> list[Run]:
    """The runs with work below `root`, the newest first; of one model and data where `key` is given.

    What is damaged, or is not a run, is passed over.
    """
    places = [place for place in _folders(root, _PLACE) if not key or place.name.endswith(f"-{key}")]
    found = [run for place in places for folder in _folders(place, _RUN) if (run := run_in(folder))]
    return sorted((run for run in found if run.has_work), key=lambda run: run.when, reverse=True)


def run_in(folder: Path) -> Run | None:
    """The run in `folder`, if one is."""
    try:
        about = msgspec.convert(read_sealed(folder / ABOUT), About)
        recipe = read_recipe(folder / RECIPE)
        when = (folder / RECIPE).stat().st_mtime
        others = recipe["store"].get("branches", [])
        steps = len(recipe["steps"])
        lengths = [steps, *(len(one["recipe"]["steps"]) for one in others)]
        undone = steps - int(recipe["store"]["present"].get("at", steps))
        damages = recipe["store"].get("damages", [])
        trials = [one for way in damages for each in way["trials"].values() for one in each]
        trying = min(max(sum(one.get("seconds", 0.0) for one in trials), 0.0), 1e9)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    longest = max(lengths)
    return Run(folder, about, longest, undone, len(lengths), when, is_open(folder), len(trials), trying)


def taken_up(
    run: Run, session: Session, progress: Progress | None = None, cancel: Event | None = None
) -> Session:
    """The session that `run` holds, on the network and the data of `session`, which stays as it is.

    `progress`, `cancel`: as for `Session.as_saved`. Raises RecipeError where it does not fit, or is damaged;
    OSError; Cancelled.
    """
    return session.as_saved(store.read(run.folder), progress, cancel)


def discard(run: Run) -> None:
    """Take a run away for good, all of its folder.

    Raises FolderInUseError where somebody works on it, this process too, or where the disk cannot tell;
    OSError where something of it cannot go, after which it is a run no more.
    """
    if is_open(run.folder):
        who = in_use(run.folder)
        where = "in this notebook or program" if who is None else f"in another notebook or program ({who})"
        raise FolderInUseError(f"{run.about.name} is open {where}: close it there, then throw it away")
    mine = claim(run.folder)
    if mine is None and time.time() - run.folder.stat().st_mtime < DAY:
        raise FolderInUseError(
            f"{run.folder} is on a disk where it cannot be seen whether somebody works on it: a day after it "
            "was last written it can be thrown away"
        )
    (run.folder / RECIPE).unlink()  # from here on it is none, wherever this ends
    if mine is not None:
        mine.release()
    with suppress(FileNotFoundError):  # who has just closed it takes its own files away meanwhile
        shutil.rmtree(run.folder)
    if run.folder.exists():
        shutil.rmtree(run.folder)


def clear(place: Path, mine: Path, after: Run | None, locks: bool) -> None:
    """Take away runs that are over: those without work, that which `mine` replaces, and those of which there
    are `KEPT` newer ones with as many steps, so that a few short ones never cost a long one; of one that is
    only measured, any newer one that has as many trials, since it has the same moments.

    `locks`: whether it can be seen on this disk that somebody has a run open.
    """
    found = {folder: run_in(folder) for folder in _folders(place, _RUN) if folder != mine}
    over = [run for run in found.values() if run is not None and not run.open]
    kept: list[Run] = []
    for run in sorted(over, key=lambda run: run.when, reverse=True):
        newer = sum(
            one.steps >= run.steps and (one.trials >= run.trials or not run.only_measured) for one in kept
        )
        if not run.has_work or _is_still(run, after) or newer >= (1 if run.only_measured else KEPT):
            _remove(run.folder, 0 if locks else DAY)
        else:
            kept.append(run)
    for folder in (folder for folder, run in found.items() if run is None):
        with suppress(OSError):
            names = {path.name for path in folder.iterdir() if not path.name.startswith(OPEN)}
            begun = names <= {ABOUT, TENSORS, OWNER}
            if begun and not is_open(folder):  # by a process that was killed before it wrote anything
                _remove(folder, HOUR if locks else DAY)


def _is_still(run: Run, before: Run | None) -> bool:
    """Whether `run` is as it was `before`."""
    return before is not None and (run.folder, run.when) == (before.folder, before.when)


def _remove(folder: Path, age: float) -> None:
    """Take a run away that nobody touched for `age` seconds."""
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime >= age:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(folder: Path, named: re.Pattern[str]) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if named.fullmatch(path.name)]
        return [path for path in found if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _ago(seconds: float) -> str:
    return f"{_long(seconds)} ago" if seconds >= 60 else "just now"


def _long(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return _many(int(seconds // size), name)
    return _many(round(seconds), "second")

"""A session on disk: JSON and safetensors, no pickle, and whole whatever becomes of the process that writes.

`recipe.json` says how the present branch was made and, under `store`, what else there is: the recipes of the
other branches, and in which files of `tensors/` the moments and what every step made are. Those files are
called by the SHA-256 of what they hold and never change. A save writes the ones that are new, then replaces
`recipe.json`, and only then takes away what nothing refers to: at every moment there is the session as it was
or as it is. What a process that was killed left is taken away at the next opening.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from workbench.data.blobs import Blobs, Bundle, Hash, Known, remove
from workbench.data.bounds import FileError, check_within, reading, stamp
from workbench.data.durable import (
    FolderInUseError,
    digest_of,
    expanded,
    left_in,
    locked,
    make_folder,
    read_again,
    seal_of,
    sealed,
    sync,
    write_whole,
)
from workbench.export.architecture import quoted
from workbench.export.kinds import ARCHITECTURE, RECIPE, STORE, TENSORS, holds_export, holds_session
from workbench.session.earlier import BRANCHES, files_of, read_earlier
from workbench.session.recipe import RecipeError, read_recipe
from workbench.session.saved import Saved, SavedBranch, check_branch, check_names, score_in
from workbench.session.saved_damages import SavedDamage

_EARLIER = re.compile(
    rf"({BRANCHES}/\d+/)?(model|moments|steps|tuned-\d+)\.safetensors|{BRANCHES}/\d+/recipe\.json"
)
_EARLIER_ASIDE = re.compile(r"\.saving-\w{8}")


class _Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What the steps of a branch made, the fingerprint of its end, and of some networks the weights there.

    `at`: how many of the steps were not undone, where they are fewer.
    """

    steps: list[Bundle]
    end: Hash
    weights: Bundle | None
    at: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Other(_Line, omit_defaults=True, kw_only=True):
    """A branch that is not the present one."""

    recipe: dict[str, Any]


class _Store(msgspec.Struct):
    """Where everything is. `replaces`: files of an earlier version that are to go, with their SHA-256."""

    version: Literal[1]
    moments: dict[str, Bundle]
    present: _Line
    branches: list[_Other]
    damages: list[SavedDamage] = []
    replaces: dict[Annotated[str, msgspec.Meta(pattern=rf"\A({_EARLIER.pattern})\Z")], Hash] = {}

    def used(self) -> set[str]:
        """The hashes of all files that it refers to."""
        lines: list[_Line] = [self.present, *self.branches]
        bundles = [
            *self.moments.values(),
            *(one for line in lines for one in (*line.steps, line.weights) if one),
        ]
        return {name for bundle in bundles for name in bundle.hashes()}


def write(
    saved: Saved,
    folder: str | Path,
    known: Known | None = None,
    check: Callable[[], Any] = lambda: None,
) -> str:
    """Write a session into `folder`; one that is there already, in whatever layout, is replaced.

    All of it or nothing: a full disk, or a kill at any moment, leaves what was saved before. Files of others
    stay as they are. `known`: of a folder that nobody else writes in, what earlier calls put there. `check`
    raises where nothing is to be written after all; nobody else saves there from then on until it is done.
    Returns the seal of what was written.

    Raises ValueError where `folder` is a file, holds an export, or has a `recipe.json` of another kind;
    FolderInUseError while another process saves there; OSError.
    """
    folder = expanded(folder)
    _check_place(folder)
    made = [one for one in (folder / TENSORS, folder) if not one.exists()]
    try:
        make_folder(folder / TENSORS)
        with locked(folder):
            check()
            return _write(saved, folder, _check_place(folder), known)
    except BaseException:
        for one in made:
            with suppress(OSError):  # where something is in it by now
                one.rmdir()
        raise


def _write(saved: Saved, folder: Path, before: dict[str, Any] | None, known: Known | None) -> str:
    """`before`: the recipe of what is there."""
    blobs = Blobs(folder / TENSORS, known)
    try:
        present, *others = saved.branches
        store = _Store(
            1,
            {name: blobs.put(one) for name, one in saved.moments.items()},
            _Line(**_line(blobs, present)),
            [_Other(**_line(blobs, one), recipe=one.recipe | {"branch": one.name}) for one in others],
            list(saved.damages),
            _replaced(folder, before),
        )
        blobs.synced()
        whole = {"branch": present.name, "original": {"score": saved.start}}
        recipe = present.recipe | whole | {STORE: msgspec.to_builtins(store)}
        write_whole(folder / RECIPE, sealed(recipe))
    except BaseException:
        with suppress(ValueError, OSError):
            remove(set(blobs.written) & set(blobs.unused(_used(folder))))
        raise
    sync(folder)
    seal = seal_of(folder / RECIPE)
    clean(folder)
    return seal


def _line(blobs: Blobs, branch: SavedBranch) -> dict[str, Any]:
    weights = None if branch.weights is None else blobs.put(branch.weights)
    steps = [blobs.put(changed or {}) for changed in branch.changed]
    return {"steps": steps, "end": branch.end, "weights": weights, "at": branch.at}


def _replaced(folder: Path, before: dict[str, Any] | None) -> dict[str, str]:
    """The files of an earlier version's session, whose recipe is given, with their hashes."""
    if before is None or STORE in before:
        return {}
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in files_of(folder, before)}


def _check_place(folder: Path) -> dict[str, Any] | None:
    """The recipe of the session that is in `folder`, if any. Raises ValueError where none may go there."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the session in")
    if holds_export(folder):
        raise ValueError(
            f"{folder} holds an export ({ARCHITECTURE}), with files of the same names: name another folder"
        )
    for name, fits in ((RECIPE, Path.is_file), (TENSORS, Path.is_dir)):
        if (folder / name).exists() and not fits(folder / name):
            raise ValueError(f"{folder / name} is in the way: name another folder")
    check_within(folder / TENSORS, folder)
    if not (folder / RECIPE).exists():
        return None
    try:
        recipe = read_recipe(folder / RECIPE, folder)
    except RecipeError as error:
        raise ValueError(
            f"nothing was saved over what is in {folder}: {error}. Name another folder"
        ) from error
    if not holds_session(folder):
        raise ValueError(
            f"{folder} has a {RECIPE} that is not of a saved session: name another folder, or move that file"
        )
    return recipe


def _used(folder: Path) -> set[str]:
    """The hashes of the files that the session in `folder` refers to. Raises RecipeError, OSError."""
    recipe = read_recipe(folder / RECIPE, folder) if (folder / RECIPE).exists() else {}
    return _store_in(recipe, folder).used() if STORE in recipe else set()


def clean(folder: Path) -> None:
    """Take away what a save that was cut short left in `folder`, and what the last whole one replaced.

    For whoever holds the lock. Nothing goes where `recipe.json` is damaged or missing.
    """
    try:
        recipe = read_recipe(folder / RECIPE, folder)
        store = _store_in(recipe, folder) if STORE in recipe else None
        sync(folder)  # the names in it: what they refer to no longer is needed no longer
    except (ValueError, OSError):
        return
    blobs = Blobs(folder / TENSORS)
    remove(blobs.unused(store.used() if store else ()))
    remove(left_in(folder))
    for name, wanted in store.replaces.items() if store else ():
        path = folder / name
        if path.is_file() and digest_of(path) == wanted:
            remove([path])
            _remove_empty(path.parent, folder)
    for path in folder.iterdir():
        if _EARLIER_ASIDE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _remove_empty(folder: Path, end: Path) -> None:
    """`folder` and those above it, up to `end`, as far as nothing is in them."""
    while folder != end:
        with suppress(OSError):
            folder.rmdir()
        folder = folder.parent


def read(folder: str | Path) -> Saved:
    """What was saved in `folder`, checked as far as that goes without the model.

    Raises RecipeError for a file that is damaged, missing, not a regular one of the folder, or beyond the
    bounds of such files, naming it; FileNotFoundError where there is no session.
    """
    folder = expanded(folder)
    try:
        with reading(folder):
            return _read_whole(folder)
    except FileError as error:
        raise RecipeError(str(error)) from error


def _read_whole(folder: Path) -> Saved:
    check_within(folder / TENSORS, folder)
    if (folder / TENSORS).is_dir():
        with suppress(FolderInUseError, OSError), locked(folder, patience=0):  # where nothing may be written
            clean(folder)
    return read_again(lambda: _read(folder), lambda: stamp(folder / RECIPE))


def _read(folder: Path) -> Saved:
    recipe = read_recipe(folder / RECIPE, folder)
    if STORE not in recipe and holds_export(folder) and not holds_session(folder):
        raise RecipeError(
            f"{folder} holds an export, not a session: load_pruned opens that, and Session.save writes one"
        )
    if STORE not in recipe:
        return read_earlier(folder, recipe)
    store = _store_in(recipe, folder)
    blobs = Blobs(folder / TENSORS)
    start = score_in(recipe.get("original"), f"'original' of {folder / RECIPE}")
    branches = [_read_branch(blobs, recipe, store.present, recipe, str(folder / RECIPE))]
    for index, one in enumerate(store.branches):
        where = f"branch {index + 1} of {folder / RECIPE}"
        branches.append(_read_branch(blobs, read_recipe(one.recipe, where=where), one, recipe, where))
    moments = {name: blobs.get(bundle) for name, bundle in store.moments.items()}
    check_names(branches, folder)
    return Saved(moments, start, branches, folder / RECIPE, store.damages)


def _read_branch(
    blobs: Blobs, recipe: dict[str, Any], line: _Line, whole: dict[str, Any], where: str
) -> SavedBranch:
    name = check_branch(recipe, whole, where)
    if len(line.steps) != len(recipe["steps"]):
        raise RecipeError(f"{where} has {len(recipe['steps'])} steps, but tensors of {len(line.steps)}")
    if line.at is not None and line.at > len(line.steps):
        raise RecipeError(f"{where} was left at step {line.at}, but has {len(line.steps)} steps")
    weights = None if line.weights is None else blobs.get(line.weights)
    changed = [blobs.get(bundle) for bundle in line.steps]
    return SavedBranch(name, recipe, changed, line.end, weights, line.at)


def _store_in(recipe: dict[str, Any], folder: Path) -> _Store:
    """Raises RecipeError."""
    try:
        return msgspec.convert(recipe[STORE], _Store)
    except msgspec.ValidationError as error:
        where = f"'{STORE}' of {folder / RECIPE}"
        raise RecipeError(f"{where} is damaged: {quoted(error, f'$.{STORE}')}") from error

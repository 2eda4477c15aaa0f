"""What earlier versions saved: a folder with a recipe and a few files of tensors for every branch.

`recipe.json` says how the present branch was made, `moments.safetensors` holds what was measured on the
original network, `model.safetensors` the smaller network's weights, `tuned-N.safetensors` what a fine-tuning
did. A later one of these versions wrote `steps.safetensors` too: what each commit and refit made beside
cutting units out, by step and name. The other branches lie in `branches/1`, `branches/2`, ….
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.data.checkpoints import read_tensors
from workbench.export.kinds import MOMENTS, RECIPE, WEIGHTS
from workbench.session.recipe import RecipeError, read_recipe
from workbench.session.saved import Saved, SavedBranch, Tensors, check_branch, check_names, score_in

BRANCHES = "branches"
STEPS = "steps.safetensors"
TUNED = "tuned-{}.safetensors"  # what changed in the fine-tuning that is this step of the recipe
HAS_STEPS = "steps_file"  # in a recipe: which file has what its commits and refits made


def read_earlier(folder: Path, recipe: dict[str, Any]) -> Saved:
    """The session in `folder`, whose checked recipe is given. Raises RecipeError, FileNotFoundError."""
    moments = _tensors(folder / MOMENTS)
    start = score_in(recipe.get("original"), f"'original' of {folder / RECIPE}")
    count = recipe.get("branches", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise RecipeError(f"{folder / RECIPE}: 'branches' must be a number of branches, got {count!r}")
    branches = [_read_branch(folder, recipe)]
    for number in range(1, count + 1):  # ends at the first that is not there, whatever the file says
        branches.append(_read_branch(folder / BRANCHES / str(number), recipe))
    check_names(branches, folder)
    by_group: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        group, _, rest = key.rpartition("/")  # a group's name may have such a stroke, what follows has none
        by_group.setdefault(group, {})[rest] = value
    return Saved(by_group, start, branches, folder / MOMENTS)


def files_of(folder: Path, recipe: dict[str, Any]) -> list[Path]:
    """The files beside `recipe.json` that the session in `folder` consists of, as far as they are there."""
    found = [folder / MOMENTS, *_files_of_branch(folder, recipe)]
    number = 1
    while (branch := folder / BRANCHES / str(number)).is_dir() and (branch / RECIPE).is_file():
        try:
            record = read_recipe(branch / RECIPE)
        except RecipeError:  # not ours
            break
        found += [branch / RECIPE, *_files_of_branch(branch, record)]
        number += 1
    return [path for path in found if path.is_file()]


def _files_of_branch(folder: Path, recipe: dict[str, Any]) -> Iterator[Path]:
    yield from (folder / WEIGHTS, folder / STEPS)
    yield from (folder / TUNED.format(index) for index in range(len(recipe["steps"])))


def _read_branch(folder: Path, whole: dict[str, Any]) -> SavedBranch:
    """The branch in `folder`; it must belong to the session whose recipe is `whole`."""
    file = folder / RECIPE
    recipe = read_recipe(file)
    name = check_branch(recipe, whole, str(file))
    return SavedBranch(name, recipe, _read_changed(folder, recipe), weights=_tensors(folder / WEIGHTS))


def _read_changed(folder: Path, recipe: dict[str, Any]) -> list[Tensors | None]:
    written = recipe.get(HAS_STEPS)  # not there: an earlier version wrote what a fine-tuning made alone
    if written not in (None, "", STEPS):
        raise RecipeError(f"{folder / RECIPE}: {HAS_STEPS!r} must be {STEPS!r} or empty, got {written!r}")
    by_step: dict[str, dict[str, Tensor]] = {}
    for key, value in _tensors(folder / STEPS).items() if written else ():
        index, _, name = key.partition("/")
        by_step.setdefault(index, {})[name] = value
    changed: list[Tensors | None] = []
    for number, record in enumerate(recipe["steps"]):
        if record.get("kind") == "finetune":
            changed.append(_tensors(folder / TUNED.format(number)))
        else:
            changed.append(None if written is None else by_step.get(str(number), {}))
    return changed


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of the session. Raises RecipeError naming a damaged one."""
    try:
        return read_tensors(path)
    except ValueError as error:
        raise RecipeError(str(error)) from error

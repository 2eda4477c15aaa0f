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

from workbench.data.tensor_files import read_tensors
from workbench.export.kinds import MOMENTS, RECIPE, WEIGHTS
from workbench.session.recipe import RecipeError, read_recipe
from workbench.session.saved import (
    MOST_BRANCHES,
    Saved,
    SavedBranch,
    Tensors,
    check_branch,
    check_names,
    score_in,
)

BRANCHES = "branches"
STEPS = "steps.safetensors"
TUNED = "tuned-{}.safetensors"  # what changed in the fine-tuning that is this step of the recipe
HAS_STEPS = "steps_file"  # in a recipe: which file has what its commits and refits made


def read_earlier(folder: Path, recipe: dict[str, Any]) -> Saved:
    """The session in `folder`, whose checked recipe is given. Raises FileError, FileNotFoundError."""
    moments = read_tensors(folder / MOMENTS, folder)
    start = score_in(recipe.get("original"), f"'original' of {folder / RECIPE}")
    count = recipe.get("branches", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_BRANCHES:
        raise RecipeError(
            f"{folder / RECIPE}: 'branches' must be a number of branches, up to {MOST_BRANCHES:,}, got "
            f"{count!r}"
        )
    branches = [_read_branch(folder, recipe, folder)]
    for number in range(1, count + 1):  # ends at the first that is not there, whatever the file says
        branches.append(_read_branch(folder / BRANCHES / str(number), recipe, folder))
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


def _read_branch(folder: Path, whole: dict[str, Any], within: Path) -> SavedBranch:
    """The branch in `folder`, a part of `within`; it must belong to the session whose recipe is `whole`."""
    file = folder / RECIPE
    recipe = read_recipe(file, within)
    name = check_branch(recipe, whole, str(file))
    weights = read_tensors(folder / WEIGHTS, within)
    return SavedBranch(name, recipe, _read_changed(folder, recipe, within), weights=weights)


def _read_changed(folder: Path, recipe: dict[str, Any], within: Path) -> list[Tensors | None]:
    written = recipe.get(HAS_STEPS)  # not there: an earlier version wrote what a fine-tuning made alone
    if written not in (None, "", STEPS):
        raise RecipeError(f"{folder / RECIPE}: {HAS_STEPS!r} must be {STEPS!r} or empty, got {written!r}")
    by_step: dict[str, dict[str, Tensor]] = {}
    for key, value in read_tensors(folder / STEPS, within).items() if written else ():
        index, _, name = key.partition("/")
        by_step.setdefault(index, {})[name] = value
    changed: list[Tensors | None] = []
    for number, record in enumerate(recipe["steps"]):
        if record.get("kind") == "finetune":
            changed.append(read_tensors(folder / TUNED.format(number), within))
        else:
            changed.append(None if written is None else by_step.get(str(number), {}))
    return changed

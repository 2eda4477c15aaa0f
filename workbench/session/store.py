"""A session on disk, as plain values: JSON and safetensors, no pickle.

`recipe.json` says how the present branch was made, `moments.safetensors` holds what was measured on the
original network, `model.safetensors` the smaller network's weights. `steps.safetensors` has what each commit
and refit made beside cutting units out, by step and name, and `tuned-N.safetensors` what a fine-tuning did.
The other branches lie in `branches/1`, `branches/2`, …, each with a recipe and weights of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from workbench.data import checkpoints
from workbench.export.architecture import MOMENTS, RECIPE, WEIGHTS
from workbench.network.tensors import same_bits
from workbench.session.history import MAIN
from workbench.session.recipe import (
    Asked,
    RecipeError,
    RecipeStep,
    RefitStep,
    TuneStep,
    asked_in,
    read_recipe,
    read_steps,
)

BRANCHES = "branches"
STEPS = "steps.safetensors"
TUNED = "tuned-{}.safetensors"  # what changed in the fine-tuning that is this step of the recipe
HAS_STEPS = "steps_file"  # in a recipe: which file has what its commits and refits made

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class SavedBranch:
    """A branch as it is written, up to where it was left.

    `weights`: the state dict at its end, which replaces what is computed again: rounding on another machine
    is no matter. `changed`: of each step, the tensors that cutting units out of the network before does not
    give; None where an earlier version did not write them.
    """

    name: str
    recipe: dict[str, Any]
    weights: Tensors
    changed: Sequence[Tensors | None]

    @cached_property
    def steps(self) -> list[RecipeStep | TuneStep | RefitStep]:
        return read_steps(self.recipe)

    @property
    def scores(self) -> list[float | None]:
        """One a step."""
        return [_score_in(record.get("result"), "the recipe") for record in self.recipe["steps"]]

    def shared(self, other: SavedBranch) -> int:
        """How many steps both begin with, up to a fine-tuning: its settings do not say what it led to."""
        count = 0
        scores = zip(self.scores, other.scores, strict=False)
        for mine, its, (a, b) in zip(self.steps, other.steps, scores, strict=False):
            if mine != its or a != b or isinstance(mine, TuneStep):
                break
            if not _same(self.changed[count], other.changed[count]):
                break
            count += 1
        return count


@dataclass(frozen=True)
class Saved:
    """A session as it is written: moments by group and name, the original's score, the present branch
    first."""

    moments: Mapping[str, Tensors]
    start: float | None
    branches: Sequence[SavedBranch]

    @property
    def recipe(self) -> dict[str, Any]:
        return self.branches[0].recipe


def write(saved: Saved, folder: str | Path) -> None:
    """Write a session into `folder`.

    All of it is written aside and then put in place, so that a full disk leaves what was saved before. Raises
    ValueError where `folder` is a file, OSError.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the session in")
    moments = {f"{name}/{key}": value for name, one in saved.moments.items() for key, value in one.items()}
    present, *others = saved.branches
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as aside:
        _write_tensors(moments, Path(aside) / MOMENTS)
        for number, branch in enumerate(others, start=1):
            _write_branch(branch, Path(aside) / BRANCHES / str(number), {})
        whole = {"original": {"score": saved.start}, "branches": len(others)}
        _write_branch(present, Path(aside), whole)
        # The recipe, which says what else there is, comes last.
        written = sorted(path for path in Path(aside).rglob("*") if path.is_file())
        for path in sorted(written, key=lambda path: path == Path(aside) / RECIPE):
            place = folder / path.relative_to(aside)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)


def _write_branch(branch: SavedBranch, folder: Path, more: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_tensors(branch.weights, folder / WEIGHTS)
    steps: dict[str, Tensor] = {}
    for index, (step, changed) in enumerate(zip(branch.steps, branch.changed, strict=True)):
        if isinstance(step, TuneStep):
            _write_tensors(changed or {}, folder / TUNED.format(index))
        else:
            steps |= {f"{index}/{name}": tensor for name, tensor in (changed or {}).items()}
    if steps:
        _write_tensors(steps, folder / STEPS)
    recipe = branch.recipe | {"branch": branch.name, HAS_STEPS: STEPS if steps else ""} | more
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    (folder / RECIPE).write_text(text, encoding="utf-8")


def _write_tensors(tensors: Tensors, path: Path) -> None:
    # Clones, since a file holds no two tensors in the same memory.
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)


def read(folder: str | Path) -> Saved:
    """What was saved in `folder`, checked as far as that goes without the model.

    Raises RecipeError for a damaged file, naming it; FileNotFoundError.
    """
    folder = Path(folder)
    recipe = read_recipe(folder / RECIPE)
    moments = _tensors(folder / MOMENTS)
    start = _score_in(recipe.get("original"), f"'original' of {folder / RECIPE}")
    count = recipe.get("branches", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise RecipeError(f"{folder / RECIPE}: 'branches' must be a number of branches, got {count!r}")
    folders = [folder, *(folder / BRANCHES / str(number) for number in range(1, count + 1))]
    branches = [_read_branch(one, recipe) for one in folders]
    names = [branch.name for branch in branches]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise RecipeError(f"{folder} has branches called {', '.join(map(repr, names))}: one name each")
    by_group: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        group, _, rest = key.rpartition("/")  # a group's name may have such a stroke, what follows has none
        by_group.setdefault(group, {})[rest] = value
    return Saved(by_group, start, branches)


def _read_branch(folder: Path, whole: dict[str, Any]) -> SavedBranch:
    """The branch in `folder`; it must belong to the session whose recipe is `whole`."""
    file = folder / RECIPE
    recipe = read_recipe(file)
    if _whose(recipe) != _whose(whole):
        raise RecipeError(
            f"{file} is a branch of another session: its model, procedure or reading of targets differs"
        )
    for index, record in enumerate(recipe["steps"]):
        _score_in(record.get("result"), f"step {index + 1} of {file}")
    name = recipe.get("branch", MAIN)
    if not isinstance(name, str):
        raise RecipeError(f"{file}: 'branch' must be a name, got {name!r}")
    return SavedBranch(name, recipe, _tensors(folder / WEIGHTS), _read_changed(folder, recipe))


def _whose(recipe: dict[str, Any]) -> tuple[str, str, Asked]:
    """What all branches of a session share."""
    return recipe["model"]["fingerprint"], recipe["procedure"], asked_in(recipe)


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


def _same(a: Tensors | None, b: Tensors | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of the session. Raises RecipeError naming a damaged one."""
    try:
        return checkpoints.read_tensors(path)
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _score_in(record: Any, where: str) -> float | None:
    """The score that a record says. Raises RecipeError."""
    if record is None:
        return None
    score = record.get("score") if isinstance(record, dict) else record
    if score is None or (isinstance(score, (int, float)) and not isinstance(score, bool)):
        return score
    raise RecipeError(f"{where}: the score must be a number, got {score!r}")

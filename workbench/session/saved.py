"""A session as plain values, between the files and the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.network.tensors import same_bits
from workbench.session.history import MAIN
from workbench.session.recipe import (
    Asked,
    RecipeError,
    RecipeStep,
    RefitStep,
    TuneStep,
    asked_in,
    read_steps,
    shortened,
)
from workbench.session.saved_damages import SavedDamage

Tensors = Mapping[str, Tensor]
MOST_BRANCHES = 10_000


@dataclass(frozen=True)
class SavedBranch:
    """A branch as it is written, up to where it was left, or with the steps that were undone.

    `changed`: of each step, the tensors that cutting units out of the network before does not give; None
    where an earlier version did not write them. `end`: the fingerprint of the network that they lead to.
    `weights`: the state dict there, of networks whose fingerprint does not tell all of the original, and in
    what earlier versions wrote; it replaces what is computed again: rounding on another machine is no matter.
    `at`: how many of the steps were not undone, where they are fewer.
    """

    name: str
    recipe: dict[str, Any]
    changed: Sequence[Tensors | None]
    end: str = ""
    weights: Tensors | None = None
    at: int | None = None

    @cached_property
    def steps(self) -> list[RecipeStep | TuneStep | RefitStep]:
        return read_steps(self.recipe)

    @property
    def scores(self) -> list[float | None]:
        """One a step."""
        return [score_in(record.get("result"), "the recipe") for record in self.recipe["steps"]]

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
    first. `source`: the file that the moments are in, or that says where they are. `damages`: what was
    measured of groups alone."""

    moments: Mapping[str, Tensors]
    start: float | None
    branches: Sequence[SavedBranch]
    source: Path = Path()
    damages: Sequence[SavedDamage] = ()

    @property
    def recipe(self) -> dict[str, Any]:
        return self.branches[0].recipe


def check_branch(recipe: dict[str, Any], whole: dict[str, Any], where: str) -> str:
    """The name of a branch, which must belong to the session whose recipe is `whole`. Raises RecipeError."""
    if _whose(recipe) != _whose(whole):
        raise RecipeError(
            f"{where} is a branch of another session: its model, procedure or reading of targets differs"
        )
    for index, record in enumerate(recipe["steps"]):
        score_in(record.get("result"), f"step {index + 1} of {where}")
    name = recipe.get("branch", MAIN)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: 'branch' must be a name, got {name!r}")
    return name


def check_names(branches: Sequence[SavedBranch], folder: Path) -> None:
    """Raises RecipeError where a branch has no name of its own."""
    if len(branches) > MOST_BRANCHES:
        raise RecipeError(f"{folder} has {len(branches):,} branches; the limit is {MOST_BRANCHES:,}")
    names = [branch.name for branch in branches]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise RecipeError(f"{folder} has branches called {', '.join(map(repr, names))}: one name each")


def score_in(record: Any, where: str) -> float | None:
    """The score that a record says. Raises RecipeError."""
    if record is None:
        return None
    score = record.get("score") if isinstance(record, dict) else record
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score != score:
        raise RecipeError(f"{where}: the score must be a number, got {shortened(score)}")
    return score


def _whose(recipe: dict[str, Any]) -> tuple[str, str, Asked]:
    """What all branches of a session share."""
    return recipe["model"]["fingerprint"], recipe["procedure"], asked_in(recipe)


def _same(a: Tensors | None, b: Tensors | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(same_bits(a[key], b[key]) for key in a)

"""A session on disk, with all its branches: JSON and safetensors, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.data import checkpoints
from workbench.export.architecture import MOMENTS, RECIPE, WEIGHTS
from workbench.measure.moments import GroupStatistics
from workbench.session.history import MAIN
from workbench.session.recipe import RecipeError, TuneStep, parse_step, read_recipe
from workbench.session.restoring import SavedBranch
from workbench.session.session import Session, session_for
from workbench.tuning.finetuning import Loss

BRANCHES = "branches"
TUNED = "tuned-{}.safetensors"  # weights after the fine-tuning that is this step of the recipe


def save_session(session: Session, folder: str | Path) -> None:
    """Write the session, every branch up to where it stands.

    `recipe.json` says how the present branch was made, `moments.safetensors` holds what was measured on the
    original network, and `model.safetensors` the smaller network's weights. The other branches lie in
    `branches/1`, `branches/2`, …, each with a recipe and weights of its own. All of it is written aside and
    then put in place, so that a full disk leaves what was saved before.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the session in")
    moments = {
        f"{name}/{key}": value.contiguous()
        for name, statistics in session.original_statistics().items()
        for key, value in statistics.state().items()
    }
    others = [name for name in session.branches if name != session.branch]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as aside:
        save_file(moments, Path(aside) / MOMENTS)
        for number, name in enumerate(others, start=1):
            _write_branch(session, name, Path(aside) / BRANCHES / str(number), {})
        whole = {"original": {"score": session.history[0].score}, "branches": len(others)}
        _write_branch(session, session.branch, Path(aside), whole)
        # The recipe, which says what else there is, comes last.
        written = sorted(path for path in Path(aside).rglob("*") if path.is_file())
        for path in sorted(written, key=lambda path: path == Path(aside) / RECIPE):
            place = folder / path.relative_to(aside)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)


def _write_branch(session: Session, name: str, folder: Path, more: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(session.model_of(name), folder / WEIGHTS)
    for index, model in session.tuned_models(name).items():
        _write_weights(model, folder / TUNED.format(index))
    recipe = session.recipe_of(name) | {"branch": name} | more
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    (folder / RECIPE).write_text(text, encoding="utf-8")


def _write_weights(model: nn.Module, path: Path) -> None:
    weights = {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path)


def open_session(
    folder: str | Path,
    model: nn.Module | None = None,
    calibration: Any = None,
    evaluation: Any = None,
    *,
    training: Any = None,
    loss: Loss | None = None,
) -> Session:
    """The session that was saved in `folder`, with its history and its branches, ready to go on.

    `model`: the original network; `calibration`, `training`, `loss`: as for Session. Model and calibration
    may be left out for a built-in example. Nothing is measured again under the simultaneous procedure;
    scores are the saved ones.

    Raises RecipeError for a damaged file (naming it) or another model; FileNotFoundError.
    """
    folder = Path(folder)
    recipe = read_recipe(folder / RECIPE)
    moments = _tensors(folder / MOMENTS)
    start = _score_in(recipe.get("original"), f"'original' of {folder / RECIPE}")
    count = recipe.get("branches", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise RecipeError(f"{folder / RECIPE}: 'branches' must be a number of branches, got {count!r}")
    folders = [folder, *(folder / BRANCHES / str(number) for number in range(1, count + 1))]
    branches = [_read_branch(one, start, recipe) for one in folders]
    names = [branch.name for branch in branches]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise RecipeError(f"{folder} has branches called {', '.join(map(repr, names))}: one name each")
    session = session_for(
        recipe, model, calibration, evaluation, None, training, loss, recipe.get("data", "")
    )
    statistics = _statistics(moments, session, folder / MOMENTS)
    try:
        session.restore(statistics, start, branches)
    except ValueError as error:
        raise RecipeError(f"{folder} cannot be opened: {error}") from error
    return session


def _read_branch(folder: Path, start: float | None, whole: dict[str, Any]) -> SavedBranch:
    """The branch in `folder`; it must belong to the session whose recipe is `whole`."""
    file = folder / RECIPE
    recipe = read_recipe(file)
    if (recipe["model"]["fingerprint"], recipe["procedure"]) != (
        whole["model"]["fingerprint"],
        whole["procedure"],
    ):
        raise RecipeError(f"{file} is a branch of another session: its model or procedure differs")
    places = [f"step {i + 1} of {file}" for i in range(len(recipe["steps"]))]
    steps = [parse_step(record, place) for record, place in zip(recipe["steps"], places, strict=True)]
    scores = [
        _score_in(record.get("result"), place) for record, place in zip(recipe["steps"], places, strict=True)
    ]
    tuned = {i: _tensors(folder / TUNED.format(i)) for i, s in enumerate(steps) if isinstance(s, TuneStep)}
    name = recipe.get("branch", MAIN)
    if not isinstance(name, str):
        raise RecipeError(f"{file}: 'branch' must be a name, got {name!r}")
    return SavedBranch(name, steps, [start, *scores], _tensors(folder / WEIGHTS), tuned)


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


def _statistics(moments: dict[str, Tensor], session: Session, path: Path) -> dict[str, GroupStatistics]:
    by_group: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        group, _, rest = key.partition("/")
        by_group.setdefault(group, {})[rest] = value
    wanted = {group.name for group in session.groups if group.prunable}
    if by_group and set(by_group) != wanted:
        raise RecipeError(
            f"{path} has moments of {', '.join(sorted(by_group))}, but the model's prunable groups are "
            f"{', '.join(sorted(wanted))}"
        )
    for name, state in by_group.items():
        found = session.group(name)
        shapes = {tuple(value.shape) for key, value in state.items() if key.endswith((".total", "active"))}
        wide = {(found.width, found.width), (found.width,)}
        if shapes != wide or f"{len(found.readers)}.total" in state:
            raise RecipeError(f"{path} has moments that do not fit {name} with its {found.width} units")
    try:
        return {name: GroupStatistics.from_state(state) for name, state in by_group.items()}
    except (KeyError, ValueError) as error:
        raise RecipeError(f"{path} lacks a part of its moments: {error}") from error

"""A session on disk: recipe.json, moments.safetensors, model.safetensors. JSON and safetensors, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.measure import GroupStatistics
from workbench.session.recipe import RecipeError, TuneStep, parse_step, read_recipe
from workbench.session.replay import session_for
from workbench.session.session import Session

RECIPE, MOMENTS, WEIGHTS = "recipe.json", "moments.safetensors", "model.safetensors"
TUNED = "tuned-{}.safetensors"  # weights after the fine-tuning that is this step of the recipe


def save_session(session: Session, folder: str | Path) -> None:
    """Write the session up to its present step. Each file is written whole or not at all.

    `recipe.json` says how it was done, `moments.safetensors` holds what was measured on the original
    network, and `model.safetensors` the smaller network's weights.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to save the session in")
    folder.mkdir(parents=True, exist_ok=True)
    moments = {
        f"{name}/{key}": value.contiguous()
        for name, statistics in session.original_statistics().items()
        for key, value in statistics.state().items()
    }
    weights = {key: value.detach().clone().contiguous() for key, value in session.model.state_dict().items()}
    recipe = session.recipe | {"original": {"score": session.history[0].score}}
    _write(folder / MOMENTS, lambda path: save_file(moments, path))
    _write(folder / WEIGHTS, lambda path: save_file(weights, path))
    for index, model in session.tuned_models().items():
        tuned = {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}
        _write(folder / TUNED.format(index), lambda path, tuned=tuned: save_file(tuned, path))
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    _write(folder / RECIPE, lambda path: Path(path).write_text(text, encoding="utf-8"))


def open_session(
    folder: str | Path,
    model: nn.Module | None = None,
    calibration: Any = None,
    evaluation: Any = None,
) -> Session:
    """The session that was saved in `folder`, with its history, ready to go on.

    `model`: the original network; `calibration`: as for Session. Both may be left out for a built-in
    example. Nothing is measured again under the simultaneous procedure; scores are the saved ones.

    Raises RecipeError for a damaged file (naming it) or another model; FileNotFoundError.
    """
    folder = Path(folder)
    recipe = read_recipe(folder / RECIPE)
    moments, weights = read_tensors(folder / MOMENTS), read_tensors(folder / WEIGHTS)
    session = session_for(recipe, model, calibration, evaluation)
    statistics = _statistics(moments, session, folder / MOMENTS)
    steps = [
        parse_step(record, f"step {i + 1} of {folder / RECIPE}") for i, record in enumerate(recipe["steps"])
    ]
    scores = [(record.get("result") or {}).get("score") for record in recipe["steps"]]
    start = (recipe.get("original") or {}).get("score")
    tuned = {
        i: read_tensors(folder / TUNED.format(i)) for i, s in enumerate(steps) if isinstance(s, TuneStep)
    }
    try:
        session.restore(statistics, steps, [start, *scores], weights, tuned)
    except ValueError as error:
        raise RecipeError(f"{folder} cannot be opened: {error}") from error
    return session


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises RecipeError naming a damaged one."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RecipeError(f"{path} is not a whole safetensors file ({error}); it may be truncated") from error


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


def _write(path: Path, write) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        write(temporary)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

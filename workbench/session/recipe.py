"""The record of a session: versioned JSON with the model's fingerprint, enough to do it all again."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench.network.rebuilt.explicit import explicit
from workbench.pruning.choice import RECONSTRUCTIONS, Choice
from workbench.session.history import Step
from workbench.spectral.selection import SELECTIONS
from workbench.tuning.settings import Tuning

FORMAT = "spectral-pruning-recipe"
VERSION = 1
STEP_FIELDS = {
    "group": str,
    "of": int,
    "width": int,
    "kept": list,
    "lam": float,
    "theta": float,
    "selection": str,
    "reconstruction": str,
}


class RecipeError(ValueError):
    """A recipe that cannot be used: not ours, damaged, or of another model."""


@dataclass(frozen=True)
class RecipeStep:
    """One commit, as it is written: units kept of those that were there, and how they were reconstructed."""

    group: str
    of: int
    width: int
    kept: tuple[int, ...]
    lam: float
    theta: float
    selection: str
    reconstruction: str
    reestimate: bool = False
    plan: str = ""

    @classmethod
    def of_choice(cls, choice: Choice) -> RecipeStep:
        return cls(**{name: getattr(choice, name) for name in (*STEP_FIELDS, "reestimate")})


@dataclass(frozen=True)
class TuneStep:
    """One fine-tuning, as it is written."""

    tuning: Tuning


@dataclass(frozen=True)
class RefitStep:
    """All layers fitted once more to the original."""


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over every tensor of the state dict: name, type, shape, values. 64 hexadecimal digits.

    Attention and recurrent layers count as they are taken apart (see `explicit`).
    """
    if any(isinstance(module, (nn.MultiheadAttention, nn.RNNBase)) for module in model.modules()):
        model = explicit(copy.deepcopy(model))
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # Viewed as bytes, since numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def make_recipe(
    *,
    name: str,
    example: str | None,
    model_fingerprint: str,
    procedure: str,
    steps: Sequence[dict],
    data_name: str = "",
) -> dict[str, Any]:
    """The recipe as a dictionary of plain values, ready for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {"name": name, "example": example, "fingerprint": model_fingerprint},
        "data": data_name,
        "procedure": procedure,
        "torch": torch.__version__,
        "steps": list(steps),
    }


def record_of(step: Step) -> dict[str, Any]:
    """One step of a recipe, with the numbers that it led to."""
    result = {"score": step.score, "parameters": step.parameters, "macs": step.macs}
    if step.choice is None and step.tuning is None:
        return {"kind": "refit", "result": result}
    if step.choice is None:
        return {"kind": "finetune", "tuning": asdict(step.tuning or Tuning()), "result": result}
    record = asdict(RecipeStep.of_choice(step.choice))
    return record | {"kept": list(step.choice.kept), "plan": step.plan, "result": result}


def read_recipe(source: dict | str | Path) -> dict[str, Any]:
    """A recipe from a dictionary or a JSON file, checked whole before anything is done with it.

    Raises RecipeError saying what is wrong and where; OSError where the file cannot be read.
    """
    where = "the recipe"
    if not isinstance(source, (dict, str, Path)):
        raise RecipeError(f"a recipe is a dictionary or a path, got a {type(source).__name__}")
    if not isinstance(source, dict):
        where = str(source)
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except ValueError as error:
            raise RecipeError(f"{where} is not a whole JSON file ({error}); it may be truncated") from error
    if not isinstance(source, dict) or source.get("format") != FORMAT:
        raise RecipeError(f"{where} is not a recipe of this workbench: 'format' must be {FORMAT!r}")
    if source.get("version") != VERSION:
        raise RecipeError(
            f"{where} has version {source.get('version')!r}; this workbench reads version {VERSION}"
        )
    model = source.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("fingerprint"), str):
        raise RecipeError(f"{where} lacks the model's fingerprint")
    if not isinstance(source.get("data", ""), str):
        raise RecipeError(f"{where}: 'data' must be a name, got {source['data']!r}")
    if source.get("procedure") not in ("simultaneous", "sequential"):
        raise RecipeError(f"{where} has an unknown procedure: {source.get('procedure')!r}")
    if not isinstance(source.get("steps"), list):
        raise RecipeError(f"{where} lacks its list of steps")
    for index, step in enumerate(source["steps"]):
        parse_step(step, f"step {index + 1} of {where}")
    return source


def parse_step(step: Any, where: str) -> RecipeStep | TuneStep | RefitStep:
    """One step of a recipe, its fields and their types checked. Raises RecipeError."""
    if not isinstance(step, dict):
        raise RecipeError(f"{where} is not an object")
    if step.get("kind", "commit") == "refit":
        return RefitStep()
    if step.get("kind", "commit") == "finetune":
        try:
            return TuneStep(Tuning(**step.get("tuning", {})))
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{where}: the fine-tuning cannot be read: {error}") from error
    values: dict[str, Any] = {}
    for name, kind in STEP_FIELDS.items():
        value = step.get(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RecipeError(f"{where}: {name!r} must be a {kind.__name__}, got {value!r}")
        values[name] = value
    kept, of = values["kept"], values["of"]
    whole = all(isinstance(unit, int) and not isinstance(unit, bool) for unit in kept)
    if not whole or not kept or sorted(set(kept)) != kept or kept[0] < 0 or kept[-1] >= of:
        raise RecipeError(f"{where}: 'kept' must be ascending, distinct unit indices in [0, {of})")
    if len(kept) != values["width"]:
        raise RecipeError(f"{where}: {len(kept)} units are kept, but the width is {values['width']}")
    if not values["lam"] > 0 or not 0 <= values["theta"] <= 1:
        raise RecipeError(f"{where}: λ must be positive and θ in [0, 1]")
    if values["selection"] not in SELECTIONS or values["reconstruction"] not in RECONSTRUCTIONS:
        raise RecipeError(f"{where}: unknown selection or reconstruction")
    reestimate = step.get("reestimate", False)
    if not isinstance(reestimate, bool):
        raise RecipeError(f"{where}: 'reestimate' must be true or false, got {reestimate!r}")
    plan = step.get("plan", "")
    if not isinstance(plan, str):
        raise RecipeError(f"{where}: 'plan' must be a name, got {plan!r}")
    return RecipeStep(**values | {"kept": tuple(kept), "reestimate": reestimate, "plan": plan})


def check_fingerprint(recipe: dict[str, Any], model: nn.Module) -> None:
    """Refuse another model. Raises RecipeError with both fingerprints."""
    wanted, found = recipe["model"]["fingerprint"], fingerprint(model)
    if wanted != found:
        raise RecipeError(
            f"the recipe was made for a model with fingerprint {wanted}, but this model has {found}; "
            "load the weights with which the recipe was made"
        )

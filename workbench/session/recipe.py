"""The record of a session: versioned JSON with the model's fingerprint, enough to do it all again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from torch import nn

from workbench.data.bounds import FileError
from workbench.data.durable import SEAL, DamagedError, expanded, read_sealed
from workbench.export.architecture import quoted
from workbench.export.kinds import STORE
from workbench.measure.asking import check_asked
from workbench.network.copying import copied
from workbench.network.rebuilt.bare_matrices import bare_matrices
from workbench.network.rebuilt.experts import are_experts
from workbench.network.rebuilt.explicit import explicit, is_explicit
from workbench.network.rebuilt.resolved import is_resolvable
from workbench.pruning.choice import RECONSTRUCTIONS, Choice
from workbench.session.history import Step
from workbench.spectral.selection import SELECTIONS
from workbench.tuning.settings import Tuning

FORMAT = "spectral-pruning-recipe"
VERSION = 1


MOST_STEPS = 10_000
MOST_UNITS = 1 << 31
LONGEST_SHOWN = 60  # characters of a value in an error


class RecipeError(FileError):
    """A recipe, or a file of a session, that cannot be used: not ours, damaged, or of another model."""


class RecipeStep(msgspec.Struct, frozen=True):
    """One commit, as it is written: units kept of those that were there, and how they were reconstructed."""

    group: str
    of: Annotated[int, msgspec.Meta(ge=1, le=MOST_UNITS)]
    width: int
    kept: tuple[int, ...]
    lam: float
    theta: float
    selection: str
    reconstruction: str
    reestimate: bool = False
    plan: str = ""

    def __post_init__(self) -> None:
        kept = list(self.kept)
        if not kept or sorted(set(kept)) != kept or kept[0] < 0 or kept[-1] >= self.of:
            raise ValueError(f"'kept' must be ascending, distinct unit indices in [0, {self.of})")
        if len(kept) != self.width:
            raise ValueError(f"{len(kept)} units are kept, but the width is {self.width}")
        if not 0 < self.lam < math.inf or not 0 <= self.theta <= 1:
            raise ValueError(
                f"λ must be positive and finite, and θ in [0, 1]; got {self.lam} and {self.theta}"
            )
        if self.selection not in SELECTIONS or self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"unknown selection or reconstruction: {self.selection!r}, {self.reconstruction!r}"
            )

    @classmethod
    def of_choice(cls, choice: Choice, plan: str = "") -> RecipeStep:
        names = (name for name in cls.__struct_fields__ if name != "plan")
        return cls(**{name: getattr(choice, name) for name in names}, plan=plan)


@dataclass(frozen=True)
class TuneStep:
    """One fine-tuning, as it is written."""

    tuning: Tuning


@dataclass(frozen=True)
class RefitStep:
    """All layers fitted once more to the original."""


class _Model(msgspec.Struct):
    fingerprint: str
    name: str = ""
    example: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """How targets and positions are read, where a person said so; None: as they are.

    `metric`, `classes`: as in `measure.asking`. `mask`: as in `measure.positions`, but for a function.
    """

    metric: str | None = None
    classes: str | None = None
    mask: str | bool | None = None

    def __post_init__(self) -> None:
        check_asked(self.metric, self.classes)


_AS_THEY_ARE = Asked()


class _Recipe(msgspec.Struct):
    """What every recipe must hold; its steps are read one by one."""

    model: _Model
    procedure: Literal["simultaneous", "sequential"]
    steps: list[Any]
    data: str = ""
    targets: Asked = _AS_THEY_ARE


# What is wrong where one of the parts is: the words before those of msgspec, which name the place.
_PARTS = {
    "model": "the model's fingerprint is missing or damaged",
    "procedure": "the procedure must be 'simultaneous' or 'sequential'",
    "steps": "the list of steps is missing or damaged",
    "data": "'data' must be a name",
    "targets": "'targets' must say how they are read, as 'metric', 'classes' and 'mask'",
}


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over every tensor of the state dict: name, type, shape, values. 64 hexadecimal digits.

    Layers that are taken apart, attention and recurrent ones say, count as they are then (see `explicit`).
    """
    if not is_explicit(model):
        model = explicit(copied(model).eval())  # a session looks at it so: spectral norm steps on in training
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
    asked: Asked = _AS_THEY_ARE,
) -> dict[str, Any]:
    """The recipe as a dictionary of plain values, ready for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {"name": name, "example": example, "fingerprint": model_fingerprint},
        "data": data_name,
        "targets": {k: v for k, v in msgspec.to_builtins(asked).items() if k != "mask" or v is not None},
        "procedure": procedure,
        "torch": str(torch.__version__),
        "steps": list(steps),
    }


def record_of(step: Step) -> dict[str, Any]:
    """One step of a recipe, with the numbers that it led to."""
    result = {"score": step.score, "parameters": step.parameters, "macs": step.macs}
    if step.choice is None and step.tuning is None:
        return {"kind": "refit", "result": result}
    if step.choice is None:
        return {"kind": "finetune", "tuning": asdict(step.tuning or Tuning()), "result": result}
    written = RecipeStep.of_choice(step.choice, step.plan)
    record = {name: getattr(written, name) for name in written.__struct_fields__}
    return record | {"kept": list(step.choice.kept), "result": result}


def read_recipe(
    source: dict | str | Path, within: Path | None = None, where: str = "the recipe"
) -> dict[str, Any]:
    """A recipe from a dictionary or a JSON file, checked whole before anything is done with it.

    `within`: the folder out of which no link may lead to the file; `where`: what a dictionary is. Raises
    RecipeError saying what is wrong and where in the file, as `$.steps[3].width`; OSError where the file
    cannot be read.
    """
    if not isinstance(source, (dict, str, Path)):
        raise RecipeError(f"a recipe is a dictionary or a path, got a {type(source).__name__}")
    if not isinstance(source, dict):
        where = str(expanded(source))
        try:
            source = read_sealed(Path(where), {STORE}, within)
        except DamagedError as error:
            raise RecipeError(
                f"{error}; to replay it as it is, take '{STORE}' and '{SEAL}' out of it"
            ) from error
        except FileError as error:
            raise RecipeError(str(error)) from error
    if not isinstance(source, dict) or source.get("format") != FORMAT:
        raise RecipeError(f"{where} is not a recipe of this workbench: 'format' must be {FORMAT!r}")
    if source.get("version") != VERSION:
        raise RecipeError(
            f"{where} has version {shortened(source.get('version'))}; this workbench reads version {VERSION}"
        )
    try:
        msgspec.convert(source, _Recipe)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        words = quoted(error)
        parts = (said for name, said in _PARTS.items() if f"$.{name}" in words or f"'{name}'" in words)
        part = next(parts, "")
        raise RecipeError(f"{where}: {part}{': ' if part else ''}{words}") from error
    read_steps(source, where)
    return source


def asked_in(recipe: dict[str, Any]) -> Asked:
    """How the targets of a checked recipe are read; one of an earlier version does not say."""
    return msgspec.convert(recipe.get("targets", {}), Asked)


def read_steps(recipe: dict[str, Any], where: str = "the recipe") -> list[RecipeStep | TuneStep | RefitStep]:
    """The steps of a recipe, their fields and types checked. Raises RecipeError."""
    count = len(recipe["steps"])
    if count > MOST_STEPS:
        raise RecipeError(f"{where} has {count:,} steps in $.steps; the limit is {MOST_STEPS:,}")
    return [_step(record, index, where) for index, record in enumerate(recipe["steps"])]


def _step(record: Any, index: int, where: str) -> RecipeStep | TuneStep | RefitStep:
    kinds = {"commit": RecipeStep, "refit": RefitStep, "finetune": Tuning}
    place = f"$.steps[{index}]"
    try:
        kind = msgspec.convert(record, dict[str, Any]).get("kind", "commit")
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(f"unknown kind of step {shortened(kind)}: the kinds are {', '.join(kinds)}")
        if kind == "refit":
            return RefitStep()
        if kind == "commit":
            return msgspec.convert(record, RecipeStep)
        place += ".tuning"
        settings = msgspec.convert(record.get("tuning", {}), dict[str, Any])
        unknown = settings.keys() - {field.name for field in fields(Tuning)}
        if unknown:
            raise ValueError(f"unknown settings {shortened(', '.join(sorted(unknown)))}")
        return TuneStep(msgspec.convert(settings, Tuning))
    except (ValueError, OverflowError, RecursionError) as error:
        raise RecipeError(f"step {index + 1} of {where}: {quoted(error, place)}") from error


def shortened(value: Any) -> str:
    """A value in an error, which may be of any length."""
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes
        words = f"a {type(value).__name__} without end"
    return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}…"


def check_fingerprint(recipe: dict[str, Any], model: nn.Module) -> str:
    """The model's fingerprint; another model than the recipe's is refused.

    Raises RecipeError with both fingerprints, and what to do.
    """
    wanted, found = recipe["model"]["fingerprint"], fingerprint(model)
    if wanted != found:
        raise RecipeError(
            f"the recipe was made for a model with fingerprint {wanted}, but this model has {found}; "
            f"load the weights with which the recipe was made{_of_an_earlier_version(model)}"
        )
    return found


def _of_an_earlier_version(model: nn.Module) -> str:
    """What else may be the reason that a fingerprint differs: layers that were once left as they are."""
    names = [
        name or "the model"
        for name, module in model.named_modules()
        if is_resolvable(module) or are_experts(module) or bare_matrices(module)
    ]
    if not names:
        return ""
    return (
        f". If it has these, the recipe is of an earlier version of the workbench, which did not take "
        f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} apart as this one does: open and export it "
        "with that version, or start a new session on the model, wb.Session(model, ...), and save that"
    )

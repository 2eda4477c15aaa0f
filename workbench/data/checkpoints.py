"""Weights from a file into a model: safetensors, or what torch.save wrote. Nothing in a file is ever run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from workbench.data.bounds import FileError, check_file, reading
from workbench.data.tensor_files import MOST_TENSORS, SUFFIX, read_tensors, starts_as_safetensors
from workbench.data.torch_files import ADVICE, SHOWN, few, read_torch_file
from workbench.network.running import one_line

# Where training scripts put the state dict; averaged weights ('ema…') come last, if there is nothing else.
WRAPPERS = ("state_dict", "model_state_dict", "model", "weights", "net", "params", "module")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning and the like
AVERAGE_COUNTER = "n_averaged"  # which torch.optim.swa_utils.AveragedModel adds to its weights
DEEPEST = 4  # wrappers within wrappers; a pickled dictionary may even hold itself
LEAST_ROOM = 1 << 24  # numbers that a tensor may repeat, whatever the size of its file


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """Copy the weights in a file into a model, all or nothing.

    The file is `.safetensors`, or what torch.save wrote, read with `weights_only=True`. A state dict inside
    'state_dict', 'model', 'model_state_dict', 'weights', 'net', 'params', 'module' or 'ema…' is found, and
    the prefixes 'module.', '_orig_mod.' and 'model.' may stand before the keys, in the file or in the model.
    Every key must be there with its shape, but for `num_batches_tracked` and the second name of a tied
    tensor. Numbers become the model's own dtype and device.

    Args:
        model: whose weights are overwritten.
        path: of the file.

    Returns:
        The same `model`.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the file is no regular file or damaged, holds a module or code, more than the bounds
            allow, does not fit the model (with keys and shapes), or holds numbers that are not finite. The
            model is then unchanged.
        ValueError: the model has no places for numbers.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"weights are loaded into a torch module, not into a {type(model).__name__}")
    path = _existing(path)
    own = _own_tensors(model)
    with reading(path):
        stored = _fitting(read_state_dict(path), own, model, path)
        _check_ties(stored, model, path)
        _take(model, stored, path)
    return model


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """What a file of weights holds, taken out of its wrapper.

    Args:
        path: of a `.safetensors` file, or of what torch.save wrote.

    Returns:
        Tensors by name, on the CPU, in the dtypes of the file.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the file is damaged, holds something else, or more than the bounds allow
            (`tensor_files`, `torch_files`).
    """
    path = _existing(path)
    with reading(path):
        if path.suffix == SUFFIX or starts_as_safetensors(path):
            return read_tensors(path)
        held = _unwrapped(read_torch_file(path), path)
        _check_sizes(held, path)
        return held


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        raise FileError(f"{path} is a folder: give the file of weights in it (.safetensors, .pt or .pth)")
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}: give a checkpoint (.safetensors, .pt or .pth)") from error
    return path


def _check_sizes(held: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that claim far more numbers than the file has, by repeating a few."""
    if len(held) > MOST_TENSORS:
        raise FileError(f"{path} holds {len(held):,} tensors; the limit for one file is {MOST_TENSORS:,}")
    room = max(LEAST_ROOM, path.stat().st_size)
    for key, value in held.items():
        if isinstance(value, Tensor) and not value.is_meta and value.numel() > room:
            raise FileError(
                f"{path}: {key} claims {value.numel():,} numbers, more than the file holds: save it as a "
                "plain tensor"
            )


def _unwrapped(held: Any, path: Path, depth: int = 0) -> dict[str, Any]:
    if isinstance(held, nn.Module):
        raise ValueError(f"{path} holds a whole module ({type(held).__name__}), not its weights: {ADVICE}")
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} holds a {type(held).__name__}, not a dictionary of tensors: {ADVICE}")
    averaged = sorted(key for key in held if isinstance(key, str) and "ema" in key.lower().split("_"))
    for key in (*WRAPPERS, *averaged):
        inner = held.get(key)
        if isinstance(inner, nn.Module) or (isinstance(inner, Mapping) and inner and depth < DEEPEST):
            return _unwrapped(inner, path, depth + 1)
    if not any(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(
            f"{path} holds no state dict: its keys are {few(map(str, held)) or 'none'}; expected tensors by "
            f"name, or a dictionary of them under one of {', '.join(WRAPPERS)}"
        )
    entries = {str(key): value for key, value in held.items()}
    if all(key == AVERAGE_COUNTER or key.startswith("module.") for key in entries):
        entries.pop(AVERAGE_COUNTER, None)
    return entries


def _own_tensors(model: nn.Module) -> dict[str, Any]:
    own = model.state_dict()
    for key, value in own.items():
        if isinstance(value, Tensor) and is_lazy(value):
            raise ValueError(f"{key} of the model has no shape yet: run it on one example, then load weights")
        if isinstance(value, Tensor) and value.is_meta:
            raise ValueError(
                f"{key} of the model lies on the 'meta' device, where weights have no place: build the model "
                "outside of torch.device('meta')"
            )
    return own


def _fitting(
    stored: Mapping[str, Any], own: Mapping[str, Any], model: nn.Module, path: Path
) -> dict[str, Any]:
    """A tensor for every key of the model, in its dtype; whatever does not fit is a ValueError."""
    kind = type(model).__name__
    stored = _renamed(stored, own)
    given_elsewhere = _given_elsewhere(model, stored)
    missing = [key for key in own if key not in stored and not _may_miss(key, given_elsewhere)]
    unexpected = [key for key in stored if key not in own]
    if missing or unexpected:
        parts = [f"missing {_some(missing)}"] * bool(missing)
        parts += [f"unexpected {_some(unexpected)}"] * bool(unexpected)
        raise ValueError(f"{path} does not fit {kind}, which has {len(own)} keys: {'; '.join(parts)}")
    shared = [key for key in own if key in stored and not key.endswith("_extra_state")]
    for key in shared:
        _check_dense(stored[key], key, path)
    wrong = [
        f"{key} is {tuple(stored[key].shape)}, expected {tuple(own[key].shape)}"
        for key in shared
        if stored[key].shape != own[key].shape
    ]
    if wrong:
        raise ValueError(f"{path} does not fit {kind}: shapes differ for {_some(wrong, '; ')}")
    fitting = {key: _converted(stored[key], own[key].dtype, key, path) for key in shared}
    return {key: fitting.get(key, own[key]) for key in own if key not in given_elsewhere} | {
        key: fitting[other] for key, other in given_elsewhere.items()
    }


def _given_elsewhere(model: nn.Module, stored: Mapping[str, Any]) -> dict[str, str]:
    """Tied tensors: a key that the file lacks → the other name under which the file has it."""
    names: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(key)
    found: dict[str, str] = {}
    for keys in names.values():
        present = [key for key in keys if key in stored]
        found |= {key: present[0] for key in keys if present and key not in stored}
    return found


def _may_miss(key: str, given_elsewhere: Mapping[str, str]) -> bool:
    return key in given_elsewhere or key.endswith(("num_batches_tracked", "_extra_state"))


def _check_dense(value: Any, key: str, path: Path) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{path}: {key} is a {type(value).__name__}, expected a tensor")
    if value.is_meta:
        raise ValueError(f"{path}: {key} was saved from the 'meta' device and holds no numbers")
    if value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"{path}: {key} is sparse or quantised; save it as a plain tensor")


def _converted(value: Tensor, dtype: torch.dtype, key: str, path: Path) -> Tensor:
    if _category(value.dtype) != _category(dtype):
        raise ValueError(f"{path}: {key} holds {_short(value.dtype)} numbers, expected {_short(dtype)}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{path}: {key} holds NaN or infinite numbers; the training may have diverged")
    converted = value.detach().to(dtype)
    survives = torch.isfinite(converted) if dtype.is_floating_point else converted == value
    if not bool(survives.all()):
        raise ValueError(f"{path}: {key} has numbers that are too large for the model's {_short(dtype)}")
    return converted


def _category(dtype: torch.dtype) -> str:
    return "complex" if dtype.is_complex else "floating" if dtype.is_floating_point else "whole"


def _check_ties(stored: Mapping[str, Any], model: nn.Module, path: Path) -> None:
    first: dict[int, str] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        other = first.setdefault(id(value), key)
        if other != key and isinstance(value, Tensor) and not torch.equal(stored[key], stored[other]):
            raise ValueError(
                f"{path} does not fit {type(model).__name__}: {other} and {key} are one tensor in the model, "
                "but two different ones in the file"
            )


def _take(model: nn.Module, stored: dict[str, Any], path: Path) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    try:
        model.load_state_dict(stored)
    except Exception as error:  # a module's own way of loading may raise anything
        with contextlib.suppress(Exception):
            model.load_state_dict(before, strict=False)
        raise ValueError(
            f"{path} could not be loaded into {type(model).__name__}: {one_line(error)}"
        ) from error


def _renamed(stored: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """`stored` under the model's names, as far as taking off prefixes on either side brings them together."""
    pairs = [(ours, theirs) for ours in _names(own) for theirs in _names(stored)]
    # min keeps the first of equals, which is the one with the fewest prefixes taken off.
    ours, theirs = min(pairs, key=lambda pair: len(pair[0].keys() ^ pair[1].keys()))
    return {ours.get(name, original): stored[original] for name, original in theirs.items()}


def _names(keys: Iterable[str]) -> list[dict[str, str]]:
    """Ways to write the keys, each as {shortened: original}: as they are, then with prefixes taken off."""
    ways = [{key: key for key in keys}]
    for way in ways:  # the list grows while it is gone through; every new way is shorter than its origin
        for prefix in PREFIXES:
            if any(name.startswith(prefix) for name in way):
                ways += _if_new({name.removeprefix(prefix): old for name, old in way.items()}, way, ways)
        ways += _if_new({name.replace("._orig_mod.", "."): old for name, old in way.items()}, way, ways)
    return ways


def _if_new(shorter: dict[str, str], way: dict[str, str], ways: list[dict[str, str]]) -> list[dict[str, str]]:
    """Neither a way that is there already, nor one in which two keys fall together."""
    return [] if len(shorter) < len(way) or shorter in ways else [shorter]


def _some(items: list[str], between: str = ", ") -> str:
    """'3 keys: a, b, c', or the first few and how many more there are."""
    rest = f"{between}and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)}: {between.join(items[:SHOWN])}{rest}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

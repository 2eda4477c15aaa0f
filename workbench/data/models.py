"""A model by name: a factory of the user's own, or torchvision, timm and transformers where installed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from workbench.data.bounds import check_file
from workbench.data.checkpoints import load_checkpoint
from workbench.data.factories import made_by
from workbench.network.running import one_line

EXTRAS = {"torchvision": "vision", "timm": "vision", "transformers": "hub"}
CLASS_OPTION = "class"  # of transformers: the class to build, instead of the configuration's own


def load_model(
    name: str,
    weights: str | None = None,
    checkpoint: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The model of a name, in evaluation mode, on the CPU unless its factory says otherwise.

    Without `weights` and `checkpoint`, weights are what the factory makes of them: random ones, for the three
    packages.

    Args:
        name: one of

            - 'package.module:factory' or 'path/to/file.py:factory', a function or nn.Module class;
            - 'torchvision:resnet18', 'timm:mobilenetv3_small_100';
            - 'transformers:bert-base-uncased', or a folder that save_pretrained wrote: the class is the one
              that its configuration names, or of options={"class": "AutoModelForSequenceClassification"}.
        weights: 'default' takes a package's pretrained weights, through its own cache; torchvision also knows
            others by name.
        checkpoint: a file of weights, see `load_checkpoint`.
        options: keyword arguments of the factory (of transformers: of the configuration).

    Returns:
        The model.

    Raises:
        ValueError: there is no such model, it cannot be built or does not fit its weights, or a package is
            missing (the message says what to install).
        FileNotFoundError: there is no such checkpoint.
        FileError: the checkpoint cannot be taken, see `load_checkpoint`.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"a model is loaded by its name, such as 'mynet:make', not by a {type(name).__name__}"
        )
    if weights is not None and checkpoint is not None:
        raise ValueError(f"give weights={weights!r} or a checkpoint for {name}, not both")
    if checkpoint is not None:
        check_file(Path(checkpoint).expanduser())  # said before anything large is built
    package, _, rest = name.partition(":")
    if package in EXTRAS:
        model = _built(name, BUILDERS[package], imported(package), rest, weights, dict(options or {}))
    elif weights is not None:
        raise ValueError(
            f"weights={weights!r} is for torchvision:, timm: and transformers: models; give the weights of "
            f"{name} as a checkpoint file"
        )
    else:
        model = made_by(name, options)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} made a {type(model).__name__}, not a torch module")
    model.eval()
    return model if checkpoint is None else load_checkpoint(model, checkpoint)


def imported(package: str) -> Any:
    """A package that is not needed otherwise.

    Args:
        package: its name.

    Returns:
        The module.

    Raises:
        ValueError: it is not installed, naming the extra that installs it, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ValueError(f"{package} is installed, but lacks {error.name}: install it again") from error
        raise ValueError(
            f"{package} is not installed: "
            f'pip install "spectral-pruning-workbench[{EXTRAS[package]}]" brings it'
        ) from error
    except Exception as error:  # builds that do not fit the torch beside them fail in many ways
        raise ValueError(
            f"{package} is installed, but cannot be imported ({type(error).__name__}: {one_line(error)}): "
            "install a version that fits this torch"
        ) from error


def _built(name: str, build: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return build(*arguments)
    except _NameError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # unknown options, no network, a full disc: each package has its own errors
        raise ValueError(f"{name} cannot be loaded: {type(error).__name__}: {one_line(error)}") from error


class _NameError(ValueError):
    """A name or option that a package does not know; the message is complete as it is."""


def _from_torchvision(package: Any, name: str, weights: str | None, options: dict[str, Any]) -> Any:
    _check_name("torchvision", name, package.models.list_models())
    return package.models.get_model(name, weights="DEFAULT" if weights == "default" else weights, **options)


def _from_timm(package: Any, name: str, weights: str | None, options: dict[str, Any]) -> Any:
    _check_default("timm", weights, "timm's names carry theirs, as in resnet18.a1_in1k")
    if ":" not in name:  # hf-hub:… and local-dir:… are looked for elsewhere
        _check_name("timm", name.partition(".")[0], package.list_models())
    return package.create_model(name, pretrained=weights is not None, **options)


def _from_transformers(package: Any, name: str, weights: str | None, options: dict[str, Any]) -> Any:
    _check_default("transformers", weights, "give other weights as a folder or as a checkpoint file")
    if "trust_remote_code" in options:
        raise _NameError("code that comes with a model is never run here; load it in a factory of your own")
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise _NameError(f"there is no folder {name}: give one that save_pretrained wrote")
    wanted = options.pop(CLASS_OPTION, None)
    config = package.AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    named = [wanted] if wanted else [*(config.architectures or ()), "AutoModel"]
    kind: Any = next((getattr(package, one) for one in named if hasattr(package, one)), None)
    if not hasattr(kind, "from_pretrained"):
        raise _NameError(
            f"transformers has no model class {wanted!r}; one is AutoModelForSequenceClassification"
        )
    if weights is not None:
        return kind.from_pretrained(name, config=config, trust_remote_code=False)
    automatic = kind.__name__.startswith("AutoModel")
    return kind.from_config(config, trust_remote_code=False) if automatic else kind(config)


BUILDERS: dict[str, Callable[..., Any]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
    "transformers": _from_transformers,
}


def _check_name(package: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f", which has {len(known)} models"
        raise _NameError(f"there is no model {name!r} in {package}{hint}")


def _check_default(package: str, weights: str | None, otherwise: str) -> None:
    if weights not in (None, "default"):
        raise _NameError(f"weights={weights!r}: {package} models take 'default' or none; {otherwise}")

"""A smaller network as tensors and a description of what changed, and back from the original class.

`architecture.json` says of every layer that changed what it was and what it is; `model.safetensors` holds
the numbers. Both are of the *explicit* network (network/explicit.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from workbench.data.bounds import FileError, check_file, reading, stamp
from workbench.data.durable import DamagedError, digest_of, expanded, read_again, read_sealed
from workbench.data.tensor_files import LARGEST_FILE, LONGEST_AXIS, MOST_AXES, read_tensors
from workbench.export.kinds import ALWAYS, ARCHITECTURE, FORMAT, PROGRAMS, README, WEIGHTS
from workbench.export.placing import path_of, settle
from workbench.network.cached import refresh
from workbench.network.copying import copied
from workbench.network.rebuilt.bare_matrices import bare_layers_within
from workbench.network.rebuilt.explicit import explicit
from workbench.network.rebuilt.fallen_sizes import Fallen, fallen_of, set_fallen
from workbench.network.tensors import named_tensors, own_tensors

VERSION = 1
HASHES = "hashes"  # SHA-256 of the other files, by name
LAYER_FIELDS = ("class", "tensors", "original", "attributes")
MOST_LAYERS = 100_000
Size = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_AXIS)]
Shape = Annotated[list[Size], msgspec.Meta(max_length=MOST_AXES)]


class Layer(msgspec.Struct, rename={"kind": "class"}):
    """A layer that changed: its class, the shapes of its tensors now and before, and new whole numbers.

    `sizes`: those that its code gives to torch and that fell with units.
    """

    kind: str
    tensors: dict[str, Shape]
    original: dict[str, Shape]
    attributes: dict[str, Any]
    sizes: list[Fallen] = []


class Architecture(msgspec.Struct, rename={"kind": "class"}):
    """What `architecture.json` holds that is read again: see the head of this file.

    `aliases`: second names of tied tensors. `files`: those of the export. `hashes`: SHA-256 of the others,
    by name, where the version that wrote them had any.
    """

    kind: str
    layers: dict[str, Layer]
    aliases: dict[str, str]
    files: list[str] = []
    hashes: dict[str, str] = {}


def packed(model: nn.Module, original: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of `model`'s state dict, on the CPU, ready for a file; and second names: {name: first one}.

    Tied parameters are one tensor. Buffers that a state dict leaves out are here too where pruning cut them.
    """
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    made_by_the_class, before = passing(model), dict(named_tensors(original))
    for name, tensor in named_tensors(model):
        if name in made_by_the_class and name in before and before[name].shape == tensor.shape:
            continue
        if id(tensor) in first:
            aliases[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            tensors[name] = tensor.detach().cpu().clone().contiguous()
    return tensors, aliases


def changed_layers(model: nn.Module, original: nn.Module) -> dict[str, dict[str, Any]]:
    """Modules of `model` whose own tensors or whole numbers differ from those in `original`, by name.

    Each as {"class", "tensors": {name: shape}, "original": {name: shape}, "attributes": {name: number}}, and
    "sizes", a list, where sizes in its code fell.
    """
    before = dict(original.named_modules(remove_duplicate=False))
    layers = {}
    for name, module in model.named_modules(remove_duplicate=False):
        now, was = _shapes(module), _shapes(before[name])
        numbers = _numbers(before[name])
        attributes = {key: value for key, value in _numbers(module).items() if numbers.get(key) != value}
        sizes = [asdict(one) for one in fallen_of(module)]
        if now != was or attributes or sizes:
            layers[name] = {
                "class": type(module).__name__,
                "tensors": now,
                "original": was,
                "attributes": attributes,
            } | ({"sizes": sizes} if sizes else {})
    return layers


def load_pruned(model: nn.Module, folder: str | Path) -> nn.Module:
    """The pruned network that `Session.export` wrote into `folder`, in evaluation mode.

    `model` is of the original's class and widths, with any weights; it is copied and never changed. What
    comes back is on its device, with the number types of the files; attention and recurrent layers of torch
    are rebuilt from linear ones, as in the session.

    Every file of the export that is there is checked against its SHA-256, but for the README.

    Raises FileNotFoundError where a file is missing, and FileError, a ValueError, where one is damaged, not
    a regular file of the folder, beyond the bounds of such files, of an unknown version, or of another
    network than `model`: the layer, what was expected and what was found.
    """
    folder = expanded(folder)
    architecture, tensors = _read(folder)
    path = folder / WEIGHTS
    if not isinstance(model, nn.Module):
        raise TypeError(f"give the original network as a torch module; got a {type(model).__name__}")
    rebuilt = explicit(copied(model))
    if any(f"{layer}.weight" not in tensors for layer in bare_layers_within(rebuilt)):
        rebuilt = explicit(copied(model), matrices=False)  # as it was there
    with reading(folder / ARCHITECTURE):
        _check_class("the network", architecture.kind, rebuilt)
        for name, layer in architecture.layers.items():
            _check_layer(rebuilt, name, layer, path)
        for name, layer in architecture.layers.items():
            _reshape(rebuilt.get_submodule(name), layer)
        _fill(rebuilt, tensors, architecture.aliases, path)
    rebuilt.eval()
    refresh(rebuilt)
    return rebuilt


def _read(folder: Path) -> tuple[Architecture, dict[str, Tensor]]:
    """An export, checked as far as that goes without the model."""
    if folder.is_dir():
        settle(folder)

    def read() -> tuple[Architecture, dict[str, Tensor]]:
        architecture = read_architecture(path_of(folder, ARCHITECTURE), folder)
        _check_files(folder, architecture)
        return architecture, read_tensors(path_of(folder, WEIGHTS), folder)

    def state() -> Any:
        path = path_of(folder, ARCHITECTURE)
        settled = path.is_file() and path.parent == folder
        return stamp(path) if settled else object()  # never the same: files are being moved

    return read_again(read, state)


def _check_files(folder: Path, architecture: Architecture) -> None:
    """Raises FileNotFoundError, FileError."""
    for name in (*ALWAYS, *PROGRAMS.values()):
        path, wanted = path_of(folder, name), architecture.hashes.get(name)
        try:
            check_file(path, LARGEST_FILE, folder)
        except FileNotFoundError as error:
            if name == WEIGHTS:
                raise FileNotFoundError(
                    f"{path} is missing: give the whole folder that was exported"
                ) from error
            continue
        if wanted and name != README and digest_of(path) != wanted:
            raise DamagedError(
                f"{path} is damaged, or of another export: its content does not have the SHA-256 that "
                f"{ARCHITECTURE} says. Copy it again from where it is whole"
            )


def read_architecture(path: Path, within: Path | None = None) -> Architecture:
    """The description of an export, checked.

    Raises FileNotFoundError, FileError naming the file and the place in it, as `$.layers.conv2.tensors`.
    """
    try:
        found = read_sealed(path, {HASHES}, within)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: give the folder that Session.export wrote") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FileError(f"{path} is not an export of this workbench: 'format' must be {FORMAT!r}")
    if found.get("version") != VERSION:
        raise FileError(
            f"{path} has version {found.get('version')!r}; this workbench reads version {VERSION}"
        )
    layers = found.get("layers")
    if isinstance(layers, dict) and len(layers) > MOST_LAYERS:
        raise FileError(f"{path} has {len(layers):,} layers in $.layers; the limit is {MOST_LAYERS:,}")
    if isinstance(layers, dict):  # one by one, so that an error says which
        layers = {name: _read_layer(layer, name, path) for name, layer in layers.items()}
    try:
        return msgspec.convert(found | {"layers": layers}, Architecture)
    except msgspec.ValidationError as error:
        raise FileError(
            f"{path} lacks its 'class', 'layers' or 'aliases', or they are damaged: {quoted(error)}"
        ) from error


def _read_layer(layer: Any, name: str, path: Path) -> Layer:
    try:
        return msgspec.convert(layer, Layer)
    except msgspec.ValidationError as error:
        words = quoted(error, f"$.layers.{name}")
        sizes = "[...][" in words or ">= 0" in words or "<= " in words
        what = (
            f"has a shape that is not a list of whole numbers, {MOST_AXES} of up to {LONGEST_AXIS:,} at most"
            if sizes
            else (f"lacks one of {', '.join(LAYER_FIELDS)}, or is damaged")
        )
        raise FileError(f"{path}: layer {name!r} {what}: {words}") from error


def quoted(error: Exception, place: str = "") -> str:
    """The words of msgspec, with the quotes of all other messages; `place`: where in the file `$` is."""
    words = str(error).replace("`", "'")
    if not place:
        return words
    return words.replace("$", place) if "$" in words else f"{words} - at '{place}'"


def passing(model: nn.Module) -> set[str]:
    """Names of the buffers that the class makes by itself and that a state dict leaves out."""
    return {
        f"{name}.{key}" if name else key
        for name, module in model.named_modules(remove_duplicate=False)
        for key in module._non_persistent_buffers_set
    }


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in own_tensors(module).items()}


def _numbers(module: nn.Module) -> dict[str, Any]:
    """The whole numbers, and tuples of them, that a module keeps under public names."""
    return {
        key: list(value) if isinstance(value, (tuple, list)) else value
        for key, value in vars(module).items()
        if not key.startswith("_") and (_is_whole(value) or _are_whole(value))
    }


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(_is_whole(part) for part in value)


def _check_class(what: str, expected: str, module: nn.Module) -> None:
    if type(module).__name__ != expected:
        raise ValueError(
            f"{what} was a {expected} when it was exported, and is a {type(module).__name__} in the model "
            "given: build the model from the class that was pruned"
        )


def _check_layer(model: nn.Module, name: str, layer: Layer, path: Path) -> None:
    """Refuse a model whose layer is not what was pruned."""
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(
            f"layer {name!r} is missing in the {type(model).__name__} given; the network that was pruned had "
            f"a {layer.kind} there"
        ) from error
    _check_class(f"layer {name!r}", layer.kind, module)
    found = _shapes(module)
    if found != layer.original:
        raise ValueError(
            f"layer {name!r} had {_in_words(layer.original)} before it was pruned, but has "
            f"{_in_words(found)} in the model given: build it with the widths of the original"
        )
    places = module._parameters.keys() | module._buffers.keys()
    for key in layer.tensors.keys() - places:
        if not key.isidentifier() or hasattr(module, key):
            raise ValueError(f"{path.with_name(ARCHITECTURE)}: layer {name!r} cannot have a tensor {key!r}")
    numbers = _numbers(module)
    for key, value in layer.attributes.items():
        fits = _is_whole(value) or _are_whole(value)
        if not fits or type(numbers.get(key)) is not type(value):
            raise ValueError(
                f"{path.with_name(ARCHITECTURE)}: layer {name!r} is to get {key} = {value!r}, but has "
                f"{numbers.get(key, 'no such whole number')} there"
            )


def _in_words(shapes: Mapping[str, Any]) -> str:
    return " and ".join(f"{key} {tuple(shape)}" for key, shape in shapes.items()) or "no tensors"


def _reshape(module: nn.Module, layer: Layer) -> None:
    """Give a layer its new numbers and places for its new tensors, still empty."""
    for key, value in layer.attributes.items():
        old = getattr(module, key)
        setattr(module, key, type(old)(value) if isinstance(old, (tuple, list)) else value)
    own = own_tensors(module)
    like = next(iter(own.values()), torch.empty(0))
    for key, shape in layer.tensors.items():
        if key in own and list(own[key].shape) == shape:
            continue
        old = own.get(key, like)
        new = old.detach().new_empty(()).expand(shape)  # takes no memory, whatever the file says
        wanted = old.requires_grad if key in own else True
        setattr(module, key, new if key in module._buffers else nn.Parameter(new, requires_grad=wanted))
    for key in own.keys() - layer.tensors.keys():
        setattr(module, key, None)
    if layer.sizes:
        set_fallen(module, layer.sizes)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], aliases: Mapping[str, str], path: Path) -> None:
    """Put the tensors of the file into the model, each under all of its names."""
    stay = passing(model) - tensors.keys() - aliases.keys()
    places = {name: tensor for name, tensor in named_tensors(model) if name not in stay}
    sources = {name: aliases.get(name, name) for name in places}
    missing = sorted(set(sources.values()) - tensors.keys())
    extra = sorted(tensors.keys() - set(sources.values()))
    if missing or extra:
        raise ValueError(
            f"{path} does not fit the {type(model).__name__} given: "
            f"{_listed('the file lacks', missing)}{'; ' if missing and extra else ''}"
            f"{_listed('the model has no place for', extra)}"
        )
    for name, place in places.items():
        if place.shape != tensors[sources[name]].shape:
            raise ValueError(
                f"{name} has shape {tuple(tensors[sources[name]].shape)} in {path} and {tuple(place.shape)} "
                "in the model given: build it with the widths of the original"
            )
    made: dict[str, Tensor] = {}
    for name, place in places.items():
        source = sources[name]
        if source not in made:
            # A copy: what the file was read into may be the file itself.
            value = tensors[source].to(place.device, copy=True)
            is_parameter = isinstance(place, nn.Parameter)
            made[source] = nn.Parameter(value, requires_grad=place.requires_grad) if is_parameter else value
        owner, _, key = name.rpartition(".")
        setattr(model.get_submodule(owner), key, made[source])


def _listed(words: str, names: list[str]) -> str:
    return f"{words} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}" if names else ""

"""Export: the pruned network as a folder of plain files, written whole or not at all."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import torch
from safetensors.torch import save
from torch import nn

from workbench.data.durable import check_space, digest_of, expanded, sealed, write_whole
from workbench.data.progress import Cancelled, Progress
from workbench.export.architecture import HASHES, VERSION, changed_layers, packed
from workbench.export.kinds import (
    ALWAYS,
    ARCHITECTURE,
    FORMAT,
    PROGRAMS,
    README,
    RECIPE,
    WEIGHTS,
    files_listed,
    holds_session,
)
from workbench.export.placing import aside, put_in_place, settle
from workbench.export.programs import Portable, onnx_packages, traced, write_onnx, write_pt2
from workbench.network.running import Inputs

FORMATS = ("safetensors", *PROGRAMS)


class Standing(Protocol):
    """Where a network stands: its size, and its score where it has one."""

    @property
    def parameters(self) -> int: ...

    @property
    def macs(self) -> int: ...

    @property
    def score(self) -> float | None: ...


@dataclass(frozen=True)
class Point:
    """What an export is of: one point of a session's history.

    `name` of the network, `data_name` of what it was measured on, `metric` of its score. `original` is the
    network before any commit, `recipe` the record of what led to `model`; `start` and `now` are their sizes
    and scores. `example_input` is what the programs are traced with; `sizes`
    says with which sizes of input the groups were proved.
    """

    name: str
    data_name: str
    metric: str
    model: nn.Module
    original: nn.Module
    recipe: dict[str, Any]
    start: Standing
    now: Standing
    example_input: Inputs
    sizes: str = ""


def export(
    point: Point,
    folder: str | Path,
    formats: Iterable[str] = ("safetensors",),
    progress: Progress | None = None,
    cancel: Event | None = None,
    replace: bool = False,
) -> list[Path]:
    """Write the network as it stands into `folder`, and return the files.

    Always `model.safetensors` (the state dict, tied tensors once), `architecture.json` (what changed, for
    `load_pruned`), `recipe.json` and a short `README.md`. `formats` may hold "pt2", a program for torch
    alone (`model.pt2`), and "onnx", one for onnxruntime alone (`model.onnx`); both take any number of
    examples, and keep the other sizes of the point's `example_input`. They are read again and
    compared with the network before anything is put in place.

    All files or none: where something fails, the folder is as it was. An earlier export there is replaced,
    other files stay; those with a name that is needed are in the way unless `replace` is True.

    Raises ValueError for an unknown format, files in the way, a missing package, and a network that cannot
    be written as a program; Cancelled; OSError where the folder cannot be written.
    """
    formats = _checked(formats)
    files = (*ALWAYS, *(file for name, file in PROGRAMS.items() if name in formats))
    folder = expanded(folder).absolute()
    if folder.is_dir():
        settle(folder)
    _earlier(folder, files, replace)
    if "onnx" in formats:
        onnx_packages()
    work = [name for name in PROGRAMS if name in formats]

    def reached(done: int, what: str) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled("the export was cancelled; nothing was written")
        if progress is not None:
            progress(done, len(work) + 2, what)

    check_space(folder, (1 + len(work)) * _bytes_of(point.model))
    with aside(folder) as made, _named(made, folder):
        reached(0, "exporting the weights")
        portable = Portable.of(point.model, point.example_input)
        aliases = _write_plain(made, point, portable, files)
        program = None
        for index, name in enumerate(work):
            reached(1 + index, f"exporting {PROGRAMS[name]}")
            program = traced(portable) if program is None else program
            (write_pt2 if name == "pt2" else write_onnx)(portable, program, made / PROGRAMS[name])
        _describe(made, point, portable, files, aliases)
        reached(2 + len(work), "putting the files in place")
        put_in_place(made, folder, lambda: _earlier(folder, files, replace) - set(files))
    return [folder / file for file in files]


def _bytes_of(model: nn.Module) -> int:
    """What the weights take in each of the files that hold them, at least."""
    storages = {t.untyped_storage().data_ptr(): t.nbytes for t in model.state_dict().values()}
    return sum(storages.values())


@contextmanager
def _named(made: Path, folder: Path) -> Iterator[None]:
    """Within: errors about a file in `made` name it as it is to be called in `folder`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(error.filename).is_relative_to(made):
            error.filename = str(folder / Path(error.filename).relative_to(made))
        raise


def _checked(formats: Iterable[str]) -> tuple[str, ...]:
    wanted = (formats,) if isinstance(formats, str) else tuple(formats)
    unknown = [repr(name) for name in wanted if name not in FORMATS]
    if unknown:
        raise ValueError(f"no format is called {', '.join(unknown)}; the formats are {', '.join(FORMATS)}")
    return wanted


def _earlier(folder: Path, files: Iterable[str], replace: bool) -> set[str]:
    """The files of an earlier export in `folder`. Raises ValueError for others' that are in the way."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder to export into")
    if holds_session(folder):
        raise ValueError(
            f"{folder} holds a saved session, which an export never replaces: give another folder"
        )
    ours = files_listed(folder / ARCHITECTURE)
    for file in files:
        there = folder / file
        if there.is_dir() or (there.exists() and not replace and file not in ours):
            raise ValueError(
                f"{folder} already has a {file} that is not of an export: give another folder"
                + ("" if there.is_dir() else ", or replace=True to overwrite it")
            )
    return {file for file in ours if (folder / file).exists()}


def _write_plain(made: Path, point: Point, portable: Portable, files: tuple[str, ...]) -> dict[str, str]:
    """The files that every export has, but for the one that says what there is; second names of tensors."""
    tensors, aliases = packed(point.model, point.original)
    write_whole(made / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    _write_text(made / RECIPE, _as_json(point.recipe))
    _write_text(made / README, _readme(point, portable, files))
    return aliases


def _describe(
    made: Path, point: Point, portable: Portable, files: tuple[str, ...], aliases: dict[str, str]
) -> None:
    """What the files in `made` are, with their hashes; all of them get the mode that the umask asks for."""
    mode = (made / README).stat().st_mode  # which was made as files are, unlike those of the libraries
    for path in made.iterdir():
        path.chmod(mode)
    architecture = {
        "format": FORMAT,
        "version": VERSION,
        "model": point.name,
        "class": type(point.model).__name__,
        "fingerprint": point.recipe["model"]["fingerprint"],
        "layers": changed_layers(point.model, point.original),
        "aliases": aliases,
        "inputs": portable.inputs,
        "outputs": portable.outputs,
        "files": list(files),
        HASHES: {path.name: digest_of(path) for path in sorted(made.iterdir())},
    }
    write_whole(made / ARCHITECTURE, sealed(architecture))


def _as_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _write_text(path: Path, text: str) -> None:
    write_whole(path, text.encode())


def _readme(point: Point, portable: Portable, files: tuple[str, ...]) -> str:
    """What the folder holds, for someone who finds it."""
    start, now = point.start, point.now
    rows = [
        ("parameters", f"{start.parameters:,}", f"{now.parameters:,}"),
        ("multiply–accumulates an example", f"{start.macs:,}", f"{now.macs:,}"),
    ]
    if start.score is not None and now.score is not None:
        rows.append((point.metric, f"{start.score:.4f}", f"{now.score:.4f}"))
    shapes = "\n".join(
        f"- {kind} `{part['name']}`: {part['dtype']} ({', '.join(map(str, part['shape']))})"
        for kind, parts in (("input", portable.inputs), ("output", portable.outputs))
        for part in parts
    )
    table = "\n".join(f"| {what} | {before} | {after} |" for what, before, after in rows)
    measured = f", measured on {point.data_name}" if point.data_name else ""
    name = type(point.original).__name__
    count = len(point.recipe["steps"])
    steps = "1 step" if count == 1 else f"{count} steps"
    parts = [
        f"# {point.name}, pruned",
        f"`{name}`, made smaller by spectral pruning in {steps}{measured}.",
        f"| | original | now |\n|---|---:|---:|\n{table}",
        shapes,
        *([f"The groups of units were {point.sizes}."] if point.sizes else []),
        f"`{WEIGHTS}` holds the weights, `{ARCHITECTURE}` every layer that changed, `{RECIPE}` what was done "
        f"and how to do it again. With the original class, in the workbench:",
        f'```python\nimport workbench as wb\n\nmodel = wb.load_pruned({name}(), ".")\n```',
    ]
    if PROGRAMS["pt2"] in files:
        parts += [
            "`model.pt2` is a program for torch alone, for batches of any length:",
            '```python\nimport torch\n\nmodel = torch.export.load("model.pt2").module()\n```',
            "torch can run code that is in a `.pt2` file when it opens it: open this one only where you "
            f"trust who gave it to you. `{WEIGHTS}`, which `load_pruned` reads, is numbers alone.",
        ]
    if PROGRAMS["onnx"] in files:
        feed = ", ".join(f'"{part["name"]}": {part["name"]}' for part in portable.inputs)
        parts += [
            "`model.onnx` is a program for onnxruntime alone, for batches of any length, on NumPy arrays:",
            '```python\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
            f"outputs = session.run(None, {{{feed}}})\n```",
        ]
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    return "\n\n".join([*parts, f"Written with {_own_version()}, {', '.join(versions)}."]) + "\n"


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"spectral-pruning-workbench {version('spectral-pruning-workbench')}"
    except PackageNotFoundError:  # a source tree on the path
        return "spectral-pruning-workbench"

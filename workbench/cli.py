"""The `workbench` command: the notebook in JupyterLab, the same as a page of its own, and replay."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.session import Session

OWN = {
    "model": "the original model",
    "calibration": "the calibration data",
    "evaluation": "the data for the score",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for an error that is told in a line, 130 for Ctrl+C."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError) as error:
        print(f"workbench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _version() -> str:
    try:
        return importlib.metadata.version("spectral-pruning-workbench")
    except importlib.metadata.PackageNotFoundError:
        return "of a source folder that is not installed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="An interactive workbench for spectral pruning of neural networks."
    )
    parser.add_argument("--version", action="version", version=f"workbench {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_server(commands, "lab", _lab, "open the workbench notebook in JupyterLab")
    _add_server(
        commands, "app", _app, "open the workbench as a page of its own (Voilà): no code, no key to press"
    )
    replay = commands.add_parser(
        "replay",
        help="prune again as a recipe says, without a browser",
        description="Prune again as a recipe says. One made from a built-in example needs nothing else; "
        "for your own model, name the functions that make it and its data.",
    )
    replay.add_argument("recipe", metavar="RECIPE.json", type=Path)
    for option, what in OWN.items():
        replay.add_argument(
            f"--{option}", metavar="MODULE:FACTORY", help=f"{what}, made by calling FACTORY()"
        )
    replay.add_argument("--example", metavar="NAME", help="the data of this built-in example")
    replay.add_argument(
        "--output", metavar="FOLDER", type=Path, help="save the pruned session in this folder"
    )
    replay.set_defaults(run=_replay)
    return parser


def _add_server(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> None:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Listens on this machine alone, and only the printed "
        "address with its token gets in. Ctrl+C stops it and its kernels.",
    )
    command.add_argument("--port", type=int, help="the port to listen on (default: any free one)")
    command.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    command.add_argument(
        "--notebooks",
        metavar="FOLDER",
        help="work in this folder; notebooks that are missing there are copied in, and yours are never "
        "overwritten (default: a source checkout's own, else ./workbench-notebooks)",
    )
    command.set_defaults(run=run)


def _lab(arguments: argparse.Namespace) -> None:
    from workbench.lab import serve_lab
    from workbench.launch import working_notebooks

    serve_lab(working_notebooks(arguments.notebooks), arguments.port, not arguments.no_browser)


def _app(arguments: argparse.Namespace) -> None:
    from workbench.launch import working_notebooks
    from workbench.page import serve_app

    serve_app(working_notebooks(arguments.notebooks), arguments.port, not arguments.no_browser)


def _replay(arguments: argparse.Namespace) -> None:
    if not arguments.recipe.is_file():
        raise ValueError(f"no file {arguments.recipe}; give the recipe.json that saving a session wrote")
    from workbench.session import replay

    own = {option: made_by(f"--{option}", getattr(arguments, option)) for option in OWN}
    if own["model"] is not None and not hasattr(own["model"], "state_dict"):
        raise ValueError(
            f"--model {arguments.model} made a {type(own['model']).__name__}, not a torch module"
        )
    if arguments.example:
        from workbench.measure.examples import load_example

        example = load_example(arguments.example)
        own = {"calibration": example.calibration, "evaluation": example.evaluation} | {
            option: value for option, value in own.items() if value is not None
        }
    session = replay(arguments.recipe, **own)
    print(summary(session))
    if arguments.output:
        session.save(arguments.output)
        print(f"saved in {arguments.output}")


def made_by(option: str, name: str | None) -> Any:
    """What `name`, 'package.module:factory', returns when called without arguments; None for no name.

    The current folder is searched too. Raises ValueError, naming `option`, without such a module or factory.
    """
    if name is None:
        return None
    module_name, _, factory_name = name.partition(":")
    if not (module_name and factory_name):
        raise ValueError(f"{option} takes MODULE:FACTORY, such as mynet:make, and was given {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{option} {name}: cannot import {module_name}: {error}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ValueError(f"{option} {name}: {module_name} has no function or class {factory_name}")
    try:
        return factory()
    except Exception as error:
        raise ValueError(f"{option} {name} failed: {type(error).__name__}: {error}") from error


def summary(session: Session) -> str:
    """A line a committed step; then parameters, MACs and score, original → now, in aligned columns."""
    steps = session.history[: session.position + 1]
    table = [("step", "parameters", "MACs", session.metric)]
    table += [(step.label, f"{step.parameters:,}", f"{step.macs:,}", _score(step.score)) for step in steps]
    first, last = table[1], table[-1]
    change = [(what, first[column], "→", last[column]) for column, what in enumerate(table[0]) if column]
    return "\n".join([*_aligned(table), "", *_aligned(change)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _score(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.4f}"

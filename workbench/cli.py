"""The `workbench` command: the notebook in JupyterLab, the same as a page of its own, measure and replay."""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.data.durable import expanded
from workbench.data.plain_json import parsed
from workbench.data.progress import Progress, progress_on
from workbench.measure.asking import CLASSES, METRICS, mask_of, reworded
from workbench.session.tables import SHARE, group_table, stays_table, summary

MODEL_HELP = (
    "the original model: MODULE:FACTORY or FILE.py:FACTORY, a function or class called without arguments; "
    "torchvision:NAME, timm:NAME or transformers:NAME where that package is installed"
)
DATA_HELP = (
    "a folder of images (a class a subfolder) or a .zip of one, an .npy, .npz or IDX file, or "
    "MODULE:FACTORY, a function that returns tensors, a DataLoader or a list of batches"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for an error that is told in a line, 130 for Ctrl+C."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError) as error:
        print(f"workbench: {_in_options(' '.join(str(error).split()))}", file=sys.stderr)
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
    lab = _add_server(commands, "lab", _lab, "open the workbench notebook in JupyterLab")
    lab.add_argument(
        "--open",
        metavar="NOTEBOOK",
        help="open another notebook of the folder, as course/01-spectra.ipynb (default: workbench.ipynb)",
    )
    _add_server(
        commands, "app", _app, "open the workbench as a page of its own (Voilà): no code, no key to press"
    )
    _add_measure(commands)
    _add_replay(commands)
    _add_page(commands)
    return parser


def _add_measure(commands: Any) -> None:
    command = commands.add_parser(
        "measure",
        help="measure a model on calibration data, without a browser",
        description="Measure a model on calibration data, print its groups of units with their degrees of "
        f"freedom at λ = {SHARE:g} of the trace and the tensors in no group with the reasons, and save the "
        "session, which a notebook opens.",
    )
    _add_own(command)
    command.add_argument(
        "--output", metavar="FOLDER", type=expanded, required=True, help="save the session here"
    )
    command.add_argument(
        "--procedure",
        choices=("simultaneous", "sequential"),
        default="simultaneous",
        help="whether a commit leaves the other moments as they are, or makes those downstream stale "
        "(default: simultaneous)",
    )
    command.set_defaults(run=_measure)


def _add_replay(commands: Any) -> None:
    command = commands.add_parser(
        "replay",
        help="prune again as a recipe says, without a browser",
        description="Prune again as a recipe says. One made from a built-in example needs nothing else; "
        "for your own model, name the model and its data.",
    )
    command.add_argument("recipe", metavar="RECIPE.json", type=expanded)
    _add_own(command)
    command.add_argument(
        "--output", metavar="FOLDER", type=expanded, help="save the pruned session in this folder"
    )
    command.set_defaults(run=_replay)


def _add_page(commands: Any) -> None:
    command = commands.add_parser(
        "page",
        help="write a session as one HTML file that computes without Python",
        description="Write a session as one HTML file: spectra, λ, widths, losses, totals and history, all "
        "moving without Python or a network. For a session of your own model, name the model and its data.",
    )
    command.add_argument(
        "session", metavar="FOLDER", help="a saved session, or the name of a built-in example, to be measured"
    )
    what = "the file to write (default: the session's name, in the current folder)"
    command.add_argument("-o", "--output", metavar="FILE.html", type=expanded, help=what)
    command.add_argument("--replace", action="store_true", help="replace the file where it is there already")
    _add_own(command)
    command.set_defaults(run=_page)


def _add_own(command: argparse.ArgumentParser) -> None:
    """The options that name a model and its data."""
    model = command.add_argument_group("model")
    model.add_argument("--model", metavar="NAME", help=MODEL_HELP)
    model.add_argument("--checkpoint", metavar="FILE", help="its weights: .safetensors, or torch.save's file")
    model.add_argument("--weights", metavar="NAME", help="'default': the package's own pretrained weights")
    model.add_argument(
        "--options", metavar="JSON", type=_options, help='arguments of the factory, as {"classes": 10}'
    )
    data = command.add_argument_group("data")
    data.add_argument("--example", metavar="NAME", help="this built-in example, where nothing else is named")
    data.add_argument("--calibration", metavar="SOURCE", help=f"the calibration data: {DATA_HELP}")
    data.add_argument(
        "--evaluation",
        metavar="SOURCE",
        help="the data for the score, in the same forms, with targets; or MODULE:FUNCTION of the model",
    )
    _add_asked(data)
    data.add_argument("--size", type=_sides, help="resize the shorter side of images to this, or to HxW")
    data.add_argument("--crop", type=_sides, help="cut this square, or HxW, out of the centre of images")
    data.add_argument(
        "--mean", type=_numbers, help="subtract this, as 0.5 or 0.485,0.456,0.406 (pixels: 0–1)"
    )
    data.add_argument("--std", type=_numbers, help="divide by this, in the same form")
    data.add_argument(
        "--training",
        metavar="SOURCE",
        help="what a recipe's fine-tunings learn from, in the same forms, with targets (default: the "
        "calibration data)",
    )
    for data_set in ("calibration", "evaluation", "training"):
        data.add_argument(
            f"--{data_set}-split", metavar="NAME", help="its subfolder or part, such as train or test"
        )
    data.add_argument("--evaluation-targets", metavar="FILE", help="targets of an .npy file, one a row")
    data.add_argument(
        "--limit", type=int, metavar="N", help="take N calibration examples, drawn by a fixed seed"
    )
    for data_set in ("evaluation", "training"):
        data.add_argument(f"--{data_set}-limit", type=int, metavar="N", help=f"the same for the {data_set}")


def _add_asked(data: Any) -> None:
    """The options that say how targets and positions are read."""
    data.add_argument(
        "--metric",
        metavar="NAME",
        type=lambda text: "R²" if text in ("R2", "r2") else text,
        choices=METRICS,
        help=f"the score, where targets are not what they seem: {', '.join(METRICS)} (or R2); default: as "
        "the targets, or the recipe, say",
    )
    data.add_argument(
        "--classes",
        choices=tuple(CLASSES),
        help="the axis of the outputs where the classes lie; default: as it fits, or as the recipe says",
    )
    data.add_argument(
        "--mask",
        metavar="NAME|none",
        type=mask_of,
        help="the network's argument that says which positions count, where padding hides some; none: all "
        "count (default: attention_mask, or a name that ends in padding_mask, or as the recipe says)",
    )


def _in_options(text: str) -> str:
    """`text` of an error with the options of Python's functions as they are typed at the command line."""
    return reworded(text, _as_typed)


def _as_typed(option: str, value: str) -> str:
    """An option of Python's functions as it is typed at the command line."""
    return f"--{option} {shlex.quote(value.replace('R²', 'R2'))}"


def _options(text: str) -> dict[str, Any]:
    with _as_option('a JSON object, such as {"classes": 10}', text):
        return dict(parsed(text, "it").items())


def _sides(text: str) -> int | tuple[int, ...]:
    with _as_option("224, or height x width as 224x160", text):
        sides = tuple(int(side) for side in text.lower().split("x"))
    return sides[0] if len(sides) == 1 else sides


def _numbers(text: str) -> float | tuple[float, ...]:
    with _as_option("0.5, or a number a channel as 0.485,0.456,0.406", text):
        values = tuple(float(value) for value in text.split(","))
    return values[0] if len(values) == 1 else values


@contextmanager
def _as_option(expected: str, text: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, AttributeError):
        raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}") from None


def _add_server(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Listens on this machine alone, and only the printed "
        "address with its token gets in, whatever the user's configuration says. Ctrl+C, SIGTERM or a closed "
        "terminal stops it and its kernels.",
    )
    command.add_argument("--port", type=int, help="the port to listen on (default: any free one)")
    command.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    command.add_argument(
        "--no-autosave", action="store_true", help="do not keep sessions by themselves, to be taken up again"
    )
    command.add_argument(
        "--notebooks",
        metavar="FOLDER",
        help="work in this folder; notebooks that are missing there are copied in, and yours are never "
        "overwritten (default: a source checkout's own, else ./workbench-notebooks)",
    )
    command.set_defaults(run=run)
    return command


def _lab(arguments: argparse.Namespace) -> None:
    from workbench.serve.lab import serve_lab
    from workbench.serve.launch import NOTEBOOK, switch_autosave, working_notebooks

    switch_autosave(not arguments.no_autosave)
    notebooks = working_notebooks(arguments.notebooks)
    serve_lab(notebooks, arguments.port, not arguments.no_browser, arguments.open or NOTEBOOK)


def _app(arguments: argparse.Namespace) -> None:
    from workbench.serve.app import serve_app
    from workbench.serve.launch import switch_autosave, working_notebooks

    switch_autosave(not arguments.no_autosave)
    serve_app(working_notebooks(arguments.notebooks), arguments.port, not arguments.no_browser)


def _replay(arguments: argparse.Namespace) -> None:
    if not arguments.recipe.exists():
        raise ValueError(f"no file {arguments.recipe}; give the recipe.json that saving a session wrote")
    _check_output(arguments.output)
    from workbench.session.replay import replay

    with progress_on(sys.stderr) as progress:
        own = _own(arguments, progress)
        if arguments.model is None:  # then it is the recipe's own
            own.pop("model", None)
        session = replay(
            arguments.recipe,
            progress=progress,
            metric=arguments.metric,
            classes=arguments.classes,
            mask=arguments.mask,
            **own,
        )
    print(summary(session))
    if arguments.output:
        session.save(arguments.output)
        print(f"saved in {arguments.output}")


def _measure(arguments: argparse.Namespace) -> None:
    _check_output(arguments.output)
    if not arguments.example and not (arguments.model and arguments.calibration):
        raise ValueError("give --model and --calibration, or --example")
    from workbench.session.session import Session

    example = None if arguments.model else arguments.example
    with progress_on(sys.stderr) as progress:
        session = Session(
            **_own(arguments, progress),
            procedure=arguments.procedure,
            name=arguments.model or "",
            example=example,
            metric=arguments.metric,
            classes=arguments.classes,
            mask=arguments.mask,
            progress=progress,
        )
        session.measure(progress)
    print(group_table(session))
    if session.stays:
        print(f"\n{stays_table(session)}")
    if session.history[0].score is not None:
        print(f"\n{session.metric} {session.history[0].score:.4f}")
    print(f"\n{session.sizes}")
    session.save(arguments.output)
    given = "" if example else ", model"
    given += "".join(f", {data}=…" for data in ("calibration", "evaluation") if getattr(arguments, data))
    print(f'\nsaved in {arguments.output}; in a notebook: wb.Session.open("{arguments.output}"{given})')


def _page(arguments: argparse.Namespace) -> None:
    from workbench.page.opening import session_called
    from workbench.page.writing import checked_path, write_page

    file = arguments.output or Path(f"{Path(arguments.session).resolve().name}.html")
    checked_path(file, arguments.replace)
    with progress_on(sys.stderr) as progress:
        session = session_called(
            arguments.session,
            _own(arguments, progress),
            progress,
            metric=arguments.metric,
            classes=arguments.classes,
            mask=arguments.mask,
        )
    write_page(session, file, arguments.replace)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB; opens in any browser, without Python or a network")


def _check_output(folder: Path | None) -> None:
    """Before anything is measured for nothing."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder} is a file: name a folder")


def _own(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The model and its data, as far as they are named; errors say which option is wrong."""
    from workbench.data.loading import load_data, load_evaluation
    from workbench.data.models import load_model

    if not arguments.model and (arguments.checkpoint or arguments.weights or arguments.options):
        raise ValueError("--checkpoint, --weights and --options need --model, the model that they are for")
    look = {name: getattr(arguments, name) for name in ("size", "crop", "mean", "std")}
    look["progress"] = progress
    own: dict[str, Any] = {}
    if arguments.example:
        from workbench.examples.catalogue import load_example

        example = load_example(arguments.example, progress)
        own = {name: getattr(example, name) for name in ("model", "calibration", "evaluation", "data_name")}
    # The model comes first, since it is the one that is wrong most often.
    given: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "model": (
            load_model,
            {name: getattr(arguments, name) for name in ("weights", "checkpoint", "options")},
        ),
        "calibration": (
            load_data,
            look | {"limit": arguments.limit, "split": arguments.calibration_split},
        ),
        "evaluation": (
            load_evaluation,
            look
            | {
                "limit": arguments.evaluation_limit,
                "split": arguments.evaluation_split,
                "targets": arguments.evaluation_targets,
            },
        ),
        "training": (
            load_data,
            look | {"limit": arguments.training_limit, "split": arguments.training_split},
        ),
    }
    for option, (load, options) in given.items():
        name = getattr(arguments, option)
        if name is not None:
            try:
                own[option] = load(name, **options)
            except (ValueError, TypeError, OSError) as error:
                text = str(error).removeprefix(f"{name}: ")
                raise ValueError(f"--{option} {name}: {text}") from error
    if arguments.calibration:
        own["data_name"] = arguments.calibration
    return own

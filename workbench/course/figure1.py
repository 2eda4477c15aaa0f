"""Figures 1c and 1d as measured on VGG-13: the results file that `tests/benchmarks/figure1.py` writes.

They take longer than a lesson, so that the notebook draws them from this file, which comes with the package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.course.sweeps import Point, Sweep
from workbench.data.plain_json import read_json

FIGURE1 = Path(__file__).parent / "results" / "figure1.json"


def read_figure1(path: str | Path = FIGURE1) -> tuple[Sweep, Sweep]:
    """Figures 1c and 1d of the half-width VGG-13 on CIFAR-10.

    Args:
        path: a results file; by default the one that comes with the package.

    Returns:
        The sweep along λ and the one along θ; `told` says on what, how and by which command.

    Raises:
        ValueError: a file that is none.
    """
    try:
        told = read_json(Path(path))
        lam, theta = ([Point(**point) for point in told.pop(name)] for name in ("lam", "theta"))
        unpruned, examples = told["unpruned"], told["test images"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no results file of figure1.py: {error!r}") from error
    return (
        Sweep("lam", tuple(lam), unpruned, examples, told),
        Sweep("theta", tuple(theta), unpruned, examples, told),
    )


def write_figure1(
    path: str | Path, lam: Sequence[Point], theta: Sequence[Point], told: dict[str, Any]
) -> None:
    """Write a results file, in place of the one before.

    Args:
        path: of the file.
        lam: the points of Figure 1c, as many as there are yet.
        theta: of Figure 1d.
        told: what was measured and how, with "unpruned" (a score) and "test images" (a count).
    """
    lines = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in told.items()]
    for name, points in (("lam", lam), ("theta", theta)):
        rows = ",\n  ".join(json.dumps(asdict(point)) for point in points)
        lines.append(f'"{name}": [\n  {rows}\n]')
    beside = Path(path).with_suffix(".part")  # a run that is broken off leaves a whole file
    beside.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    beside.replace(path)

"""The paper's Figures 1c and 1d on the half-width VGG-13: accuracy against λ and against θ.

`python tests/benchmarks/figure1.py [--images N] [--write]` takes about ten minutes on an idle core with 5,000
test images. Every point is put into the file `--points` as it is found; run again, the command goes on from
there. `--write` also puts the tables into RESULTS.md and the points into the results file of the course.
"""

import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import results
import torch

import workbench as wb
from workbench.course import sweeps
from workbench.course.figure1 import FIGURE1, read_figure1, write_figure1
from workbench.data.batches import Batches
from workbench.examples.catalogue import load_example

NETWORK = "vgg13-cifar10"
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of every layer's units
LAMS = (1e-8, 1e-7, 1e-6, *(float(f"{lam:.2g}") for lam in np.geomspace(1e-5, 1e-3, 9)), 1e-2)
THETAS = tuple(round(0.1 * step, 1) for step in range(11))
IMAGES = 5000


def opened(name: str, images: int | None = None) -> wb.Session:
    """A measured session that is scored on the first `images` of the test images (None: on all)."""
    example = load_example(name)
    test = example.evaluation
    scored = Batches(test.inputs[:images], test.targets[:images])
    session = wb.Session(example.model, example.calibration, scored, name=name, data_name=example.data_name)
    session.measure()
    return session


def told(session: wb.Session) -> dict:
    """What the points were measured on and by."""
    return {
        "network": session.name,
        "data": session.data_name,
        "calibration images": session.calibration.examples,
        "test images": session.evaluation.examples,
        "unpruned": session.history[0].score,
        "parameters": session.history[0].parameters,
        "MACs": session.history[0].macs,
        "how": "all layers at the rate, greedy, channel Â, simultaneous, not fine-tuned; "
        "1c at θ = 0.3, 1d at λ = 1e-6 Tr Σ",
        "command": f"python tests/benchmarks/figure1.py --images {session.evaluation.examples} --write",
        "versions": {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def measured(
    session: wb.Session,
    path: Path,
    rates: Sequence[float] = RATES,
    lams: Sequence[float] = LAMS,
    thetas: Sequence[float] = THETAS,
) -> None:
    """Both sweeps into `path`, going on from what it holds of the same network, images and versions."""
    about = told(session)
    before = read_figure1(path) if path.exists() else ()
    known = [point for sweep in before if sweep.told == about for point in sweep.points]
    found: dict[str, list[sweeps.Point]] = {"lam": [], "theta": []}
    total = len(rates) * (len(lams) + len(thetas))

    def keep(along: str, point: sweeps.Point) -> None:
        found[along].append(point)
        done = found["lam"] + found["theta"]
        if point not in known:
            rest = [one for one in known if one not in done]
            write_figure1(path, found["lam"], found["theta"] + rest, about)
            print(f"{len(done)} of {total}: {point}", flush=True)

    sweeps.accuracy_against_lam(session, rates, lams, known=known, found=partial(keep, "lam"))
    known += found["lam"]
    sweeps.accuracy_against_theta(session, rates, thetas, known=known, found=partial(keep, "theta"))
    write_figure1(path, found["lam"], found["theta"], about)


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"test images (default {IMAGES})")
    parser.add_argument("--points", type=Path, default=Path("figure1.json"), help="where points are kept")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    measured(opened(NETWORK, asked.images), asked.points)
    lam, theta = read_figure1(asked.points)
    about = (
        f"`{NETWORK}`, {lam.examples:,} test images, unpruned {lam.unpruned:.4f}; the best of each rate is "
        "bold, below from where to where around it no value loses more than a point."
    )
    results.show("figure1c", f"{about}\n\n{lam.table()}", asked.write)
    results.show("figure1d", f"{about}\n\n{theta.table()}", asked.write)
    if asked.write:
        write_figure1(FIGURE1, lam.points, theta.points, lam.told)


if __name__ == "__main__":
    main()

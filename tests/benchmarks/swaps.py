"""Greedy choice against the same with swaps, at equal widths: what the losses and the scores gain.

`python tests/benchmarks/swaps.py [--write]` takes ten minutes on one core. Swaps are beyond the paper.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import results
import torch
from speed import problem, seconds
from tables import Bench

from workbench.spectral.greedy import GreedySelector
from workbench.spectral.regression import FIT_LAM, ridge
from workbench.spectral.spectrum import Spectrum
from workbench.spectral.swapping import swap_refine

RATIOS = (2.0, 3.0, 5.0)
SELECTIONS = ("greedy", "greedy-swap")
RECONSTRUCTIONS = ("channel", "original")
THETA = 0.3


@dataclass(frozen=True)
class Cell:
    """One network: its accuracy, its groups' mean combined loss, all swaps, and in how many groups."""

    score: float
    loss: float
    swaps: int
    changed: int
    groups: int


def cell(bench: Bench, ratio: float, selection: str, reconstruction: str) -> Cell:
    """The network at equal widths and `ratio` times fewer MACs."""
    session = bench.session
    model = bench.pruned(session.plan(bench.whole / ratio, rule="equal"), selection, reconstruction)
    session.switch(next(name for name in reversed(session.branches) if name != "main"))
    choices = [step.choice for step in session.history if step.choice is not None]
    session.switch("main")
    swaps = [0 if choice.swaps is None else choice.swaps.swaps for choice in choices]
    loss = statistics.mean(choice.combined_loss for choice in choices)
    return Cell(bench.score(model), loss, sum(swaps), sum(n > 0 for n in swaps), len(choices))


def table(name: str, images: int, ratios: Sequence[float] = RATIOS) -> str:
    """The Markdown table of one network; a cell is its accuracy and its groups' mean combined loss."""
    bench = Bench(name, images, 0)
    lines = [
        f"`{name}`, unpruned {bench.score(bench.subject.model):.4f}, {images:,} test images, λ = 1e-6 Tr Σ, "
        f"θ = {THETA}.",
        "",
        "| selection, reconstruction | " + " | ".join(f"{ratio:g}×" for ratio in ratios) + " |",
        "|---|" + "---:|" * len(ratios),
    ]
    for reconstruction in RECONSTRUCTIONS:
        for selection in SELECTIONS:
            cells = [cell(bench, ratio, selection, reconstruction) for ratio in ratios]
            texts = [
                f"{c.score:.4f}, loss {c.loss:.4f}"
                + (f", {c.swaps} swaps in {c.changed} of {c.groups}" if selection == "greedy-swap" else "")
                for c in cells
            ]
            lines.append(f"| {selection}, `{reconstruction}` | " + " | ".join(texts) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def times(m: int, outputs: int, repeats: int = 5) -> tuple[float, float, int]:
    """Seconds of a greedy path of half the width, of the swaps after it, and how many there are."""
    moment, readout = problem(m, outputs)
    spectrum, k = Spectrum.of(moment), m // 2
    selector, tau = GreedySelector([moment], [readout]), ridge(spectrum, FIT_LAM * spectrum.trace, k)
    path_seconds, path = seconds(lambda: selector.path(tau, THETA, k), repeats)
    swap_seconds, found = seconds(lambda: swap_refine(selector, None, tau, path.kept(k), THETA), repeats)
    return path_seconds, swap_seconds, found.swaps


def timing() -> str:
    """The Markdown table of seconds."""
    lines = ["| units | greedy path to half of them | swaps after it |", "|---:|---:|---:|"]
    for m, outputs in ((64, 576), (512, 1000), (1024, 1000)):
        path, swaps, made = times(m, outputs)
        lines.append(f"| {m:,} | {1000 * path:.1f} ms | {1000 * swaps:.1f} ms, {made} swaps |")
    return "\n".join(lines)


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="test images (default 10,000)")
    parser.add_argument("names", nargs="*", default=["resnet20", "vgg13-cifar10"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names:
        results.show(f"swaps-{name}", table(name, asked.images), asked.write)
    results.show("swaps-seconds", timing(), asked.write)


if __name__ == "__main__":
    main()

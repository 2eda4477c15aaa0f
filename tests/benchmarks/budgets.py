"""A budget for ResNet-20 and ResNet-56 that leaves the streams whole, beside magnitude and torch-pruning.

`python tests/benchmarks/budgets.py resnet20 resnet56 [--write]` takes half an hour on one core. `--damage`
adds widths of least measured damage, streams included: up to an hour more. `--found FILE` keeps every number
as it is found, so that a run that was stopped goes on.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import results
import torch
from tables import Bench, Found

from workbench.fitting.norms import reestimate_norms
from workbench.pruning.budget import BudgetPlan
from workbench.tuning.settings import Tuning

IMAGES = 10_000
RATIOS = {"resnet20": 1 / 0.5055, "resnet56": 2.1}  # of the first: half of the blocks' MACs
STEPS = {"resnet20": 240, "resnet56": 120}


def planned(bench: Bench, ratio: float) -> list:
    """Plans by two rules at `ratio` times fewer MACs that leave the streams whole."""
    session = bench.session
    streams = {g.name: g.width for g in session.groups if g.prunable and not g.name.startswith("layer")}
    return [session.plan(bench.whole / ratio, rule=rule, locks=streams) for rule in ("least", "equal")]


def outside(bench: Bench, target: float) -> tuple[int, float, float]:
    """torch-pruning: its MACs, at most `target`, and its accuracy as it comes and with norms re-estimated."""
    other, macs = bench.torch_pruning(target)
    images = bench.subject.calibration[0].split(256)
    return macs, bench.score(other), bench.score(reestimate_norms(other, images))


class Numbers:
    """Accuracies by their titles, in order; those that `found` has are not measured again."""

    def __init__(self, name: str, images: int, found: Found):
        self.of, self.found = f"budget: {name}, {images} images", found
        self.scores: dict[str, float] = {}

    def number(self, title: str, make: Callable[[], float]) -> float:
        key = f"{self.of}, {title}"
        if key not in self.found.numbers:
            self.found.keep(key, make())
        number = self.found.numbers[key]
        assert number is not None
        return number

    def score(self, title: str, make: Callable[[], float]) -> None:
        self.scores[title] = self.number(title, make)
        print(f"  {title}: {self.scores[title]:.4f}", flush=True)

    def knows(self, *titles: str) -> bool:
        return all(f"{self.of}, {title}" in self.found.numbers for title in titles)


def rebuilt(numbers: Numbers, bench: Bench, widths: str, plan: Callable[[], BudgetPlan], steps: int) -> None:
    """A plan's network, refitted, and instead of that after steps without labels."""
    titles = (
        f"{widths}, greedy, `original` [beyond]",
        f"{widths}, then `session.refit()` [beyond]",
        f"{widths}, instead of that, steps that follow the activations [beyond]",
    )
    session, at = bench.session, 0
    if not numbers.knows(*titles):
        session.reset()
        session.commit_plan(plan(), reconstruction="original")
        at = session.position

    def after(work: Callable[[], object]) -> float:
        session.goto(at)
        work()
        return bench.score(session.model)

    settings = Tuning(steps=steps, rate=2e-3, match=1.0, flips=True, shifts=4)
    numbers.score(titles[0], lambda: bench.score(session.model))
    numbers.score(titles[1], lambda: after(session.refit))
    numbers.score(titles[2], lambda: after(lambda: session.finetune(bench.subject.calibration[0], settings)))
    session.reset()


def scores(
    name: str,
    images: int = IMAGES,
    steps: int | None = None,
    damage: bool = False,
    found: Found | None = None,
) -> tuple[str, dict[str, float]]:
    """A line on the MACs, and accuracies at the network's ratio: 1,024 calibration images without labels."""
    bench, steps = Bench(name, images, epoch=0), STEPS[name] if steps is None else steps
    session, target = bench.session, bench.whole / RATIOS[name]
    least, equal = planned(bench, RATIOS[name])
    numbers = Numbers(name, images, found or Found([]))
    numbers.score("unpruned", lambda: bench.score(bench.subject.model))
    for title, norms in (("as it comes", False), ("norms re-estimated", True)):
        numbers.score(
            f"equal widths, magnitude L1, {title}",
            lambda norms=norms: bench.score(bench.pruned(equal, "magnitude-l1", "none", norms)),
        )
    other = cache(lambda: outside(bench, target))
    macs = int(numbers.number("MACs of torch-pruning", lambda: other()[0]))
    for index, title in enumerate(("as it comes", "norms re-estimated"), 1):
        numbers.score(f"torch-pruning, global L1, {title}", lambda index=index: other()[index])
    rebuilt(numbers, bench, "least loss per cost", lambda: least, steps)
    if damage:
        plan = partial(session.plan, target, rule="damage", reconstruction="original")
        rebuilt(numbers, bench, "least damage, streams too", plan, steps)
    said = f"{bench.whole:,} → {least.macs:,} MACs (torch-pruning {macs:,}), {images:,} test images"
    return f"{said}, {steps} steps without labels", numbers.scores


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="+", choices=RATIOS)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"test images (default {IMAGES})")
    parser.add_argument("--damage", action="store_true", help="widths of least damage too, streams included")
    parser.add_argument("--found", type=Path, nargs="+", default=[], help="keeps numbers of a run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names:
        said, found = scores(name, asked.images, damage=asked.damage, found=Found(asked.found))
        lines = [f"`{name}`: {said}.", "", "| | accuracy |", "|---|---:|"]
        lines += [f"| {title} | {score:.3f} |" for title, score in found.items()]
        results.show(f"budget-{name}", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()

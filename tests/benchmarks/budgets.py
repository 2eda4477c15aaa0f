"""A budget for ResNet-20 and ResNet-56 that leaves the streams whole, beside magnitude and torch-pruning.

`python tests/benchmarks/budgets.py resnet20 resnet56 [--write]` takes half an hour on one core.
"""

import results
import torch
from tables import Bench

from workbench.fitting.norms import reestimate_norms
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


def scores(name: str, images: int = IMAGES, steps: int | None = None) -> tuple[str, dict[str, float]]:
    """A line on the MACs, and accuracies at the network's ratio: 1,024 calibration images without labels."""
    bench, steps = Bench(name, images, epoch=0), STEPS[name] if steps is None else steps
    session, target = bench.session, bench.whole / RATIOS[name]
    least, equal = planned(bench, RATIOS[name])
    found = {"unpruned": bench.score(bench.subject.model)}
    for title, norms in (("as it comes", False), ("norms re-estimated", True)):
        found[f"equal widths, magnitude L1, {title}"] = bench.score(
            bench.pruned(equal, "magnitude-l1", "none", norms)
        )
    macs, plain, normed = outside(bench, target)
    found["torch-pruning, global L1, as it comes"] = plain
    found["torch-pruning, global L1, norms re-estimated"] = normed
    session.commit_plan(least, reconstruction="original")
    found["least loss per cost, greedy, `original` [beyond]"] = bench.score(session.model)
    committed = session.position
    session.refit()
    found["then `session.refit()` [beyond]"] = bench.score(session.model)
    session.goto(committed)
    session.finetune(
        bench.subject.calibration[0], Tuning(steps=steps, rate=2e-3, match=1.0, flips=True, shifts=4)
    )
    found["instead of that, steps that follow the activations [beyond]"] = bench.score(session.model)
    said = f"{bench.whole:,} → {least.macs:,} MACs (torch-pruning {macs:,}), {images:,} test images"
    return f"{said}, {steps} steps without labels", found


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="+", choices=RATIOS)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"test images (default {IMAGES})")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names:
        said, found = scores(name, asked.images)
        lines = [f"`{name}`: {said}.", "", "| | accuracy |", "|---|---:|"]
        lines += [f"| {title} | {score:.3f} |" for title, score in found.items()]
        results.show(f"budget-{name}", "\n".join(lines), asked.write)


if __name__ == "__main__":
    main()

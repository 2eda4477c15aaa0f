"""Score at 1.5, 2, 3 and 5 times fewer MACs, for every rule and criterion: the README's tables.

    python tests/benchmarks/tables.py resnet20 resnet56 vgg13-cifar10 nn3-mnist --write

1,024 calibration images; the score is the accuracy on `--images` test images. One epoch of fine-tuning, where
it is asked for by `--epoch`, is one pass over that many labelled training images. torch-pruning's own pruner
runs in the same process on the same data.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from cifar_resnets import MEAN, STD, evaluation, resnet  # noqa: E402

import workbench as wb  # noqa: E402
from workbench.measure.datasets import load_cifar10, load_mnist  # noqa: E402
from workbench.measure.refitting import reestimate_norms  # noqa: E402
from workbench.session.finetune import Tuning, finetune  # noqa: E402

README = HERE.parent.parent / "README.md"
RATIOS = (1.5, 2.0, 3.0, 5.0)
CRITERIA = (
    "greedy", "leverage", "random", "magnitude-l1", "magnitude-l2", "apoz", "mean-activation", "taylor",
)  # fmt: skip
CALIBRATION = 1024


@dataclass
class Subject:
    """A network with calibration data (inputs, labels), training data and test data."""

    model: nn.Module
    training: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    @property
    def calibration(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.training[0][:CALIBRATION], self.training[1][:CALIBRATION]


def subject(name: str, images: int, epoch: int) -> Subject:
    count = max(CALIBRATION, epoch)
    if name == "nn3-mnist":
        example = wb.load_example(name)
        found = load_mnist("train", per_class=-(-count // 10))
        return Subject(example.model, prepared(found, (33.32,), (78.57,)), whole(example.evaluation, images))
    found = load_cifar10("train", per_class=-(-count // 10))
    model = resnet(int(name[6:])) if name.startswith("resnet") else wb.load_example(name).model
    return Subject(model, prepared(found, MEAN, STD), evaluation(images))


def whole(batches, images):
    return batches.inputs[:images], batches.targets[:images]


def prepared(found, mean, std):
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (found.pixels[order].float() - mean) / std, found.labels[order]


class Bench:
    """One network's session, and the ways to prune it to a number of MACs."""

    def __init__(self, name: str, images: int, epoch: int):
        self.name, self.epoch = name, epoch
        self.subject = subject(name, images, epoch)
        self.session = wb.Session(self.subject.model, self.subject.calibration)
        self.session.measure()
        self.session.measure_gradients()
        self.normed = any(isinstance(m, nn.BatchNorm2d) for m in self.subject.model.modules())
        self.whole = self.session.macs

    def score(self, model: nn.Module) -> float:
        return wb.evaluate(model, self.subject.test)

    def pruned(self, widths, selection: str, reconstruction: str, reestimate: bool = False) -> nn.Module:
        self.session.reset()
        self.session.commit_plan(
            widths, selection=selection, reconstruction=reconstruction, reestimate=reestimate and self.normed
        )
        model = self.session.model
        self.session.reset()
        return model

    def tuned(self, model: nn.Module) -> nn.Module:
        inputs, labels = (part[: self.epoch] for part in self.subject.training)
        pairs = list(zip(inputs.split(128), labels.split(128), strict=True))
        return finetune(model, pairs, Tuning(epochs=1, rate=1e-3)).model

    def torch_pruning(self, target: float) -> tuple[nn.Module, int]:
        """torch-pruning's global L1 pruner at the largest network under the target."""
        low, high, best = 0.0, 0.95, None
        for _ in range(12):
            middle = (low + high) / 2
            model = self._torch_pruned(middle)
            macs = wb.count_cost(model, self.session.example_input).macs
            if macs > target:
                low = middle
            else:
                high, best = middle, (model, macs)
        assert best is not None
        return best

    def _torch_pruned(self, ratio: float) -> nn.Module:
        import torch_pruning

        model = copy.deepcopy(self.subject.model)
        kept = [m for n, m in model.named_modules() if self._is_stream(n, m)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_pruning.pruner.BasePruner(
                model,
                self.session.example_input[:1],
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
                global_pruning=True,
                pruning_ratio=ratio,
                max_pruning_ratio=0.95,
                ignored_layers=kept,
            ).step()
        return model.eval()

    def _is_stream(self, name: str, module: nn.Module) -> bool:
        """Layers whose outputs stay: a residual stream (it cannot cut a padded one), the classes."""
        if self.name.startswith("resnet"):
            return name == "conv1" or name.endswith("conv2") or isinstance(module, nn.Linear)
        return isinstance(module, nn.Linear) and module.out_features == 10


def cell(bench: Bench, model: nn.Module, tune: bool) -> str:
    score = f"{bench.score(model):.3f}"
    return f"{score} → {bench.score(bench.tuned(model)):.3f}" if tune else score


def table(name: str, images: int, epoch: int, criteria: bool) -> str:
    """The Markdown table of one network; a cell is the accuracy, and after the arrow that after one epoch."""
    start = time.perf_counter()
    bench = Bench(name, images, epoch)
    unpruned = bench.score(bench.subject.model)
    lines = [
        f"`{name}`, unpruned {unpruned:.3f}, {bench.whole:,} MACs; {images:,} test images.",
        "",
        "| widths by | criterion, reconstruction | " + " | ".join(f"{r:g}×" for r in RATIOS) + " |",
        "|---|---|" + "---:|" * len(RATIOS),
    ]
    plans = {
        rule: [bench.session.plan(bench.whole / ratio, rule=rule) for ratio in RATIOS]
        for rule in ("equal", "shared", "least")
    }

    def row(rule: str, title: str, make, tune: bool = False) -> None:
        cells = []
        for index in range(len(RATIOS)):
            plan = plans[rule][index] if rule in plans else None
            cells.append("–" if plan and not plan.met else cell(bench, make(index), tune and epoch > 0))
        lines.append(f"| {rule} | {title} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)

    def way(rule: str, selection: str, reconstruction: str, reestimate: bool):
        return lambda index: bench.pruned(plans[rule][index], selection, reconstruction, reestimate)

    norms = ", norms re-estimated" if bench.normed else ""
    for rule in plans:
        row(rule, "greedy, `original`", way(rule, "greedy", "original", False), tune=rule == "least")
    row("torch-pruning", "global L1, none", lambda i: bench.torch_pruning(bench.whole / RATIOS[i])[0])
    if bench.normed or epoch:
        row(
            "torch-pruning",
            f"global L1, none{norms}",
            lambda i: reestimate_norms(
                bench.torch_pruning(bench.whole / RATIOS[i])[0], bench.subject.calibration[0].split(256)
            ),
            tune=True,
        )
    for selection in CRITERIA if criteria else ("magnitude-l1",):
        row("equal", f"{selection}, none{norms}", way("equal", selection, "none", True))
        row("equal", f"{selection}, `channel`{norms}", way("equal", selection, "channel", True))
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return "\n".join(lines)


def write(name: str, text: str) -> None:
    """Put the table between its markers in the README."""
    readme = README.read_text(encoding="utf-8")
    pattern = rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)"
    if not re.search(pattern, readme, re.S):
        raise SystemExit(f"the README has no place for {name}: <!-- table {name} --> … <!-- end -->")
    README.write_text(
        re.sub(pattern, lambda m: f"{m[1]}{text}\n\n{m[2]}", readme, flags=re.S), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="+", help="resnet20, resnet56, vgg13-cifar10, nn3-mnist")
    parser.add_argument("--images", type=int, default=2000, help="test images (default 2000)")
    parser.add_argument("--epoch", type=int, default=0, help="training images of an epoch; 0: none")
    parser.add_argument("--criteria", action="store_true", help="every criterion, not magnitude alone")
    parser.add_argument("--write", action="store_true", help="put the tables into the README")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        text = table(name, options.images, options.epoch, options.criteria)
        print(text)
        if options.write:
            write(name, text)


if __name__ == "__main__":
    main()

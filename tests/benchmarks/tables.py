"""Score at 1.5, 2, 3 and 5 times fewer MACs, for every rule and criterion: the tables of RESULTS.md.

    python tests/benchmarks/tables.py resnet20 resnet56 vgg13-cifar10 nn3-mnist --epoch 10000 --write

1,024 calibration images without labels (Taylor alone sees them); the score is the accuracy on `--images` test
images. One epoch of fine-tuning, where it is asked for by `--epoch`, is one pass over that many labelled
training images, the same ones, the same way for every row; "matched" is 120 steps without labels that follow
the original's activations on the calibration images. torch-pruning's own pruner runs in the same process on
the same data. `--found FILE` keeps every number as it is found, so that a run that was stopped goes on; more
files are read alone. So several processes share the work, each with its `--rows` and its file, and a last one
reads all files and writes the table. A file holds for one state of the code; delete it after a change.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import results
import torch
from cifar_resnets import MEAN, STD, evaluation, resnet
from torch import nn

import workbench as wb
from workbench.examples.datasets import load_cifar10, load_mnist
from workbench.fitting.norms import reestimate_norms
from workbench.pruning.budget import BudgetPlan
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning

RATIOS = (1.5, 2.0, 3.0, 5.0)
CRITERIA = (
    "greedy", "leverage", "random", "magnitude-l1", "magnitude-l2", "apoz", "mean-activation", "taylor",
)  # fmt: skip
RULES = ("equal", "shared", "least")
ALL = slice(None)
CALIBRATION = 1024
MATCHING = Tuning(steps=120, rate=2e-3, match=1.0)


Data = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Subject:
    """A network with (inputs, labels) to calibrate on, to fine-tune on and to score on."""

    model: nn.Module
    calibration: Data
    training: Data
    test: Data


def subject(name: str, images: int, epoch: int) -> Subject:
    if name == "nn3-mnist":
        example = wb.load_example(name)
        load, mean, std = load_mnist, (33.32,), (78.57,)
        model, test = example.model, (example.evaluation.inputs[:images], example.evaluation.targets[:images])
    else:
        load, mean, std = load_cifar10, MEAN, STD
        model = resnet(int(name[6:])) if name.startswith("resnet") else wb.load_example(name).model
        test = evaluation(images)

    def training(count: int) -> Data:
        found = load("train", per_class=-(-count // 10))
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:count]
        middle, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return (found.pixels[order].float() - middle) / spread, found.labels[order]

    # The calibration images do not depend on how many there are to fine-tune on.
    return Subject(model, training(CALIBRATION), training(epoch or CALIBRATION), test)


class Bench:
    """One network's session, and the ways to prune it to a number of MACs."""

    def __init__(self, name: str, images: int, epoch: int):
        self.name, self.epoch = name, epoch
        self.subject = subject(name, images, epoch)
        self.session = wb.Session(self.subject.model, self.subject.calibration)
        self.session.measure()
        self.normed = any(isinstance(m, nn.BatchNorm2d) for m in self.subject.model.modules())
        self.whole = self.session.macs

    def score(self, model: nn.Module | None) -> float | None:
        return None if model is None else wb.evaluate(model, self.subject.test)

    def pruned(
        self, widths, selection: str, reconstruction: str, reestimate: bool = False, then: str = ""
    ) -> nn.Module:
        """The session's network at `widths`; `then` "refitted", or "matched" by steps without labels."""
        self._commit(widths, selection, reconstruction, reestimate and self.normed)
        if then == "refitted":
            self.session.refit()
        if then == "matched":
            self.session.finetune(self.subject.calibration[0], MATCHING)
        model = self.session.model
        if then:
            self.session.undo()
        self.session.switch("main")  # where plans are made
        return model

    def _commit(self, widths, selection: str, reconstruction: str, reestimate: bool) -> None:
        """On a branch of its own; the last few stay, since other rows go on from there."""
        branch = f"{selection}, {reconstruction}, {reestimate}, {widths.widths}"
        if branch in self.session.branches:
            return self.session.switch(branch)
        self.session.switch("main")
        for old in [name for name in self.session.branches if name != "main"][: -len(RATIOS) + 1 or None]:
            self.session.drop(old)
        if selection == "taylor" and not self.session.has_gradients:
            self.session.measure_gradients()
        self.session.fork(branch)
        self.session.commit_plan(
            widths, selection=selection, reconstruction=reconstruction, reestimate=reestimate
        )

    def tuned(self, model: nn.Module) -> nn.Module:
        inputs, labels = self.subject.training
        pairs = list(zip(inputs.split(128), labels.split(128), strict=True))
        return finetune(model, pairs, Tuning(epochs=1, rate=1e-3)).model

    def torch_pruning(self, target: float, isomorphic: bool = False) -> tuple[nn.Module, int] | None:
        """torch-pruning's global L1 pruner at the largest network under the target; None: it gets none.

        `isomorphic`: layers of one shape are ranked among themselves.
        """
        low, high, best = 0.0, 0.95, None
        for _ in range(12):
            middle = (low + high) / 2
            model = self._torch_pruned(middle, isomorphic)
            macs = wb.count_cost(model, self.session.example_input).macs
            if macs > target:
                low = middle
            else:
                high, best = middle, (model, macs)
        return best

    def _torch_pruned(self, ratio: float, isomorphic: bool) -> nn.Module:
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
                isomorphic=isomorphic,
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


@dataclass
class Found:
    """Numbers found so far, by what they are of: those in `paths`, the first of which keeps new ones."""

    paths: Sequence[Path]

    def __post_init__(self) -> None:
        self.numbers: dict[str, float | None] = {}
        for path in self.paths:
            self.numbers |= json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def keep(self, key: str, number: float | None) -> None:
        self.numbers[key] = number
        for path in self.paths[:1]:
            path.write_text(json.dumps(self.numbers, indent=0), encoding="utf-8")


@dataclass(frozen=True)
class Row:
    """A line of the table: how the widths are found, what is done at them, whether it is fine-tuned too."""

    rule: str
    title: str
    make: Callable[[BudgetPlan | float], nn.Module | None]
    tune: bool = False


def rows(bench: Bench) -> list[Row]:
    """The lines of a table, in its order."""

    def way(selection: str, reconstruction: str, reestimate: bool = False, then: str = ""):
        return lambda plan: bench.pruned(plan, selection, reconstruction, reestimate, then)

    def outside(reestimate: bool):
        def make(target: float) -> nn.Module | None:
            model, _ = bench.torch_pruning(target) or (None, 0)
            if model is None or not reestimate:
                return model
            return reestimate_norms(model, bench.subject.calibration[0].split(256))

        return make

    norms = ", norms re-estimated" if bench.normed else ""
    found = [Row(rule, "greedy, `original`", way("greedy", "original"), True) for rule in RULES]
    for then in ("refitted", "matched"):
        found.append(Row("least", f"greedy, `original`, {then}", way("greedy", "original", then=then), True))
    found.append(Row("torch-pruning", "global L1, none", outside(False), not bench.normed))
    if bench.normed:
        found.append(Row("torch-pruning", f"global L1, none{norms}", outside(True), True))
        found.append(Row("equal", "greedy, `kernel`", way("greedy", "kernel")))
    for selection in CRITERIA:
        found.append(
            Row(
                "equal",
                f"{selection}, none{norms}",
                way(selection, "none", True),
                selection == "magnitude-l1",
            )
        )
        found.append(Row("equal", f"{selection}, `channel`{norms}", way(selection, "channel", True), True))
    return found


def table(name: str, images: int, epoch: int, found: Found, part: slice) -> str:
    """The Markdown table of one network; a cell is the accuracy, and after the arrow that after one epoch.

    `part`: these of its rows alone.
    """
    start = time.perf_counter()
    bench = Bench(name, images, epoch)

    def number(key: str, make: Callable[[], float | None]) -> float | None:
        key = f"{name}, {images} images, {key}"
        if key not in found.numbers:
            found.keep(key, make())
        return found.numbers[key]

    def cell(row: Row, ratio: float) -> str:
        target = bench.whole / ratio
        plan = bench.session.plan(target, rule=row.rule) if row.rule in RULES else target
        if isinstance(plan, BudgetPlan) and not plan.met:
            return "–"
        model = cache(lambda: row.make(plan))
        key = f"{row.rule}, {row.title}, {ratio:g}"
        score = number(key, lambda: bench.score(model()))
        if score is None:
            return "–"
        if not (row.tune and epoch):
            return f"{score:.3f}"
        return (
            f"{score:.3f} → {number(f'{key}, epoch {epoch}', lambda: bench.score(bench.tuned(model()))):.3f}"
        )

    whole = bench.subject.model
    unpruned = f"{number('unpruned', lambda: bench.score(whole)):.3f}"
    if epoch:
        tuned = number(f"unpruned, epoch {epoch}", lambda: bench.score(bench.tuned(whole)))
        unpruned += f" → {tuned:.3f}"
    after = f"; after the arrow: after one pass over {epoch:,} labelled training images" if epoch else ""
    lines = [
        f"`{name}`, unpruned {unpruned}, {bench.whole:,} MACs; {images:,} test images{after}.",
        "",
        "| widths by | criterion, reconstruction | " + " | ".join(f"{r:g}×" for r in RATIOS) + " |",
        "|---|---|" + "---:|" * len(RATIOS),
    ]
    for row in rows(bench)[part]:
        lines.append(f"| {row.rule} | {row.title} | " + " | ".join(cell(row, r) for r in RATIOS) + " |")
        print(lines[-1], flush=True)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return "\n".join(lines)


def part_of(text: str) -> slice:
    """ "3-7" as the rows that it means, counted from 1. Raises argparse's error."""
    found = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"rows are given as FROM-TO, counted from 1; got {text!r}")
    return slice(int(found[1]) - 1, int(found[2]))


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="+", help="resnet20, resnet56, vgg13-cifar10, nn3-mnist")
    parser.add_argument("--images", type=int, default=2000, help="test images (default 2000)")
    parser.add_argument("--epoch", type=int, default=0, help="training images of an epoch; 0: none")
    parser.add_argument(
        "--found", type=Path, nargs="+", default=[], help="keeps numbers of a run; more files are read alone"
    )
    parser.add_argument(
        "--rows",
        type=part_of,
        default=ALL,
        help="FROM-TO: these rows of the table alone, and none is written",
    )
    options = parser.parse_args()
    if options.rows != ALL and options.write:
        parser.error("--rows is a part of a table: write it with all rows, from the files of all parts")
    torch.set_num_threads(1)
    for name in options.names:
        text = table(name, options.images, options.epoch, Found(options.found), options.rows)
        results.show(name, text, options.write)


if __name__ == "__main__":
    main()

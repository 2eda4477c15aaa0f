"""Widths by every rule at the same cost, and how well each prediction ranks plans: on real networks.

    python tests/benchmarks/damage.py resnet20 nn3-mnist --write
    python tests/benchmarks/damage.py nn3-mnist --random 100 --write

Greedy selection and `original` reconstruction on 1,024 calibration images without labels, residual streams
included. "Damage": the widths of the least sum of damages, measured of each group alone; "refined" has some
minutes more to measure whole plans. torch-pruning's own pruner, global and isomorphic, runs in the same
process on the same data, its norms re-estimated. `--random` measures random plans, with the rank correlation
of each prediction with what was measured.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import results
import torch
from scipy.stats import spearmanr
from tables import RATIOS, Bench, Found
from torch import nn

from workbench.fitting.norms import reestimate_norms
from workbench.pruning.budget import Round
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.damage import Way
from workbench.pruning.problem import BUDGET_LAM
from workbench.pruning.refining import STEP, Refining

WAY = {"reconstruction": "original"}
SECONDS = {"resnet20": 240, "resnet56": 300, "vgg13-cifar10": 240, "nn3-mnist": 60}  # of refining
RULES = ("equal", "shared", "least", "damage", "refined")
PRUNERS = ("global", "isomorphic")


class Table:
    """Numbers of one network, kept in a file as they are found."""

    def __init__(self, name: str, images: int, epoch: int, found: Found, rules: tuple[str, ...] = RULES):
        self.rules = rules
        self.name, self.found, self.images, self.epoch = name, found, images, epoch
        self.bench = Bench(name, images, epoch)
        self.session = self.bench.session

    def number(self, key: str, make: Callable[[], float | None]) -> float | None:
        key = f"damage: {self.name}, {self.images} images, {key}"
        if key not in self.found.numbers:
            self.found.keep(key, make())
        return self.found.numbers[key]

    def widths(self, rule: str, ratio: float) -> dict[str, int]:
        """The rule's widths at `ratio` times fewer MACs."""
        key = f"damage: {self.name}, widths, {rule}, {ratio:g}"
        if key not in self.found.numbers:
            refine = SECONDS[self.name] if rule == "refined" else 0
            plan = self.session.plan(
                self.bench.whole / ratio, rule="damage" if refine else rule, refine=refine, **WAY
            )
            for one in plan.rounds:
                print(
                    f"  {self.name} {ratio:g}× {one.what}: {one.measured:.4f} ({one.seconds:.0f} s)",
                    flush=True,
                )
            self.found.keep(key, plan.widths)
        return self.found.numbers[key]  # type: ignore[return-value]

    def model(self, rule: str, ratio: float) -> nn.Module | None:
        if rule in PRUNERS:
            return self.outside(rule, ratio)
        self.session.commit_plan(self.widths(rule, ratio), **WAY)
        model = copy.deepcopy(self.session.model)
        self.session.reset()
        return model

    def outside(self, ranking: str, ratio: float) -> nn.Module | None:
        """torch-pruning's largest network under the target, with norms re-estimated; None: it gets none."""
        model, _ = self.bench.torch_pruning(self.bench.whole / ratio, ranking == "isomorphic") or (None, 0)
        if model is None or not self.bench.normed:
            return model
        return reestimate_norms(model, self.bench.subject.calibration[0].split(256))

    def cell(self, rule: str, ratio: float) -> str:
        """The score, and that after an epoch; a dash where there is no such network."""
        made: list[nn.Module | None] = []

        def model() -> nn.Module | None:
            if not made:
                made.append(self.model(rule, ratio))
            return made[0]

        score = self.number(f"{rule}, {ratio:g}", lambda: self.bench.score(model()))
        if score is None:
            return "–"
        if not self.epoch:
            return f"{score:.3f}"
        after = self.number(
            f"{rule}, {ratio:g}, epoch {self.epoch}",
            lambda: None if model() is None else self.bench.score(self.bench.tuned(model())),
        )
        return f"{score:.3f} → {after:.3f}"

    def text(self) -> str:
        unpruned = self.number("unpruned", lambda: self.bench.score(self.bench.subject.model))
        lines = [
            f"`{self.name}`, unpruned {unpruned:.3f}, {self.bench.whole:,} MACs; {self.images:,} test images"
            + (f"; after the arrow: after an epoch of {self.epoch:,} images." if self.epoch else "."),
            "",
            "| widths by | " + " | ".join(f"{r:g}×" for r in RATIOS) + " |",
            "|---|" + "---:|" * len(RATIOS),
        ]
        for rule in (*self.rules, *PRUNERS):
            title = f"torch-pruning, {rule}" if rule in PRUNERS else rule
            lines.append(f"| {title} | " + " | ".join(self.cell(rule, r) for r in RATIOS) + " |")
            print(lines[-1], flush=True)
        return "\n".join(lines)


def random_widths(groups: Mapping[str, int], draw: random.Random) -> dict[str, int]:
    """Widths around a common share of each group's own."""
    share = draw.uniform(0.3, 0.9)
    return {
        name: max(1, min(m, round(m * min(1.0, max(0.05, draw.gauss(share, 0.2))))))
        for name, m in groups.items()
    }


@dataclass
class Plans:
    """Random plans of one network: their measured damage (Jensen–Shannon), and what is predicted for them."""

    name: str
    found: Found

    def __post_init__(self) -> None:
        self.bench = Bench(self.name, 100, 0)
        self.session = self.bench.session
        self.damage = self.session.damage(**WAY)
        self.least = {one.name: one for one in self.session.budget_groups()}
        sides = self.session._sides(self.session._state.running(), None, None)
        self.refining = Refining(sides, Way(DEFAULT_THETA, "greedy", "original", BUDGET_LAM), seconds=1e9)

    def measured(self, key: str, widths: dict[str, int]) -> float:
        key = f"random: {self.name}, {key}"
        if key not in self.found.numbers:
            self.found.keep(key, self.refining.walked(self.refining.state, widths).damage)
        return self.found.numbers[key]  # type: ignore[return-value]

    def predicted(self, widths: dict[str, int]) -> dict[str, float]:
        """By what is known of each group alone."""
        groups = self.damage.groups
        return {
            "change, measured of each group alone": sum(g.curve[widths[g.name]] for g in groups),
            "KL divergence, measured of each group alone": sum(
                g.divergence_curve[widths[g.name]] for g in groups
            ),
            "decay of the rule 'least'": sum(self.least[n].decay[w] for n, w in widths.items()),
            "output losses": sum(self.least[n].losses[w] for n, w in widths.items()),
            "MACs that go": -self.session.cost_model.total(widths)[1],
        }

    def anywhere(self, count: int, draw: random.Random) -> list[tuple[float, dict[str, float]]]:
        groups = {one.name: one.width for one in self.damage.groups}
        plans = [random_widths(groups, draw) for _ in range(count)]
        return [(self.measured(f"anywhere {i}", w), self.predicted(w)) for i, w in enumerate(plans)]

    def around(self, count: int, draw: random.Random, ratio: float) -> list[tuple[float, dict[str, float]]]:
        """Each group a step down, up, or not, from the plan of least damage: what a round predicts too."""
        plan = self.session.plan(self.bench.whole / ratio, rule="damage", **WAY).widths
        allowed = [list(range(1, one.width + 1)) for one in self.damage.groups]
        steps = self.refining.steps_of(plan, allowed, STEP)
        path = self.refining.walked(self.refining.state, plan)
        best = Round("damage", plan, float("nan"), path.damage, True, 0.0)
        changes = self.refining.around(best, path, steps, 1) or {}
        rows = []
        for number in range(count):
            widths = {n: draw.choice([w for w in (plan[n], *steps[n]) if w]) for n in plan}
            after = {"the plan and each group one step around it": sum(changes[n][widths[n]] for n in plan)}
            rows.append((self.measured(f"around {ratio:g} {number}", widths), self.predicted(widths) | after))
        return rows

    def text(self, count: int) -> str:
        parts = []
        for title, rows in (
            (f"{count} random plans", self.anywhere(count, random.Random(0))),
            (
                f"{count} random plans one step around that of least damage at 2×",
                self.around(count, random.Random(1), 2.0),
            ),
        ):
            parts += [f"`{self.name}`, {title}: rank correlation of the measured damage with", ""]
            parts += ["| predicted by | |", "|---|---:|"]
            for kind in rows[0][1]:
                value = spearmanr([m for m, _ in rows], [p[kind] for _, p in rows])[0]
                parts.append(f"| {kind} | {value:.3f} |")
            parts.append("")
        return "\n".join(parts)


def main() -> None:
    parser = results.options(__doc__)
    parser.add_argument("names", nargs="+", help="resnet20, resnet56, vgg13-cifar10, nn3-mnist")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--epoch", type=int, default=0, help="training images of an epoch; 0: none")
    parser.add_argument("--random", type=int, default=0, help="so many random plans instead of the table")
    parser.add_argument("--found", type=Path, nargs="+", default=[], help="keeps numbers of a run")
    parser.add_argument("--unrefined", action="store_true", help="leave the row of refined plans out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        start = time.perf_counter()
        if options.random:
            results.show(
                f"plans-{name}", Plans(name, Found(options.found)).text(options.random), options.write
            )
        else:
            rules = RULES[:-1] if options.unrefined else RULES
            table = Table(name, options.images, options.epoch, Found(options.found), rules)
            results.show(f"damage-{name}", table.text(), options.write)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

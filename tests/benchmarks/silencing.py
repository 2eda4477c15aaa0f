"""Removal against silencing for networks of torchvision and timm: `python tests/benchmarks/silencing.py`.

Every group alone at random kept units and random plans of unequal widths, in float64, against hooks that
silence the readers. Names after the command choose networks; `--out FILE` writes the table as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from silencing import each_alone, lively, open_session, worst_of_plans, worst_together
from vision import NETWORKS, versions

from workbench.network.finding.proof import find_groups

LIMIT = 1e-9
COLUMNS = (
    "network",
    "groups",
    "prunable",
    "linked",
    "forward passes to find them",
    "worst alone",
    "smallest effect",
    "worst of all at once",
    "worst plan",
    "seconds",
)
HEAD = f"| {' | '.join(COLUMNS)} |"


def row(name: str, plans: int) -> tuple[str, bool]:
    """A line of the table, and whether removal was silencing."""
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    images = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    model, x = lively(build(), images), images[:2]
    start, passes = time.perf_counter(), []
    handle = model.register_forward_pre_hook(lambda _m, _args: passes.append(1))
    find_groups(model, x)
    handle.remove()
    session = open_session(model, x)
    alone = each_alone(session.original, session.groups, x)
    together = worst_together(session.original, session.groups, x, plans)
    plan = worst_of_plans(session, x, plans) if alone else 0.0
    worst = max((wrong for wrong, _ in alone.values()), default=0.0)
    effect = min((effect for _, effect in alone.values()), default=0.0)
    groups = session.groups
    cells = [
        name,
        len(groups),
        sum(g.prunable for g in groups),
        sum(bool(g.linked) and g.prunable for g in groups),
        len(passes),
        f"{worst:.1e}",
        f"{effect:.1e}",
        f"{together:.1e}",
        f"{plan:.1e}",
        f"{time.perf_counter() - start:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |", max(worst, together, plan) < LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--plans", type=int, default=2)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    lines, right = [f"{versions()}; float64, 2 examples", "", HEAD, "|---" * len(COLUMNS) + "|"], True
    for name in chosen.networks:
        try:
            line, good = row(name, chosen.plans)
        except Exception as error:
            line, good = f"| {name} | {type(error).__name__}: {str(error)[:200]} |", False
        lines.append(line)
        right = right and good
        print(line, flush=True)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Removal is silencing in networks of torchvision and timm: `python tests/benchmarks/library_networks.py`.

Every group alone at random kept units and random plans of unequal widths, in float64, against hooks that
silence the readers. Needs torchvision and timm, in the versions that go with torch. Names choose networks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import results
import torch
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


def table(rows: Sequence[str]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|---{'|---:' * (len(COLUMNS) - 1)}|"
    return "\n".join([f"{versions()}; float64, two examples.", "", head, *rows])


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--plans", type=int, default=1)
    chosen = parser.parse_args()
    lines, right = [], True
    for name in chosen.networks:
        line, good = row(name, chosen.plans)
        lines.append(line)
        right = right and good
        print(line, flush=True)
    if chosen.write:
        results.put("silencing", table(lines))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

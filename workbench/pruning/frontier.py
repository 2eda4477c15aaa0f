"""The least predicted change of the outputs at every cost, and the plans of the other rules beside it
**[beyond the paper]**.

Once the damage of each group alone is measured (damage.py), a plan takes milliseconds. So plans are solved
for a ladder of costs, and predict, against the original's outputs,

    1 − exp(−(D_now + Σ_g D_g(w_g)))      `Damage.change_at`, D_now that of the present network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.network.cost_model import CostModel, Total
from workbench.pruning.budget import RULES, BudgetPlan, GroupBudget, Limits, solve
from workbench.pruning.damage import Damage
from workbench.pruning.planning import needed_of
from workbench.pruning.state import State

TARGETS = 60  # of the line
FEWEST = 10.0  # times fewer than the original, at the far end
LADDER = (1.5, 2.0, 3.0, 5.0, 10.0)  # times fewer, where the other rules are set beside it


@dataclass(frozen=True)
class Frontier:
    """Plans in one unit of cost, with the change of the outputs that each predicts against the original.

    Attributes:
        unit: of the cost.
        whole: the original's.
        plans: by the rule "damage", the dearest first; none predicts more than one that costs less.
        others: by the other rules.
        damage: what the prediction is made of.
    """

    unit: str
    whole: float
    plans: tuple[BudgetPlan, ...]
    others: tuple[BudgetPlan, ...]
    damage: Damage


def frontier_of(
    state: State,
    damage: Damage,
    unit: str,
    whole: float,
    limits: Limits,
    rules: Iterable[str] = RULES,
    biased: bool = False,
    memory: Total | None = None,
    check: Callable[[], None] = lambda: None,
) -> Frontier:
    """The plans of the least damage from the present cost to ten times fewer than the original, and further
    where the network is that small already.

    Args:
        state: what is to be pruned; it stays as it is.
        damage: of every prunable group.
        unit: "macs", "parameters" or "megabytes".
        whole: the original's cost in it.
        limits: locks, least width and multiple.
        rules: whose plans are wanted; those of others than "damage" at the ladder of costs.
        biased: as for `solve`.
        memory: likewise, for megabytes.
        check: called before each plan; what it raises ends the work.

    Raises:
        ValueError: as `solve`; nothing is measured.
    """
    model = CostModel.of(state.model, state.groups, state.cost)
    budgets = needed_of(state, "damage", damage, None, None)
    if not damage.groups:
        raise ValueError("no damage is measured: session.damage() measures it")

    def at(rule: str, given: Sequence[GroupBudget], times: float) -> BudgetPlan:
        check()
        target = whole / times * (1 + 1e-12)  # its own cost meets it
        return solve(rule, given, model, target, unit, limits, biased=biased, memory=memory)

    present = at("damage", budgets, 1e-9).cost
    start = max(whole / present, 1.0)
    found: dict[str, list[BudgetPlan]] = {"line": [], "beside": []}
    for rule in rules:
        check()
        ladder = np.geomspace(start, max(FEWEST, 2 * start), TARGETS) if rule == "damage" else LADDER
        given = budgets if rule == "damage" else needed_of(state, rule, None, None, None)
        plans = [at(rule, given, float(times)) for times in ladder if times >= start]
        found["line" if rule == "damage" else "beside"] += [one for one in plans if one.met]
    line, beside = (
        tuple(replace(one, change=damage.change_at(one.widths)) for one in some)
        for some in (_rising(found["line"], damage), found["beside"])
    )
    return Frontier(unit, whole, line, beside, damage)


def _rising(plans: Sequence[BudgetPlan], damage: Damage) -> list[BudgetPlan]:
    """Of `plans`, ascending in what they save, those that no cheaper one beats: the solver is no oracle."""
    kept: list[BudgetPlan] = []
    for plan in reversed(plans):
        if not kept or damage.decay_at(plan.widths) < damage.decay_at(kept[-1].widths) - 1e-12:
            kept.append(plan)
    return kept[::-1]

"""A duel: widths chosen by hand against the rules, at the same budget, pruned and rebuilt alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from workbench.course.tables import Table
from workbench.pruning.budget import BudgetPlan
from workbench.session.session import Session

YOURS = "yours"
RULES = ("equal", "shared", "least")  # those that look at moments alone
SHARE = 0.1  # of the network's MACs, at which the rules come out apart on digits-cnn


class OverBudgetError(ValueError):
    """Widths that cost more than the duel allows; the message says by how much."""


@dataclass(frozen=True)
class Contender:
    """Who chose (`YOURS` or a rule), the widths by group, and what came of them, without fine-tuning."""

    name: str
    widths: dict[str, int]
    score: float
    parameters: int
    macs: int


@dataclass(frozen=True)
class Duel:
    """What each contender's widths come to. It displays itself as a table.

    Attributes:
        budget: MACs of an example that nobody may be over.
        metric: what the score is.
        unpruned: the original's score.
        contenders: yours, then the rules.
    """

    budget: int
    metric: str
    unpruned: float
    contenders: tuple[Contender, ...]

    def __getitem__(self, name: str) -> Contender:
        """The contender called "yours", "equal", "shared" or "least"; KeyError for another."""
        for one in self.contenders:
            if one.name == name:
                return one
        raise KeyError(f"nobody is called {name!r}; there are {', '.join(c.name for c in self.contenders)}")

    def beats(self, name: str) -> bool:
        """Whether your widths score over those of this rule. A tie is no win."""
        return self[YOURS].score > self[name].score

    def to_markdown(self) -> str:
        """A row a contender, a column a group's width, then score and costs; a sentence below."""
        groups = list(self[YOURS].widths)
        head = ("", *groups, self.metric, "parameters", "MACs", "of the budget")
        rows = []
        for one in self.contenders:
            widths = [str(one.widths[name]) for name in groups]
            share = f"{one.macs / self.budget:.1%}"
            costs = f"{one.parameters:,}", f"{one.macs:,}", share
            rows.append((one.name, *widths, f"{one.score:.4f}", *costs))
        return f"{Table(head, tuple(rows)).to_markdown()}\n\n{self._sentence()}"

    def _sentence(self) -> str:
        beaten = [rule for rule in RULES if self.beats(rule)]
        said = f"Yours beats {', '.join(beaten)}" if beaten else "Yours beats none of the rules"
        return (
            f"{said}. Unpruned: {self.unpruned:.4f}. The budget is {self.budget:,} MACs, and yours keeps it."
        )

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return self.to_markdown()


def duel(
    session: Session,
    widths: Mapping[str, int] | BudgetPlan,
    share: float = SHARE,
    *,
    reconstruction: str = "channel",
) -> Duel:
    """Score widths chosen by hand beside those of the three rules; nothing is committed.

    All are pruned in the same way: units chosen greedily, rebuilt by `reconstruction`, not fine-tuned.

    Args:
        session: measured, with evaluation data, at its original network.
        widths: units that stay, by the group's name; a group that is not named stays whole.
        share: the budget, as a share of the original's MACs, in (0, 1).
        reconstruction: as for `Session.preview`.

    Returns:
        A table of score, parameters and MACs of yours, equal, shared and least.

    Raises:
        OverBudgetError: the widths cost more than the budget.
        ValueError: an unknown group, a width that it cannot have, a session on which steps are committed or
            that has nothing to score by, a share out of range.
        NotMeasuredError: the session is not measured.
    """
    if session.position:
        raise ValueError("a duel starts from the original network: call session.reset() first")
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"the budget is a share of the network's MACs between 0 and 1, got {share!r}")
    if session.evaluation is None:
        raise ValueError("a duel needs a score: give the session evaluation data")
    budget = int(share * session.macs)
    yours = complete_widths(session, widths.widths if isinstance(widths, BudgetPlan) else widths)
    over = session.cost_model.total(yours)[1] - budget
    if over > 0:
        raise OverBudgetError(
            f"these widths cost {budget + over:,} MACs, {over:,} over the budget of {budget:,}: keep fewer "
            "units, first where many MACs hang on each"
        )
    plans = {rule: session.plan(budget, rule=rule, reconstruction=reconstruction) for rule in RULES}
    entered = {YOURS: yours} | {rule: plan.widths for rule, plan in plans.items()}
    found = session.compare(list(entered.values()), ["greedy"], [reconstruction])
    contenders = tuple(
        Contender(name, dict(chosen), float(row.score or 0.0), row.parameters, row.macs)
        for (name, chosen), row in zip(entered.items(), found.rows, strict=True)
    )
    return Duel(budget, found.metric, float(found.unpruned or 0.0), contenders)


def complete_widths(session: Session, widths: Mapping[str, int]) -> dict[str, int]:
    """A width of every prunable group, from those that are named.

    Args:
        session: whose groups are meant.
        widths: by the group's name.

    Returns:
        By the group's name, in the order of the network.

    Raises:
        ValueError: no mapping, a name that is no prunable group, a width out of [1, m] or not whole.
    """
    wholes = {group.name: group.width for group in session.groups if group.prunable}
    if not isinstance(widths, Mapping):
        raise ValueError(
            f"give the widths as a dictionary of group and units, such as {wholes}; got {widths!r}"
        )
    for name, width in widths.items():
        if name not in wholes:
            raise ValueError(f"no prunable group is called {name!r}; there are {', '.join(wholes)}")
        if isinstance(width, bool) or not isinstance(width, Integral) or not 1 <= width <= wholes[name]:
            raise ValueError(f"{name} keeps a whole number of units, 1 to {wholes[name]}; got {width!r}")
    return {name: int(widths.get(name, whole)) for name, whole in wholes.items()}

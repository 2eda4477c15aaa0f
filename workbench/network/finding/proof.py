"""Proof on a batch: a group is prunable only if removing units equals zeroing what their readers get.

Groups that fail alone are linked where the trace says what binds them, or mended by the numbers of modules
around that must fall with their units; all that is left is proved once more, together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from workbench.network.fewer import few_examples, on_few
from workbench.network.finding.assembly import Discovery, discover
from workbench.network.finding.elsewhere import Parts, Sizes, proved_elsewhere
from workbench.network.finding.hindrances import owners_of, structural_reason
from workbench.network.finding.idle import idle_layers, idle_sister
from workbench.network.finding.joint import Failures, Joint
from workbench.network.finding.linking import Link, bonds, link, merged, without_units
from workbench.network.finding.remembering import RememberedTrials
from workbench.network.finding.repairing import Repairs
from workbench.network.finding.sisters import Sisters, pattern
from workbench.network.finding.staying import what_stays
from workbench.network.finding.trials import BREAKS, ROUNDS, Tell, Trials, untold
from workbench.network.groups import UnitGroup
from workbench.network.layers import is_linear_layer
from workbench.network.running import Inputs, batch_length, call, call_order, tensors_of
from workbench.network.tensors import sharing_copy

TRACED_EXAMPLES = 2
PROVED_EXAMPLES = 8
PROVED_WORK = 1 << 32  # multiply–accumulates of a pass, beyond which fewer examples, but two, must do
STAGES = 3 + ROUNDS  # of finding groups: a pass, the trace, each round of the proof, and another size
FOLDS = 2  # axes of a folded one that are tried as the one that adapts
UNMATCHED = "no units are left elsewhere with which they could go in step"
ONE_STAYS = "the network breaks where a single unit is left: this one stays beside it"


def find_groups(model: nn.Module, example_input: Inputs) -> tuple[UnitGroup, ...]:
    """Every group of units of `model`, proved prunable or with the reason why not (method.md §1).

    Args:
        model: any network; copies of it are run, itself is not changed.
        example_input: one batch (batch, …) as the model takes it, on its device; a few examples are enough
            where they reach every layer.

    Returns:
        The groups in the order in which the network runs them. Those that can only go in step with others
        are one linked group with them.

    Raises:
        ValueError: the example does not go through the model.
    """
    return take_apart(model, example_input)[0]


def take_apart(model: nn.Module, example_input: Inputs, tell: Tell = untold) -> Parts:
    """The groups as `find_groups` gives them, and every parameter that is in none of them, with the reason.

    Args:
        model, example_input: as `find_groups` takes them.
        tell: is told which of the `STAGES` is at work, before forward passes, and in words on what; what it
            raises ends the work.

    Returns:
        (groups, what stays, sizes of input); each parameter of the network is in one of the first two.

    Raises:
        ValueError: the example does not go through the model.
    """
    groups, sizes, found, reference = _found(model, example_input, tell)
    return Parts(groups, what_stays(reference, groups, found.trace, found.untraced), sizes)


def _found(
    model: nn.Module, example_input: Inputs, tell: Tell
) -> tuple[tuple[UnitGroup, ...], Sizes, Discovery, nn.Module]:
    """The groups, their sizes of input, from what they come, and the copy in which they were looked for."""
    tell(0, "running the network")
    reference = sharing_copy(model).eval().requires_grad_(False)
    # The first pass says of a wrong example that it is one.
    traced, order = on_few(reference, example_input, TRACED_EXAMPLES, partial(call_order, reference))
    ran = set(order)
    reached = all(name in ran for name, module in reference.named_modules() if is_linear_layer(module))
    if not reached:
        traced = example_input  # experts and branches that other examples may reach
    tell(1, "following the units through it")
    found = discover(reference, traced)
    count = _enough(found, traced)
    proved = traced
    if reached and count > TRACED_EXAMPLES:
        proved = few_examples(reference, example_input, count)
    # Training mode that gives the same numbers has shown already that nothing is random.
    if not found.alike and _differ(_outputs(reference, traced), _outputs(reference, traced)):
        reason = (
            "the network gives other outputs when it is run twice, even in evaluation mode: it is random, or "
            "keeps a state, so nothing can be proved of it"
        )
        still = tuple(replace(g, prunable=False, why_not=g.why_not or reason) for g in found.groups)
        return still, Sizes(why_not="the network is random, or keeps a state"), found, reference
    owners = owners_of(reference)
    idle = idle_layers(reference, {*found.position, *found.trace.columns, *found.trace.rows})
    groups = []
    for group in found.groups:
        reason = group.why_not or structural_reason(group, reference, owners)
        reason = reason or idle_sister(group, reference, idle)
        groups.append(replace(group, prunable=not reason, why_not=reason))
    singles = {
        n: g
        for n, g in found.singles.items()
        if not structural_reason(g, reference, owners) and not idle_sister(g, reference, idle)
    }
    tried = [g for g in groups if g.prunable] + list(singles.values())
    trials = Trials(reference, proved, tried, found.alike, lambda round_, what: tell(2 + round_, what))
    proved_first = _Proof(trials, found, groups, singles).groups()
    elsewhere = proved_elsewhere(reference, traced, proved_first, trials, lambda what: tell(2 + ROUNDS, what))
    return *elsewhere, found, reference


def _enough(found: Discovery, traced: Inputs) -> int:
    """Examples on which groups are proved: where each is much work, two must do."""
    each = found.trace.work // max(1, batch_length(traced))
    return min(PROVED_EXAMPLES, max(TRACED_EXAMPLES, PROVED_WORK // max(1, each)))


@torch.no_grad()
def _outputs(model: nn.Module, example: Inputs) -> list[Tensor]:
    return tensors_of(call(model, example))


def _differ(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=False) if not a.isnan().any())


class _Proof:
    """The groups of one network, on the way to be proved, linked, mended or refused."""

    def __init__(
        self,
        trials: Trials,
        found: Discovery,
        groups: Sequence[UnitGroup],
        singles: Mapping[str, UnitGroup],
    ):
        self.trials, self.found, self.singles = RememberedTrials(trials), found, singles
        self.all = {group.name: group for group in groups}
        self.candidates = [group for group in groups if group.prunable]
        # Bound ones mostly fail: each kind for itself, not by halving all.
        self.bound = bonds(found)
        self.sisters = Sisters(found.groups)
        self.repairs = Repairs(self.trials, found, self.sisters)
        self.joint = Joint(self.trials, self.sisters, self.repairs)
        self._presumed: set[str] = set()  # groups that were not tried alone, since a sister failed

    def groups(self) -> tuple[UnitGroup, ...]:
        """Every group with its verdict, in the order of running."""
        failures = self._tied([g for g in self.candidates if self.bound[g.name]])
        passed, more = self.joint.parted([], [g for g in self.candidates if g.name not in failures], 0)
        failures |= more
        # Mostly whatever passes one round passes all: then those that can be helped share the other rounds.
        found = self._helped(passed, failures, done=1) if failures else None
        if found is None:
            passed, more = self.joint.passing(passed, done=1)
            found = self._helped(passed, failures | more, done=ROUNDS)
        return found or ()

    def _tied(self, bound: Sequence[UnitGroup]) -> Failures:
        """Why groups that are taken apart cannot go alone: one of each kind is tried, sisters later."""
        failures = Failures()
        for first, *others in self.sisters.by_cuts(bound, self.bound):
            if reason := self.trials.failure([first], 0):
                failures |= {group.name: reason for group in (first, *others)}
                self._presumed |= {group.name for group in others}
        return failures

    def _helped(self, passed: list[UnitGroup], failures: Failures, done: int) -> tuple[UnitGroup, ...] | None:
        """The groups, those that failed linked or mended where that is possible.

        `done`: rounds that the others passed. None where fewer than all were, and another one fails later.
        """
        failing = [group for group in self.candidates if group.name in failures]
        links = self._links(failing, passed)
        linked = {name for one in links for name in one.units}
        passed = [group for group in passed if group.name not in linked]
        mended = self.repairs.all_mended([group for group in failing if group.name not in linked])
        away = linked | mended.keys()
        links += self._alike([group for group in failing if group.name not in away])
        away |= {name for one in links for name in one.units}
        left = [group for group in failing if group.name not in away]
        failures = failures | {g.name: self.trials.failure([g], 0) for g in left if g.name in self._presumed}
        alone = [group for group in left if not failures[group.name]]
        broken = [group for group in left if failures[group.name].startswith(BREAKS)]
        spared = [self._spared(group) for group in broken]
        kept = [*passed, *mended.values(), *(one.group for one in links), *alone, *filter(None, spared)]
        kept, more = self.joint.passing(kept, 0 if len(kept) > len(passed) else done)
        if more and done < ROUNDS:
            return None
        return self._listed(kept, failures | more, links)

    def _links(self, failing: Sequence[UnitGroup], passed: Sequence[UnitGroup]) -> list[Link]:
        """Links that pass for themselves, of groups that fail for themselves.

        Where these find no partners among each other, groups that could go alone are taken in: the last
        part of a split may be the shorter one, but not while the others are to go.
        """
        out: list[Link] = []
        left = {group.name: group for group in failing if self.bound[group.name]}
        free = dict(self.singles)
        for others in ([], passed):
            free |= {group.name: group for group in others}
            for fold in range(FOLDS):
                live = {name: (left | free)[name] for name in self.all if name in left or name in free}
                links = [one for one in link(live, self.found, fold) if left.keys() & one.units.keys()]
                out += self._proved(links)
                for name in {name for one in out for name in one.units}:
                    left.pop(name, None)
                    free.pop(name, None)
                if not left:
                    return out
        return out

    def _alike(self, failing: Sequence[UnitGroup]) -> list[Link]:
        """Links of groups of one width, which one number may hold and the trace does not bind.

        In one module, else in all that are repeated, as heads whose places one tensor tells to all layers.
        Only a trial tells.
        """
        out: list[Link] = []
        for home in (lambda name: name.rpartition(".")[0], pattern):
            near: dict[tuple[int, str], list[UnitGroup]] = {}
            for group in failing:
                if not any(group.name in one.units for one in out):
                    near.setdefault((group.width, home(group.writers[0].module)), []).append(group)
            links = []
            for (width, _), groups in near.items():
                if len(groups) > 1:
                    units = {group.name: torch.arange(width)[:, None] for group in groups}
                    links.append(Link(merged(units, self.all, self.found.position), units))
            out += self._proved(links)
        return out

    def _proved(self, links: Sequence[Link]) -> list[Link]:
        """Those of the links that pass a first round, mended where they need it."""
        passed, _ = self.joint.parted([], [one.group for one in links], 0)
        good = {group.name: group for group in passed}
        good |= self.repairs.all_mended([one.group for one in links if one.group.name not in good])
        return [replace(one, group=good[one.group.name]) for one in links if one.group.name in good]

    def _spared(self, group: UnitGroup) -> UnitGroup | None:
        """The group less its first unit, which stays, where the network breaks at a single one."""
        if self.bound[group.name] or group.width < 3 or self.trials.failure([group], 0):
            return None  # the first round leaves more than one
        rest = without_units(group, [0])
        if rest is None or any(self.trials.failure([rest], round_) for round_ in range(ROUNDS)):
            return None
        return rest

    def _listed(
        self, kept: Sequence[UnitGroup], failures: Failures, links: Sequence[Link]
    ) -> tuple[UnitGroup, ...]:
        """What passed, what was refused, and units that found no partner, in the order of running."""
        good = {group.name: group for group in kept}
        whole = [one for one in links if one.group.name in good]
        used: dict[str, set[int]] = {}
        for one in whole:
            for name, units in one.units.items():
                used.setdefault(name, set()).update(units.flatten().tolist())
        out = []
        for name, group in self.all.items():
            out += [good[one.group.name] for one in whole if next(iter(one.units)) == name]
            if name in used:
                rest = without_units(self.singles.get(name, group), used[name])
                out += [] if rest is None else [_left(rest, {g.name for g in out} | set(self.all), UNMATCHED)]
            elif name in good:
                out.append(good[name])
                if good[name].width < group.width:
                    first = without_units(group, range(1, group.width))
                    out += [] if first is None else [_left(first, set(self.all), ONE_STAYS)]
            elif group.prunable:
                out.append(replace(group, prunable=False, why_not=self._reason(name, failures[name])))
            else:
                out.append(group)
        return tuple(out)

    def _reason(self, name: str, reason: str) -> str:
        others = sorted(self.bound[name] - {name})
        if not others:
            return reason
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return (
            f"{reason}; the network takes them apart together with {', '.join(others[:3])}{more}, and no "
            "step was found in which all of these can go"
        )


def _left(group: UnitGroup, taken: set[str], reason: str) -> UnitGroup:
    """Units left over, under a name of their own."""
    rows = group.writers[0].rows
    name = f"{group.writers[0].module}[{int(rows.min())}:{int(rows.max()) + 1}]"
    while name in taken:
        name += "′"
    return replace(group, name=name, prunable=False, why_not=reason)

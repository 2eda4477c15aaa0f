"""Trials on a batch: a few units of many groups go at once, and the network must be the silenced one.

A trial removes units for real, silences the same units in the whole network at their readers' inputs, and
compares. Each round takes other shares of other groups, no two alike: what holds only at equal widths, or
only at balanced places, fails in one of them. What passes at the precision that the network has is not
tried at a higher one; what fails there is, before it is believed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.cached import refresh
from workbench.network.finding.apart import Apart, Noted, others
from workbench.network.finding.benches import Bench, careful_bench, quick_bench
from workbench.network.finding.looking_up import LookedUp, looked_up
from workbench.network.finding.seen import Look, Seen, of_groups, seen_at, unseen
from workbench.network.groups import Reader, UnitGroup
from workbench.network.layers import SPATIAL, output_count
from workbench.network.running import Inputs, batch_length, one_line, received
from workbench.network.surgery import shrink_all
from workbench.network.tensors import give_back_memory

SHARES = ("first", "run", "most")
ROUNDS = len(SHARES) + 2  # the scattered one, each share, and one in which a group stays whole

DOUBTS = 2  # trials in which float32 told nothing, after which it is not asked any more
HEAVY = 1 << 28  # bytes of weights from which on what a trial leaves in memory matters
BREAKS = "removing its units breaks the network, whose code fixes a size: "
DIFFERS = (
    "removing its units is not the same as silencing them: what reaches their readers depends on how many "
    "units there are, or on their places"
)
Tell = Callable[[int, str], object]  # is told the stage, or round, that begins, and in words on what


def untold(stage: int, what: str) -> None:
    """Nobody asks how far the work is."""


@lru_cache(maxsize=4096)
def lost_in_round(round_: int, index: int, width: int) -> Tensor:
    """The units, ascending, that a trial takes of the `index`-th group, `width` wide; at least one stays.

    Round 0 takes a quarter to a half of every group, scattered, the last unit among them; the later ones the
    first unit, a run of about a third at one end, all but one, and none, in an order of the group's own.
    Where code counts places from the start, every place moves when the first is lost; from the end, when the
    last is; and a run at one end is never in proportion to halves or thirds.
    """
    generator = torch.Generator().manual_seed(7919 * index + 31 * width)
    shares = [SHARES[i] for i in torch.randperm(len(SHARES), generator=generator).tolist()]
    shares.insert(index % (ROUNDS - 1), "none")  # neighbours, the likeliest to be bound, rest in other rounds
    share = ["scattered", *shares][round_]
    generator.manual_seed(7919 * index + 31 * width + 1_000_003 * (round_ + 1))
    scattered = torch.randperm(width, generator=generator)

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, max(low, high) + 1, (), generator=generator))

    if width < 2 or share == "none":
        return scattered[:0]
    if share == "run":
        count = between(max(1, width // 4), max(1, 2 * width // 5))
        start = 0 if index % 2 else width - count
        return torch.arange(start, start + count)
    if share == "first":
        return torch.zeros(1, dtype=torch.int64)
    if share == "most":
        return scattered[:-1].sort().values
    others = scattered[scattered != width - 1][: between(max(1, width // 4), width // 2) - 1]
    return torch.cat([others.sort().values, torch.tensor([width - 1])])


class Trials:
    """Trials of one network on one batch. The whole network runs once in each precision, for all of them.

    All of the batch runs in each: what code does to the units of one place may show on few examples alone.
    `passes` counts the forward passes in evaluation mode. `model` is in it and is not changed. `alike`: it
    does nothing else in training mode, else what that does is tried too. `blamed`: of the last failure, the
    groups at whose layers it showed first, where that is known; `stopped`: the module in which the network
    broke. `tell` is told, before each trial, in which round the proof is, and of what it is.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Inputs,
        groups: Sequence[UnitGroup],
        alike: bool = True,
        tell: Tell = untold,
    ):
        self.model, self.example, self.alike, self.passes, self.tell = model, example, alike, 0, tell
        self._furthest, self._tried, self._doubts = 0, 0, 0
        self._heavy = sum(p.numel() * p.element_size() for p in model.parameters()) > HEAVY
        self._index = {group.name: index for index, group in enumerate(groups)}
        self._kinds = {reader.module: reader.kind for group in groups for reader in group.readers}
        self._quick = quick_bench(model, example)
        self._careful: Bench | None = None
        self.blamed: frozenset[str] = frozenset()
        self.stopped = ""

    def refusal(self) -> str:
        """Why the network does not take the batch, '' where it does; the pass serves the trials."""
        bench = self._quick
        if bench is None:
            bench = self._careful = careful_bench(self.model, self.example, self._whole)
        try:
            bench.whole = bench.whole or self._whole(bench)
        except Exception as error:
            return one_line(error)
        return ""

    def rows(self) -> list[Fraction | None]:
        """Rows an example of each of the network's outputs; None of a lone number. Empty before any trial."""
        whole = next((b.whole for b in (self._careful, self._quick) if b is not None and b.whole), [])
        length = max(batch_length(self.example), 1)
        outputs = [tensor for name, tensor in whole if not name]
        return [Fraction(len(t), length) if t.dim() else None for t in outputs]

    def failure(self, groups: Sequence[UnitGroup], round_: int) -> str:
        """Why removal is not silencing in this round, '' where it is.

        Compared are the network's outputs and those of the readers, where nothing can hide a difference.
        """
        lost = {g.name: lost_in_round(round_, self._index_of(g.name), g.width) for g in groups}
        if not any(len(units) for units in lost.values()):
            return ""
        self._furthest, self._tried = max(self._furthest, round_), self._tried + 1
        which = f"round {round_ + 1} of {ROUNDS}, trial {self._tried}"
        self.tell(self._furthest, f"proving {_count(groups)}: {which}")
        if self._heavy:
            give_back_memory()  # of the last one's weights and activations
        if self._quick is not None:
            reason = self._failure_on(self._quick, groups, lost)
            if not reason or reason.startswith(BREAKS):  # a size is wrong in every precision
                return reason
        if self._careful is None:
            self._careful = careful_bench(self.model, self.example, self._whole)
        reason = self._failure_on(self._careful, groups, lost)
        if not reason:  # rounding alone was in the way
            self._doubts += 1
            if self._doubts == DOUBTS:
                self._quick = None
        return reason

    def _failure_on(self, bench: Bench, groups: Sequence[UnitGroup], lost: dict[str, Tensor]) -> str:
        names = {reader.module for group in groups for reader in group.readers} | {""}
        alive = _surviving_rows(groups, lost, bench.model, names)
        pruned, self.stopped = bench.model, ""
        try:
            pruned = _without(bench, groups, lost)
            removed = self._outputs(bench, groups, pruned)
            if self.alike:
                pruned = bench.model  # the copy's weights go before the network runs again
                if self._heavy:
                    give_back_memory()
            if bench.whole is None:
                bench.whole = self._whole(bench)
            with silenced(bench.model, groups, lost):
                zeroed = self._at_rows(self._outputs(bench, groups), alive)
        except Exception as error:
            places = _broken_at(error, pruned)
            self.blamed, self.stopped = _near(places, groups), next(iter(places), "")
            return BREAKS + one_line(error)
        whole = self._at_rows([(name, seen) for name, seen in bench.whole if name in names], alive)
        if [(n, t.shape) for n, t in whole] != [(n, t.shape) for n, t in zeroed]:
            whole = [(n, torch.zeros_like(t)) for n, t in zeroed]  # it sends other examples to other experts
        reason, name = _difference(bench, whole, removed, zeroed)
        differing = {name}
        if reason == DIFFERS and (bench.may_add_up(removed, zeroed) if bench.quick else len(groups) > 1):
            apart = self._apart(bench, groups, lost, (whole, zeroed))
            if apart is not None:
                differing |= apart.differing
                if bench.quick and self._is_rounding(bench, groups, lost, apart):
                    reason = ""
        self.blamed = frozenset(g.name for g in groups if differing & {r.module for r in g.readers})
        if reason or self.alike:
            return reason
        training = bench.training()
        return "" if training is None else training.failure(pruned, groups, lost)

    def _apart(
        self, bench: Bench, groups: Sequence[UnitGroup], lost: dict[str, Tensor], seen: tuple[Seen, Seen]
    ) -> Apart | None:
        """Readers that differ for themselves; None where that cannot be seen.

        `seen`: what they and the network gave, whole and silenced.
        """
        apart = Apart(bench, *seen)
        try:
            found = self._outputs(bench, groups, _without(bench, groups, lost), seen[1], apart.look)
        except Exception:
            return None
        return apart if apart.ends(found) else None

    def _is_rounding(
        self, bench: Bench, groups: Sequence[UnitGroup], lost: dict[str, Tensor], apart: Apart
    ) -> bool:
        """Whether no reader differs for itself by more than its own product's rounding."""
        if not apart.differing:
            return True
        if not apart.are_plain_products():
            return False
        silent = Noted(apart.received)
        with silenced(bench.model, groups, lost):
            self._outputs(bench, groups, look=silent.look)
        readers = [(reader, lost[group.name]) for group in groups for reader in group.readers]
        return apart.is_given(silent.received, readers)

    def looked_up(self, group: UnitGroup, reason: str) -> LookedUp | None:
        """Whole numbers that the network looks up until it breaks without some of the group's units.

        `reason`: why it breaks. None where that cannot be seen.
        """
        bench = self._quick or self._careful
        if bench is None:
            return None
        lost = {group.name: lost_in_round(0, self._index_of(group.name), group.width)}
        self.passes += 1
        return looked_up(_without(bench, [group], lost), bench.example, reason.removeprefix(BREAKS))

    def _whole(self, bench: Bench) -> Seen:
        return self._outputs(bench, None)

    def _at_rows(self, seen: Seen, alive: dict[str, Tensor]) -> Seen:
        """What was seen, of the outputs of layers that lose rows those that stay."""
        return [
            (name, t.index_select(-1 - SPATIAL[self._kinds[name]], alive[name].to(t.device)))
            if name in alive
            else (name, t)
            for name, t in seen
        ]

    def hardest(self, group: UnitGroup) -> int:
        """The round in which the group loses most."""
        index = self._index_of(group.name)
        return max(range(ROUNDS), key=lambda round_: len(lost_in_round(round_, index, group.width)))

    def _index_of(self, name: str) -> int:
        return self._index.setdefault(name, len(self._index))

    def _outputs(
        self,
        bench: Bench,
        groups: Sequence[UnitGroup] | None,
        model: nn.Module | None = None,
        instead: Seen | None = None,
        look: Look = unseen,
    ) -> Seen:
        """What the readers (`groups` None: all) and the network give; `model`: what became of the bench's.

        `instead`: what the readers pass on. `look`: is shown what each of them receives and gives.
        """
        self.passes += 1
        kinds = self._kinds if groups is None else of_groups(groups, self._kinds)
        model = bench.model if model is None else model
        return seen_at(model, bench.example, kinds, bench.quick, instead or (), look)


def _count(groups: Sequence[UnitGroup]) -> str:
    return groups[0].name if len(groups) == 1 else f"{len(groups)} groups"


def _difference(bench: Bench, whole: Seen, removed: Seen, zeroed: Seen) -> tuple[str, str]:
    """(what differs in words, '' where nothing does; the reader that gave it)."""
    if [n for n, _ in removed] != [n for n, _ in zeroed]:
        return "removing its units changes what the network runs or returns", ""
    for (name, w), (_, r), (_, z) in zip(whole, removed, zeroed, strict=True):
        if r.shape != z.shape:
            return "removing its units changes the shape of the network's output", name
        if bench.differs(name, w, r, z):
            return DIFFERS, name
    return "", ""


def _broken_at(error: Exception, model: nn.Module) -> list[str]:
    """Names of the modules that were running, the innermost first."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [names[id(module)] for module in reversed(frames) if id(module) in names]


def _near(places: Sequence[str], groups: Sequence[UnitGroup]) -> frozenset[str]:
    """The groups that have a layer in the first of these modules in which any has one."""
    for place in filter(None, places):
        inside = frozenset(
            g.name for g in groups if any(f"{module}.".startswith(f"{place}.") for _, module, *_ in _axes(g))
        )
        if inside:
            return inside
    return frozenset()


def _without(bench: Bench, groups: Sequence[UnitGroup], lost: dict[str, Tensor]) -> nn.Module:
    """A copy of the model with the lost units of every group removed."""
    pruned = bench.copy()
    shrink_all(pruned, groups, lost)
    refresh(pruned)
    return pruned


def _axes(group: UnitGroup) -> list[tuple]:
    """Every axis of a tensor along which the group's units lie."""
    rows = [("rows", part.module) for part in (*group.writers, *group.norms)]
    columns = [("columns", reader.module) for reader in group.readers]
    return [*rows, *columns, *(("held", part.module, part.tensor, part.dim) for part in group.held)]


def _surviving_rows(
    groups: Sequence[UnitGroup], lost: dict[str, Tensor], model: nn.Module, names: Collection[str]
) -> dict[str, Tensor]:
    """Of the layers in `names` that lose rows: the rows that stay."""
    gone: dict[str, list[Tensor]] = {}
    for group in groups:
        for writer in group.writers:
            if writer.module in names and len(lost[group.name]):
                gone.setdefault(writer.module, []).append(writer.rows[lost[group.name]].flatten())
    out = {}
    for name, parts in gone.items():
        module: Any = model.get_submodule(name)
        out[name] = others(torch.cat(parts), output_count(module))
    return out


@contextmanager
def silenced(model: nn.Module, groups: Sequence[UnitGroup], lost: dict[str, Tensor]) -> Iterator[None]:
    """Within: the readers of the groups receive zero for the lost units."""

    def zero(args: tuple, kwargs: dict, reader: Reader, units: Tensor) -> tuple[tuple, dict]:
        given = received(args, kwargs)
        columns = reader.columns[units].flatten().to(given.device)
        inputs = given.index_fill(-1 - SPATIAL[reader.kind], columns, 0)
        if args:
            return (inputs, *args[1:]), kwargs
        return (), {**kwargs, next(iter(kwargs)): inputs}

    handles = [
        model.get_submodule(reader.module).register_forward_pre_hook(
            lambda _m, args, kwargs, r=reader, units=lost[group.name]: zero(args, kwargs, r, units),
            with_kwargs=True,
        )
        for group in groups
        for reader in group.readers
        if len(lost[group.name])
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

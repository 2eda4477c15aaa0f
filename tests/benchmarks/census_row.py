"""A row of the census: what the workbench makes of one network, measured in a process of its own."""

from __future__ import annotations

import copy
import random
import signal
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from census_networks import Network
from census_table import Row
from exports import other_weights
from families import settle
from mentions import mentioned
from silencing import difference, lively, random_kept, silenced_outputs, tensors
from torch import Tensor, nn

import workbench as wb
from workbench.network.groups import UnitGroup
from workbench.network.running import Inputs, call, mapped
from workbench.network.surgery import remove_units

EXAMPLES, OTHER = 2, 3
SETTLING = 4  # examples on which batch norms settle
ALONE = 40  # groups of a network that are tried alone
ALONE_SECONDS = 20.0  # of the processor, after which no other is tried
PLANNING = 8.0  # seconds of the processor after which a plan is broken off
LARGE = 4 << 20  # bytes of a network from which memory is told as a multiple of it


class Census:
    """Goes over one network step by step, and keeps what it has found before each step."""

    def __init__(self, network: Network, keep: Callable[[Row], None]):
        self.network, self.keep = network, keep
        self.row: Row = {"library": network.library, "name": network.name}
        self.example = network.inputs(EXAMPLES, network.sizes[0])

    def run(self) -> Row:
        """The row; what a step raises ends it, in words."""
        steps = (self._build, self._open, self._account, self._measure, self._alone, self._plan, self._export)
        for step in steps:
            self.row["stage"] = step.__name__.strip("_")
            self.keep(self.row)
            try:
                step()
            except Exception as error:
                self.row |= {"error": said(error), "raw": is_raw(error) and step != self._build}
                break
        else:
            self.row["stage"] = "done"
        self.keep(self.row)
        return self.row

    def _build(self) -> None:
        torch.manual_seed(0)
        model = lively(self.network.build()).float()
        self.model = settle(model, self.network.inputs(SETTLING, self.network.sizes[0]))
        self.size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
        with torch.no_grad():
            call(self.model, self.example)
            self.once = statistics.median(seconds(lambda: call(self.model, self.example)) for _ in range(3))
        self.row |= {"parameters": sum(p.numel() for p in model.parameters()), "forward seconds": self.once}

    def _open(self) -> None:
        passes: list[int] = []
        handle = self.model.register_forward_pre_hook(lambda _module, _args: passes.append(1))
        memory = Memory()
        taken = seconds(self._opened)
        handle.remove()
        self.row |= {"open seconds": taken, "open multiple": taken / self.once, "passes": len(passes)}
        if self.size >= LARGE and memory.known:
            self.row["memory multiple"] = memory.grown() / self.size
        self.prunable = [group for group in self.session.groups if group.prunable]
        self.row |= {"groups": len(self.session.groups), "prunable": len(self.prunable)}

    def _opened(self) -> None:
        self.session = wb.Session(self.model, [self.example])

    def _account(self) -> None:
        """Is every parameter spoken of, how many can go, and does the opened network compute the same?"""
        session, model = self.session, self.session.original
        self.groups = session.groups
        every = {id(p): name for name, p in model.named_parameters()}
        names = {n: every[id(p)] for n, p in model.named_parameters(remove_duplicate=False)}
        spoken = {names[n] for n in mentioned(model, self.groups) if n in names}
        spoken |= {parameter.name for parameter in session.stays}
        nothing = dict.fromkeys((group.name for group in self.prunable), 0)
        self.row["unmentioned"] = sorted(set(every.values()) - spoken)
        self.row["share"] = 1 - session.cost_model.total(nothing)[0] / session.parameters
        self.row["why not"] = sorted({g.why_not for g in self.groups if not g.prunable})
        self.original = copy.deepcopy(model).double()
        try:
            expected = outputs(copy.deepcopy(self.model).double(), in_double(self.example))
            self.precise = all(bool(t.isfinite().all()) for t in expected)
        except Exception:  # it makes float32 numbers on its way
            self.precise = False
        if not self.precise:
            self.original, expected = model, outputs(self.model, self.example)
        self.row["precise"] = self.precise
        self.row["opened off"] = difference(outputs(self.original, self._as_run(self.example)), expected)

    def _measure(self) -> None:
        self.row["measure multiple"] = seconds(self.session.measure) / self.once

    def _alone(self) -> None:
        """Groups alone at random kept units: removal from silencing, and silencing from the whole."""
        tried = sorted(random.Random(0).sample(range(len(self.prunable)), min(ALONE, len(self.prunable))))
        generator, x, end = random.Random(1), self._as_run(self.example), time.process_time() + ALONE_SECONDS
        found: dict[str, float] = {}
        whole, effects = outputs(self.original, x), []
        self.row["alone"], self.row["alone off"] = 0, 0.0
        for group in (self.prunable[index] for index in tried):
            if time.process_time() > end:
                break
            kept = random_kept(group.width, generator) if group.width > 1 else [0]
            found[group.name] = self._off({group.name: kept}, x)
            torch.manual_seed(0)
            silent = silenced_outputs(self.original, {group.name: lost_of(group, kept)}, self.groups, x)
            effects.append(difference(silent, whole))
            self.row |= {"alone": len(found), "alone off": max(found.values())}
        if found:
            self.row["alone worst"] = max(found, key=lambda name: found[name])
            self.row["without effect"] = sum(effect == 0 for effect in effects)

    def _plan(self) -> None:
        """A plan of half the MACs, at the example, at another number of examples and at another size."""
        session = self.session
        if not self.prunable:
            return
        session.commit_plan(self._widths(), reconstruction="none")
        self.row["macs left"] = session.macs / session.history[0].macs
        self.row["counted wrong"] = sum(p.numel() for p in session.model.parameters()) - session.parameters
        kept = {g.name: list(session._state.units[g.name]) for g in self.prunable}
        x, pruned = self._as_run(self.example), self._pruned(kept)
        committed = copy.deepcopy(session.model)
        committed = committed.double() if self.precise else committed
        self.row["committed off"] = difference(outputs(committed, x), outputs(pruned, x))
        if self.row.get("plan late"):
            generator = random.Random(2)
            kept |= {
                g.name: random_kept(g.width, generator)
                for g in self.prunable
                if g.width == len(kept[g.name]) > 1
            }
            pruned = self._pruned(kept)
        self.row["plan off"] = self._off(kept, x, pruned)
        x = self._as_run(self.network.inputs(OTHER, self.network.sizes[0]))
        self.row["other batch off"] = self._off(kept, x, pruned)
        self.row["other size off"] = self._at_another_size(kept, pruned)
        smallest = self._pruned({g.name: [0] for g in self.prunable})
        self.row["smallest"] = (
            sum(p.numel() for p in smallest.parameters()) / self.session.history[0].parameters
        )
        outputs(smallest, self._as_run(self.example))

    def _widths(self) -> Any:
        """Half the MACs by equal shares; where that takes too long, half of the three narrowest groups."""
        session, start = self.session, time.process_time()
        try:
            with within(PLANNING):
                return session.plan(session.macs / 2, rule="equal")
        except TimeoutError:
            self.row["plan late"] = True
            narrowest = sorted(self.prunable, key=lambda g: (g.width < 2, g.width))[:3]
            return {g.name: max(1, g.width // 2) for g in narrowest}
        finally:
            self.row["plan seconds"] = time.process_time() - start

    def _at_another_size(self, kept: Mapping[str, Sequence[int]], pruned: nn.Module) -> float | None:
        """None where the network takes one size only."""
        first, other = self.network.sizes
        x = self._as_run(self.network.inputs(EXAMPLES, other))
        try:
            outputs(self.original, x)
        except Exception:
            return None
        return None if first == other else self._off(kept, x, pruned)

    def _export(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.session.export(folder)
            back = wb.load_pruned(other_weights(copy.deepcopy(self.model)), Path(folder))
        expected, found = outputs(self.session.model, self.example), outputs(back, self.example)
        self.row["export equal"] = all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def _as_run(self, inputs: Inputs) -> Inputs:
        return in_double(inputs) if self.precise else inputs

    def _pruned(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        model, groups = self.original, self.groups
        for name, units in kept.items():
            model, groups = remove_units(model, groups, name, list(units))
        return model

    def _off(self, kept: Mapping[str, Sequence[int]], x: Inputs, pruned: nn.Module | None = None) -> float:
        """How far the network that keeps those units is from the whole one in which the others are silent."""
        lost = {g.name: lost_of(g, kept[g.name]) for g in self.prunable if g.name in kept}
        ours = outputs(self._pruned(kept) if pruned is None else pruned, x)
        torch.manual_seed(0)
        theirs = silenced_outputs(self.original, lost, self.groups, x)
        if [t.shape for t in ours] != [t.shape for t in theirs]:
            return float("inf")
        return difference(ours, theirs)


def lost_of(group: UnitGroup, kept: Sequence[int]) -> list[int]:
    return sorted(set(range(group.width)) - set(kept))


@torch.no_grad()
def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    torch.manual_seed(0)  # some draw numbers in evaluation mode too
    return tensors(call(model, inputs))


def in_double(inputs: Inputs) -> Inputs:
    return mapped(inputs, lambda t: t.double() if t.is_floating_point() else t)


def seconds(work: Callable[[], Any]) -> float:
    """Processor time: other work on the machine comes and goes."""
    start = time.process_time()
    work()
    return time.process_time() - start


@contextmanager
def within(limit: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer, where the system can interrupt."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: Any) -> None:
        raise TimeoutError(f"not done within {limit:.0f} s")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class Memory:
    """The most memory that this process has held since, where the system tells."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            self.before = self._of("VmRSS")
            self.known = True
        except OSError:
            self.known = False

    def grown(self) -> int:
        return self._of("VmHWM") - self.before

    @staticmethod
    def _of(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def is_raw(error: BaseException) -> bool:
    """Not an error that the workbench raises on purpose: its own `raise` of a documented kind."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = "/workbench/" in last.filename and (last.line or "").startswith("raise")
    return not (own and isinstance(error, (ValueError, TypeError, RuntimeError)))


def said(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = (
        f" ({Path(last.filename).parent.name}/{Path(last.filename).name}:{last.lineno})"
        if is_raw(error)
        else ""
    )
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}{where}"

"""What a person does in a session, one thing at a time, and whether it is then as before or as after."""

import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from interrupting import interrupted, moments_of
from torch import nn

import workbench as wb
from workbench.data import randomness
from workbench.data.durable import LOCK
from workbench.export.architecture import load_pruned
from workbench.network.tensors import named_tensors
from workbench.tuning.settings import Tuning

TUNING = Tuning(steps=2, rate=0.05, seed=3)


def network():
    """Prime widths, a norm and a convolution: what all operations have something to do with."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 7), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(7, 3)).eval()


def data():
    """Two batches of inputs (6, 2, 4, 4) and targets (6,)."""
    seeded = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 2, 4, 4, generator=seeded), torch.randint(0, 3, (6,), generator=seeded))
        for _ in range(2)
    ]


def fresh(procedure="simultaneous"):
    return wb.Session(network(), data(), data(), procedure=procedure)


def measured(procedure="simultaneous"):
    session = fresh(procedure)
    session.measure()
    return session


def grown(procedure="simultaneous"):
    """Two steps on one branch, three on another, of which one is undone."""
    session = measured(procedure)
    session.commit(session.preview("0", width=4))
    session.fork("thin")
    session.commit(session.preview("4", width=6))
    session.switch("main")
    session.commit(session.preview("4", width=5))
    session.commit(session.preview("4", width=4))
    session.undo()
    return session


def told_of(session):
    """Every state on every branch, moments, scores and steps, as a hash."""
    found = hashlib.sha256()
    for name, line in session._history.branches.items():
        steps = [(step.label, step.score, step.parameters, step.plan) for step in line.steps]
        found.update(repr((name, line.position, steps)).encode())
        for place in range(len(line.places)):
            state = line.state(place)
            told = (state.units, state.stale, state.measured, [(g.name, g.width) for g in state.groups])
            found.update(repr(told).encode())
            _add(found, dict(named_tensors(state.model)))
            for group, one in sorted(state.statistics.items()):
                _add(found, {f"{group} {key}": value for key, value in one.state().items()})
    return found.hexdigest() + session.branch


def _add(found, tensors):
    for name, tensor in sorted(tensors.items()):
        found.update(
            f"{name} {tuple(tensor.shape)}".encode() + tensor.detach().contiguous().numpy().tobytes()
        )


def about_process():
    """What a piece of work must leave in the process as it found it."""
    drawn = (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate())
    modes = (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack())
    attention = (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())
    grad = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
    return {"numbers": drawn, "modes": modes, "attention": attention, "gradients": grad}


def held_by(session):
    """What nobody has given back, in words."""
    found = []
    try:
        session._history.check_free()
    except ValueError as error:
        found.append(str(error))
    locks = {
        "session": session._lock,
        "history": session._history._changing,
        "random numbers": randomness._one_at_a_time,
    }

    def try_all():
        for name, lock in locks.items():
            if lock.acquire(timeout=0.2):
                lock.release()
            else:
                found.append(f"the lock of {name}")

    thread = threading.Thread(target=try_all)
    thread.start()
    thread.join()
    return found


@dataclass(frozen=True)
class Operation:
    """`make()`: a session. `run(session, folder, **options)`: what is done; `kind` of what it writes, if any.

    `cancels`: whether it takes `cancel`.
    """

    make: Callable
    run: Callable
    writes: str = ""
    cancels: bool = True


def _sequential():
    session = measured("sequential")
    session.commit(session.preview("0", width=4))
    return session


WIDTHS = {"0": 3, "4": 4}
OPERATIONS = {
    "measure": Operation(fresh, lambda s, f, **o: s.measure(**o)),
    "remeasure": Operation(_sequential, lambda s, f, **o: s.remeasure(**o)),
    "measure_gradients": Operation(grown, lambda s, f, **o: s.measure_gradients(**o)),
    "preview": Operation(_sequential, lambda s, f: s.preview("4", width=3), cancels=False),
    "try": Operation(
        grown, lambda s, f, **o: s.try_choice(s.preview("4", width=3, reconstruction="original"), **o)
    ),
    "commit": Operation(
        grown, lambda s, f, **o: s.commit(s.preview("4", width=3, reconstruction="kernel"), **o)
    ),
    "commit_plan": Operation(
        measured, lambda s, f, **o: s.commit_plan(WIDTHS, reconstruction="original", reestimate=True, **o)
    ),
    "plan": Operation(grown, lambda s, f, **o: s.plan(400, "macs", **o)),
    "compare": Operation(measured, lambda s, f, **o: s.compare(WIDTHS, ("greedy", "random"), **o)),
    "sensitivity": Operation(grown, lambda s, f, **o: s.sensitivity((0.5,), **o)),
    "refit": Operation(grown, lambda s, f, **o: s.refit(**o)),
    "finetune": Operation(grown, lambda s, f, **o: s.finetune(tuning=TUNING, **o)),
    "theory": Operation(grown, lambda s, f, **o: s.theory("4", width=3, draws=3, **o)),
    "undo": Operation(grown, lambda s, f: s.undo(), cancels=False),
    "redo": Operation(grown, lambda s, f: s.redo(), cancels=False),
    "goto": Operation(grown, lambda s, f: s.goto(0), cancels=False),
    "fork": Operation(grown, lambda s, f: s.fork("again"), cancels=False),
    "switch": Operation(grown, lambda s, f: s.switch("thin"), cancels=False),
    "drop": Operation(grown, lambda s, f: s.drop("thin"), cancels=False),
    "save": Operation(grown, lambda s, f: s.save(f), "session", cancels=False),
    "export": Operation(grown, lambda s, f, **o: s.export(f, **o), "export"),
    "open": Operation(grown, lambda s, f, **o: wb.Session.open(f, network(), data(), data(), **o), "opened"),
}


def held_in(folder, kind):
    """What is in a folder that an operation wrote, as a hash; 'none' where there is nothing."""
    folder = Path(folder)
    if not folder.exists() or not any(path.name != LOCK for path in folder.rglob("*") if path.is_file()):
        return "none"  # a lock's file, which nobody holds, is nothing
    if kind == "export":
        found = hashlib.sha256()
        _add(found, dict(load_pruned(network(), folder).state_dict()))
        return found.hexdigest()
    opened = wb.Session.open(folder, network(), data(), data())
    return told_of(opened)


@dataclass(frozen=True)
class After:
    """What an operation that nobody disturbs makes of a session, and writes."""

    before: str
    session: str
    files: str


def planned_after(name, home):
    """What an operation makes that nobody disturbs."""
    return planned(name, home, random.Random(0))[1]


def planned(name, home, draw):
    """A moment for Ctrl+C of each line that an operation runs, in the order of `draw`; what comes after."""
    operation, folder = OPERATIONS[name], home / "whole"
    session = made_for(operation, folder)
    before = told_of(session)
    moments = moments_of(lambda: operation.run(session, folder), draw)
    files = held_in(folder, operation.writes) if operation.writes else ""
    return moments, After(before, told_of(session), files)


def interrupted_once(name, moment, after, folder):
    """An operation with Ctrl+C at `moment`: the place, whether it was heard, what is wrong then in words."""
    operation = OPERATIONS[name]
    session = made_for(operation, folder)
    given, process = session.model, about_process()
    place, heard = interrupted(lambda: operation.run(session, folder), moment)
    wrong = [
        f"the process's {what} are others" for what, is_ in about_process().items() if is_ != process[what]
    ]
    wrong += held_by(session) + other_than(session, after, given, operation, folder)
    if not wrong and told_of(session) == after.before:
        try:
            operation.run(session, folder)
        except Exception as error:
            return place, heard, [f"it does not work afterwards: {error!r}"]
        if told_of(session) != after.session:
            wrong.append("it works otherwise afterwards")
        if operation.writes and held_in(folder, operation.writes) != after.files:
            wrong.append("it writes otherwise afterwards")
    return place, heard, wrong


def made_for(operation, folder):
    session = operation.make()
    if operation.writes == "opened":
        session.save(folder)
    return session


def other_than(session, after, given, operation, folder):
    """How a session is neither as before nor as after, in words."""
    now, wrong = told_of(session), []
    if now not in (after.before, after.session):
        wrong.append("the session is neither as before nor as after")
    if now == after.before and session.model is not given:
        wrong.append("the network that was given away is not the session's any more")
    if operation.writes and held_in(folder, operation.writes) not in ("none", after.files):
        wrong.append("what is written is neither as before nor as after")
    return wrong

"""Kills real processes at random moments of their work, and counts what opens afterwards.

    python tests/benchmarks/killed.py --rounds 500 --write

Each round begins a process that commits, undoes, fine-tunes, branches, saves and exports without end, keeps
its session by itself, and says what is done when it is done; it is killed (SIGKILL) at a random moment. Then
the folders are opened, and what kept itself is taken up: each must hold what was last said to be done, or
what was being written when the kill came, to the bit. The next round goes on in the same folders.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import results  # puts the workbench on the path
import torch
from torch import nn

import workbench as wb
from workbench.data.durable import LOCK
from workbench.export.architecture import load_pruned
from workbench.session import store
from workbench.session.autosave import Autosave
from workbench.session.runs import run_in, taken_up
from workbench.tuning.settings import Tuning

SHORT, LONG = 0.002, 0.4  # seconds from a process's first word to its end
KEPT = "kept"  # the folder of what keeps itself
MOVES = ("commit", "undo", "tune", "fork", "switch")


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(23, 61), nn.ReLU(), nn.Linear(61, 53), nn.ReLU(), nn.Linear(53, 7)]
    return nn.Sequential(*layers).eval()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (96, 23) and targets (96,)."""
    seeded = torch.Generator().manual_seed(1)
    return torch.randn(96, 23, generator=seeded), torch.randint(0, 7, (96,), generator=seeded)


def bits(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def told_of(session: wb.Session) -> str:
    """All branches up to where they are left, as a hash."""
    lines = session._history.branches.items()
    parts = {
        f"{name} {place}": bits(dict(line.state(place).model.state_dict()))
        for name, line in lines
        for place in range(line.position + 1)
    }
    return hashlib.sha256(json.dumps([session.branch, sorted(parts.items())]).encode()).hexdigest()[:16]


def fresh() -> wb.Session:
    x, y = data()
    return wb.Session(network(), [(x, y)], [(x, y)])


def opened(folder: Path) -> wb.Session:
    x, y = data()
    return wb.Session.open(folder, network(), [(x, y)], [(x, y)])


def move(session: wb.Session, draw: random.Random) -> None:
    """One thing that a person does."""
    kind = draw.choice(MOVES)
    group = draw.choice([one for one in session.groups if one.prunable])
    if kind == "commit" and group.width > 5:
        session.commit(session.preview(group.name, width=group.width - draw.randrange(1, 5)))
    elif kind == "undo" and session.can_undo:
        session.undo()
    elif kind == "tune":
        session.finetune(tuning=Tuning(steps=2, rate=0.05, seed=draw.randrange(99)))
    elif kind == "fork" and len(session.branches) < 4:
        session.fork(f"branch {draw.random():.6f}")
    elif kind == "switch":
        session.switch(draw.choice(list(session.branches)))
    if not session.can_undo or session.position > 8:  # a new start, so that folders stay small
        session.reset()


def work(home: Path, seed: int) -> None:
    """What the process that is killed does: a line before and after each thing that is written."""
    draw = random.Random(seed)
    session = opened(home / "session") if (home / "session" / "recipe.json").exists() else None
    if session is None:
        session = fresh()
        session.measure()
    say("begun", "", "")
    say(KEPT, "begun", told_of(session))
    session.subscribe(lambda event: say(KEPT, "begun", told_of(session)))
    saves = Autosave(session, home / KEPT)
    while True:
        for _ in range(draw.randrange(1, 4)):
            move(session, draw)
        now = told_of(session)
        if draw.random() < 0.7:  # at times nobody waits for it
            saves.wait()
            say(KEPT, "done", now)
        say("session", "begun", now)
        session.save(home / "session")
        say("session", "done", now)
        now = bits(dict(session.model.state_dict()))
        say("export", "begun", now)
        session.export(home / "export")
        say("export", "done", now)


def say(*words: str) -> None:
    print(*words, flush=True)


def killed(home: Path, seed: int, draw: random.Random) -> list[list[str]]:
    """What a process had said when it was killed."""
    command = [sys.executable, __file__, "--work", str(home), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(SHORT * (LONG / SHORT) ** draw.random())
        process.kill()
        rest = process.stdout.read()
    if first.split() != ["begun"]:
        raise RuntimeError(f"the process ended by itself: it said {first!r}")
    return [line.split() for line in rest.splitlines() if len(line.split()) == 3]


def held(home: Path, what: str) -> str:
    """What is in a folder, as its writer would tell it; 'none' where there is nothing, or why it is not."""
    folder = home / what
    try:
        if what == "session":
            return told_of(opened(folder)) if (folder / "recipe.json").exists() else "none"
        if what == KEPT:
            found = [run for one in folder.glob("*/*") if (run := run_in(one))]
            newest = max(found, key=lambda run: run.when, default=None)
            return "none" if newest is None else told_of(taken_up(newest, fresh()))
        return bits(dict(load_pruned(network(), folder).state_dict())) if folder.exists() else "none"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def leftovers(home: Path) -> list[Path]:
    """Files that no session or export refers to, after both were opened; locks apart, which are free."""
    blobs = {path.stem for path in (home / "session" / "tensors").glob("*.safetensors")}
    recipe = home / "session" / "recipe.json"
    used = store._used(home / "session") if recipe.exists() else blobs
    gc.collect()  # sessions that were opened to look, which have their folders open
    hidden = [path for path in home.rglob(".*") if path.name != LOCK and path.parent != home]
    hidden = [path for path in hidden if home / KEPT not in path.parents]  # the next to write there cleans
    return [*hidden, *map(Path, blobs - used)]


def rounds(count: int, seed: int, home: Path) -> Counter[str]:
    """`count` kills. Returns counts of what was found, by words."""
    draw, found = random.Random(seed), Counter[str]()
    last = {"session": "none", "export": "none", KEPT: "none"}  # what was said to be done, or found since
    for number in range(count):
        said = killed(home, seed + number, draw)
        found["kills"] += 1
        for what in last:
            lines = [(state, value) for kind, state, value in said if kind == what]
            ends = [place for place, (state, _) in enumerate(lines) if state == "done"]
            before = lines[ends[-1]][1] if ends else last[what]
            writing = [value for _, value in lines[ends[-1] + 1 if ends else 0 :]]
            found[f"{what}: said to be done"] += len(ends)
            now = held(home, what)
            if writing:
                found[f"{what}: kills while it was written"] += 1
            if now == before:
                found[f"{what}: as it was last said to be done"] += 1
            elif now in writing:
                found[f"{what}: as it was being written"] += 1
            else:
                found[f"{what}: LOST OR MIXED"] += 1
                print(f"round {number}: {what} is {now}, expected {before} or {writing}", file=sys.stderr)
            last[what] = now
        found["leftovers"] += len(leftovers(home))
    return found


def table(found: Counter[str]) -> str:
    """The counts as Markdown: a line each of the session, the export and what keeps itself."""
    heads = (
        "",
        "said to be done",
        "kills while written",
        "as last said",
        "as being written",
        "lost or mixed",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * 5]
    for what in ("session", "export", KEPT):
        words = ("said to be done", "kills while it was written", "as it was last said to be done")
        words += ("as it was being written", "LOST OR MIXED")
        counts = " | ".join(f"{found[f'{what}: {one}']:,}" for one in words)
        lines.append(f"| {'kept by itself' if what == KEPT else what} | {counts} |")
    kills, left = f"{found['kills']:,} kills at random moments", found["leftovers"]
    return f"{kills}; {left or 'no'} file{'s' * (left != 1)} left that nothing refers to.\n\n" + "\n".join(
        lines
    )


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.work is not None:
        work(arguments.work, arguments.seed)
    with tempfile.TemporaryDirectory() as home:
        found = rounds(arguments.rounds, arguments.seed, Path(home))
    results.show("killed", table(found), arguments.write)
    return 1 if any("LOST" in words for words in found) or found["leftovers"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a session survives: Ctrl+C and cancel at any line, full and broken disks, little memory, long days.

    python tests/benchmarks/survives.py --write

Each count is one trial on a session of its own, which must then be as before or as after to the bit, hold
nothing, and work. `killed.py` beside it does the same with processes that are killed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path

import results  # puts the tests on the path
import torch
from cancelling import CANCELLED, cancelled_once, moments_to_cancel
from full_disk import ERRORS, KINDS, filled, traced_once
from little_memory import ERRORS as ENDS
from little_memory import Memory
from long_day import day, growth, taken_by_commits, wide_network
from surviving import OPERATIONS, held_by, interrupted_once, planned, planned_after, told_of

from workbench.data.surviving import OutOfMemoryError

Row = tuple[str, str, str]  # what was tried, how often, what was found
LEAN = {"VGG-13": (30, 60e6, 0.0), "98 M parameters": (10, 0.0, 1.3)}  # commits, limit in bytes, in networks


def interrupts(count: int, draw: random.Random) -> Iterator[Row]:
    """`count` times Ctrl+C, at as many lines of each operation as there are, up to its share."""
    each, total, heard, wrong = -(-count // len(OPERATIONS)), 0, 0, 0
    for name in OPERATIONS:
        with tempfile.TemporaryDirectory() as home:
            moments, after = planned(name, Path(home), draw)
            for number, moment in enumerate((moments * each)[:each]):
                place, was_heard, found = interrupted_once(name, moment, after, Path(home) / f"{number}")
                total, heard, wrong = total + 1, heard + was_heard, wrong + bool(found)
                _tell(found, f"{name}, Ctrl+C at {place}")
    yield (
        f"Ctrl+C at a line of one of {len(OPERATIONS)} operations",
        f"{total:,}",
        _found(wrong, f"{heard:,} heard"),
    )


def cancels(count: int, draw: random.Random) -> Iterator[Row]:
    """Each operation that can be cancelled, `count` times."""
    total, stopped, wrong = 0, 0, 0
    for name in CANCELLED:
        with tempfile.TemporaryDirectory() as home:
            after = planned_after(name, Path(home))
            moments = moments_to_cancel(name, Path(home) / "counted")
            for number in range(count):
                at = draw.randrange(moments)
                how, found = cancelled_once(name, at, after, Path(home) / f"{number}")
                total, stopped, wrong = total + 1, stopped + (how == "cancelled"), wrong + bool(found)
                _tell(found, f"{name}, {how} at line {at}")
    words = f"cancelled at a line of one of {len(CANCELLED)} operations"
    yield words, f"{total:,}", _found(wrong, f"{stopped:,} before their end")


def memory(count: int, draw: random.Random) -> Iterator[Row]:
    """Each operation that computes, `count` times, with an operation of torch that finds no memory."""
    total, told, wrong = 0, 0, 0
    for name in [one for one in CANCELLED if not OPERATIONS[one].writes]:
        operation, folder = OPERATIONS[name], Path()
        session = operation.make()
        with Memory() as counted:
            operation.run(session, folder)
        after = told_of(session)
        for number in range(count):
            session, error = operation.make(), list(ENDS.values())[number % len(ENDS)]
            before, found = told_of(session), []
            try:
                with Memory(draw.randrange(counted.count), error):
                    operation.run(session, folder)
            except OutOfMemoryError:
                told += 1
            except Exception as other:
                found.append(f"{type(other).__name__}: {other}")
            if told_of(session) not in (before, after):
                found.append("the session is neither as before nor as after")
            found += held_by(session)
            total, wrong = total + 1, wrong + bool(found)
            _tell(found, f"{name}, out of memory")
    yield "out of memory at an operation of torch", f"{total:,}", _found(wrong, f"{told:,} told in words")


def disks(levels: int, kinds: Iterable[str]) -> Iterator[Row]:
    """Each kind of file at `levels` fill levels, the disk full or broken there."""
    with traced_once():
        for kind in kinds:
            refused, wrong = 0, 0
            for name, number in ERRORS.items():
                for level in range(levels):
                    with tempfile.TemporaryDirectory() as home:
                        found, done = filled(kind, level, levels, number, Path(home))
                    refused, wrong = refused + (not done), wrong + bool(found)
                    _tell(found, f"{kind}, {name} at {level}/{levels}")
            trials = f"{levels * len(ERRORS):,}"
            yield (
                f"{kind}: {' and '.join(ERRORS)} at {levels} fill levels",
                trials,
                _found(wrong, f"{refused} told"),
            )


def days(hours: int, seed: int) -> Iterator[Row]:
    """A day in a loop: growth between the second and the last third."""
    with tempfile.TemporaryDirectory() as home:
        found = day(hours, Path(home), seed)
    grown, threads, files = growth(found)
    share = grown / found[0][0]
    words = f"{share:+.1%} of the memory, {threads:+} threads, {files:+} open files in the last third"
    yield "a day in a loop: commits, branches, plans, saves, views", f"{hours:,}", words


def lean() -> Iterator[Row]:
    """What many commits take beside one network, each in a process of its own."""
    for name, (commits, most, networks) in LEAN.items():
        with get_context("spawn").Pool(1) as pool:
            taken, size = pool.apply(_taken, (name, commits))
        limit = most or networks * size
        words = f"{taken / 1e6:.0f} MB beside one network of {size / 1e6:.0f} MB, limit {limit / 1e6:.0f} MB"
        yield f"commits of {name}", f"{commits}", words + ("" if taken <= limit else ": TOO MUCH")


def _taken(name: str, commits: int) -> tuple[int, int]:
    torch.set_num_threads(1)
    if name == "VGG-13":
        from workbench.examples.catalogue import load_example

        return taken_by_commits(load_example("vgg13-cifar10").model, torch.randn(64, 3, 32, 32), commits)
    return taken_by_commits(wide_network(98e6), torch.randn(64, 31), commits)


def _found(wrong: int, words: str) -> str:
    return f"{words}, {wrong} WRONG" if wrong else f"{words}, none wrong"


def _tell(found: list[str], where: str) -> None:
    if found:
        print(f"{where}: {'; '.join(found)}", file=sys.stderr, flush=True)


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("--interrupts", type=int, default=800, help="Ctrl+C, in all")
    parser.add_argument("--cancels", type=int, default=50, help="of each operation")
    parser.add_argument("--memory", type=int, default=20, help="of each operation")
    parser.add_argument(
        "--levels", type=int, default=20, help="fill levels of the disk, of each kind of file"
    )
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="of file")
    parser.add_argument("--hours", type=int, default=240, help="rounds of the day in a loop")
    parser.add_argument("--without-lean", action="store_true", help="no measurement of many commits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw = random.Random(given.seed)
    parts = [interrupts(given.interrupts, draw), cancels(given.cancels, draw), memory(given.memory, draw)]
    parts += [
        disks(given.levels, given.kinds if given.levels else []),
        *([days(given.hours, given.seed)] * bool(given.hours)),
    ]
    parts += [] if given.without_lean else [lean()]
    rows = []
    for part in parts:
        for row in part:
            print(*row, sep="  ", flush=True)
            rows.append(row)
    lines = ["| what | trials | found |", "|---|---:|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    results.show("survives", "\n".join(lines), given.write)
    return int(any("WRONG" in row[2] or "TOO MUCH" in row[2] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

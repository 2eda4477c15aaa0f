"""Reads files damaged in every way, and counts what comes of it.

    python tests/benchmarks/fuzz.py --inputs 100000 --seed 0

Each reader of files gets real files that are damaged, in their bytes or within their structure, in a process
of its own with an address space that is limited: it must take them, or raise the documented error (FileError,
or FileNotFoundError) naming the file, within 5 s. Then whole sessions and exports, which know the hashes of
their files, get 1,000 bit flips and truncations: all must be found.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import results
import torch
from fuzz_readers import READERS, SEALED, Reader, damaged, files_of

from workbench.data.bounds import FileError

SECONDS = 5.0  # that an input may take
ROOM = 3 << 30  # bytes of address space beyond what the process has when it begins
DAMAGES = 1000  # of sealed files
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where waiting for a disk takes no time
COLUMNS = ("reader", "inputs", "documented errors", "accepted", "raw errors", "slowest", "memory")


@dataclass
class Row:
    """What came of the inputs of one reader. `slowest` in seconds, `memory` in bytes beyond the start."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.counts.values())

    def add(self, outcome: str, seconds: float, memory: int, words: str) -> None:
        self.counts[outcome] += 1
        self.slowest, self.memory = max(self.slowest, seconds), max(self.memory, memory)
        if outcome not in ("documented", "accepted"):
            self.faults.append(words)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tried(reader: Reader, home: Path, index: int, seed: int) -> tuple[str, str, float]:
    """What comes of input `index`, words about it, and the seconds that reading took."""
    draw = random.Random(f"{seed} {index}")
    real, folder = home / "real", home / "damaged"
    path = draw.choice(files_of(real)).relative_to(real)
    content = reader.mutation(path)((real / path).read_bytes(), draw)
    if reader.again is not None or not folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(real, folder)
    if reader.again is not None:
        reader.again(folder, folder / path, content)
    else:
        (folder / path).write_bytes(content)
    start = time.perf_counter()
    found, words = outcome(reader, folder)
    seconds = time.perf_counter() - start
    if reader.again is None:
        shutil.copyfile(real / path, folder / path)
    return found, words, seconds


def outcome(reader: Reader, folder: Path, name: str = "") -> tuple[str, str]:
    """What comes of reading `folder`; errors must name it, and the file `name`."""
    try:
        reader.read(folder)
    except (FileError, FileNotFoundError) as error:
        text = str(error)
        text.encode()  # it can be printed
        return ("documented", "") if str(folder) in text and name in text else ("unnamed", text[:300])
    except Exception as error:
        return "raw", f"{type(error).__name__}: {str(error)[:300]}"
    return "accepted", ""


def work(reader: Reader, home: Path, numbers: range, seed: int, out: BinaryIO) -> None:
    """What the process does that reads: a line of JSON for each input."""
    begun, held = peak(), int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, held + ROOM))
    for index in numbers:
        found, words, seconds = tried(reader, home, index, seed)
        line = (index, found, seconds, peak() - begun, words)
        out.write(json.dumps(line).encode() + b"\n")


@contextmanager
def forked(task: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """Within: what a process of its own that does `task` writes; it is ended afterwards."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "wb", buffering=0) as out:
                task(out)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as said:
        try:
            yield said
        finally:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def row_of(name: str, count: int, seed: int) -> Row:
    """`count` inputs of one reader; a process that hangs or dies is replaced, and counted."""
    row, at, reader = Row(), 0, READERS[name]
    with tempfile.TemporaryDirectory(dir=MEMORY) as temporary:
        home = Path(temporary)
        (home / "real").mkdir()
        reader.make(home / "real")
        reader.read(home / "real")  # so that whatever it imports is there
        while at < count:
            with forked(partial(work, reader, home, range(at, count), seed)) as said:
                at = taken_up(said, row, at, count)
    return row


def taken_up(said: BinaryIO, row: Row, at: int, count: int) -> int:
    """Takes up what the process says until it is done, hangs or dies; the number of the next input."""
    while at < count:
        ready, _, _ = select.select([said], [], [], 2 * SECONDS)  # damaging takes time too
        line = said.readline() if ready else b""
        if not line:
            row.add(
                "raw" if ready else "slow", 0.0 if ready else SECONDS, 0, f"input {at}: it ended the process"
            )
            return at + 1
        index, found, seconds, memory, words = json.loads(line)
        row.add(found if seconds <= SECONDS else "slow", seconds, memory, f"input {index}: {words}")
        at = index + 1
    return at


def found_damages(name: str, count: int, seed: int) -> Row:
    """Sealed files with a bit flipped or the end cut off: each must be found, and named."""
    row, draw = Row(), random.Random(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as home:
        real, folder = Path(home) / "real", Path(home) / "damaged"
        real.mkdir()
        SEALED[name].make(real)
        SEALED[name].read(real)
        shutil.copytree(real, folder)
        for _ in range(count):
            path = draw.choice(files_of(real)).relative_to(real)
            (folder / path).write_bytes(damaged((real / path).read_bytes(), draw))
            start = time.perf_counter()
            kind, words = outcome(SEALED[name], folder, path.name)
            row.add(kind if kind != "accepted" else "not found", time.perf_counter() - start, 0, words)
            shutil.copyfile(real / path, folder / path)
    return row


def shares(inputs: int) -> dict[str, int]:
    """How many inputs each reader gets."""
    whole = sum(reader.share for reader in READERS.values())
    return {name: max(1, round(inputs * reader.share / whole)) for name, reader in READERS.items()}


def table(rows: dict[str, Row]) -> str:
    out = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    for name, row in rows.items():
        taken, told = row.counts["accepted"], row.counts["documented"]
        numbers = [f"{one:,}" for one in (row.inputs, told, taken, row.inputs - told - taken)]
        numbers += [f"{row.slowest:.2f} s", f"{row.memory >> 20:,} MiB"]
        out.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(out)


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="*", choices=tuple(READERS), default=tuple(READERS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # so that the process can be forked
    rows = {}
    for name, count in shares(arguments.inputs).items():
        if name in arguments.readers:
            rows[name] = row_of(name, count, arguments.seed)
            print(f"{name}: {dict(rows[name].counts)}", file=sys.stderr, flush=True)
            for words in rows[name].faults[:5]:
                print(f"    {words}", file=sys.stderr, flush=True)
    total = f"{sum(row.inputs for row in rows.values()):,} damaged files, seed {arguments.seed}"
    found = {
        f"{name}, sealed": found_damages(name, DAMAGES // len(SEALED), arguments.seed) for name in SEALED
    }
    text = f"{total}:\n\n{table(rows)}\n\nBit flips and truncations, all to be found:\n\n{table(found)}"
    results.show("fuzz", text, arguments.write)
    whole = all(not row.faults for row in (*rows.values(), *found.values()))
    return 0 if whole and not any(row.counts["accepted"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

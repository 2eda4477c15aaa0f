"""Damages files where that reaches code that no file reached before, and counts what comes of it.

    pip install -e ".[fuzz]"
    python tests/benchmarks/fuzz_covered.py --inputs 1000 --seed 1 --write

Beside fuzz.py, which damages at random: atheris (libFuzzer) is told which lines of the workbench an input
ran, keeps those that ran others, and damages these further. Each reader is fuzzed in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import results

if TYPE_CHECKING:
    from fuzz import Row
    from fuzz_readers import Reader

LONGEST = 1 << 20  # bytes of an input


class Target:
    """Reads `home/damaged` with the file that an input's first byte names made of the rest of it."""

    def __init__(self, reader: Reader, home: Path, out: TextIO):
        from fuzz import outcome, peak
        from fuzz_readers import files_of

        self.reader, self.out, self.outcome, self.peak = reader, out, outcome, peak
        self.real, self.folder = home / "real", home / "damaged"
        self.real.mkdir()
        reader.make(self.real)
        reader.read(self.real)  # so that whatever it imports is there
        self.paths = [path.relative_to(self.real) for path in files_of(self.real)]
        self.begun = peak()

    def seeds(self, folder: Path) -> None:
        """Write the real files as inputs."""
        folder.mkdir()
        for index, path in enumerate(self.paths):
            (folder / f"{index}").write_bytes(bytes([index % 256]) + (self.real / path).read_bytes())

    def __call__(self, data: bytes) -> None:
        path, content = self.paths[data[0] % len(self.paths) if data else 0], data[1:]
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.real, self.folder)
        if self.reader.again is not None:
            self.reader.again(self.folder, self.folder / path, content)
        else:
            (self.folder / path).write_bytes(content)
        start = time.perf_counter()
        found, words = self.outcome(self.reader, self.folder)
        line = (found, time.perf_counter() - start, self.peak() - self.begun, words)
        print(json.dumps(line), file=self.out, flush=True)


def fuzz_one(name: str, inputs: int, seed: int, home: Path) -> None:
    """What the process of one reader does, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["workbench"]):
        from fuzz_readers import READERS
    with (home / "found").open("w") as out:
        target = Target(READERS[name], home, out)
        target.seeds(home / "seeds")
        options = [f"-runs={inputs}", f"-seed={seed}", "-timeout=60", f"-max_len={LONGEST}", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, str(home / "seeds")], target)
        atheris.Fuzz()


def row_of(name: str, inputs: int, seed: int) -> Row:
    """So many inputs of one reader, as fuzz.py counts them."""
    from fuzz import MEMORY, SECONDS, Row

    row = Row()
    with tempfile.TemporaryDirectory(dir=MEMORY) as home:
        command = [sys.executable, __file__, "--one", name, "--home", home]
        command += ["--inputs", str(inputs), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        file = Path(home) / "found"
        for line in file.read_text().splitlines() if file.exists() else []:
            found, seconds, memory, words = json.loads(line)
            row.add(found if seconds <= SECONDS else "slow", seconds, memory, words)
    if done.returncode:
        row.add("raw", 0.0, 0, f"it ended the process: {done.stderr.strip()[-300:]}")
    return row


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="of each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", nargs="*", help="by default all")
    parser.add_argument("--one", help="the reader of this process")
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    if given.one:
        fuzz_one(given.one, given.inputs, given.seed, given.home)
        return 0
    from fuzz import table
    from fuzz_readers import READERS

    rows = {}
    for name in given.readers or READERS:
        rows[name] = row_of(name, given.inputs, given.seed)
        print(f"{name}: {dict(rows[name].counts)} {rows[name].faults[:3]}", file=sys.stderr, flush=True)
    total = sum(row.inputs for row in rows.values())
    results.show("fuzz-covered", f"{total:,} inputs, seed {given.seed}:\n\n{table(rows)}", given.write)
    return int(any(row.faults for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())

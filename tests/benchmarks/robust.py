"""All that is done to a session and its files from outside, one after another: about two hours on one core.

    python tests/benchmarks/robust.py --write

500 processes killed at random moments (killed.py); Ctrl+C, cancel, memory and disks that end, a long day,
what commits take (survives.py); 100,000 damaged files (fuzz.py), and such as reach other code, where atheris
is installed (fuzz_covered.py). Each of them has a command of its own too.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PARTS = (
    ("killed.py", "--rounds", "500"),
    ("survives.py",),
    ("fuzz.py", "--inputs", "100000", "--seed", "1"),
)


def main() -> int:
    """The largest exit code of the parts, all of which run; arguments go to each."""
    codes = []
    covered = [("fuzz_covered.py",)] if find_spec("atheris") else []
    for name, *options in (*PARTS, *covered):
        command = [sys.executable, str(Path(__file__).with_name(name)), *options, *sys.argv[1:]]
        codes.append(subprocess.run(command, check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

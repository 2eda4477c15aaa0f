"""Where measured numbers are kept: a place for each in RESULTS.md, written by its own command."""

import argparse
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
# The commands run from anywhere, also where the workbench is not installed.
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]


def put(name: str, text: str) -> None:
    """Put `text` between the markers of `name`. Raises SystemExit where RESULTS.md has no place for it."""
    whole = RESULTS.read_text(encoding="utf-8")
    pattern = rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)"
    if not re.search(pattern, whole, re.S):
        raise SystemExit(f"{RESULTS} has no place for {name}: <!-- table {name} --> … <!-- end -->")
    RESULTS.write_text(
        re.sub(pattern, lambda m: f"{m[1]}{text.strip()}\n\n{m[2]}", whole, count=1, flags=re.S),
        encoding="utf-8",
    )


def show(name: str, text: str, write: bool) -> None:
    """Print a table, and keep it where `write` says so."""
    print(text, flush=True)
    if write:
        put(name, text)


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every command has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    return parser

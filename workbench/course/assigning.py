"""A source notebook in, the student's and the worked one out: they cannot drift apart.

A source follows the conventions of `otter assign` (raw cells that say BEGIN and END of QUESTION, PROMPT,
SOLUTION and TESTS; `# SOLUTION` in a line of code), so that those who grade with otter can use it as it is.
Only the conventions that the course uses are read here; any other raw cell is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

SOURCES, SOLUTIONS = "source", "solutions"
BLOCKS = ("QUESTION", "PROMPT", "SOLUTION", "TESTS")
BOUNDARY = re.compile(r"# (BEGIN|END) (\w+)\s*$")
CONFIG = "# ASSIGNMENT CONFIG"
ASSIGNED = re.compile(r"^(\s*)([^=#]+?=\s*)?(.*?)\s*# SOLUTION\s*$")  # indent, "name = ", value
INNER = re.compile(r"^(\s*)# (BEGIN|END) SOLUTION( NO PROMPT)?\s*$")
PROMPT_BEGINS, PROMPT_ENDS = (
    re.compile(r'^\s*""" # BEGIN PROMPT\s*$'),
    re.compile(r'^\s*"""; # END PROMPT\s*$'),
)
WRITE_HERE = "_Write your answer here, in place of this line._"


class SourceError(ValueError):
    """A source notebook that does not follow the conventions; the message names it and the cell."""


def written(folder: Path) -> dict[Path, str]:
    """What the notebooks of a course folder should be, from their sources.

    Args:
        folder: holds `source/`; its notebooks give those of the same names in `folder` and `solutions/`.

    Returns:
        Path → the notebook's text, of every student's and every worked notebook.

    Raises:
        SourceError: there are no sources, or one is malformed.
    """
    sources = sorted((folder / SOURCES).glob("*.ipynb"))
    if not sources:
        raise SourceError(f"{folder / SOURCES} holds no notebooks: name the course's folder")
    texts = {}
    for source in sources:
        for target, worked in ((folder, False), (folder / SOLUTIONS, True)):
            texts[target / source.name] = nbformat.writes(assigned(source, worked=worked)) + "\n"
    return texts


def assigned(source: Path, *, worked: bool) -> NotebookNode:
    """One of the two notebooks of a source.

    Args:
        source: a notebook file.
        worked: with the solutions, or as it is handed out.

    Returns:
        The notebook, without outputs.

    Raises:
        SourceError: it is not a notebook, or does not follow the conventions.
    """
    try:
        notebook = nbformat.read(source, as_version=4)
    except Exception as error:  # whatever a file that is no notebook makes of the reader
        raise SourceError(f"{source} cannot be read as a notebook: {error}") from error
    cells = []
    for number, (cell, blocks) in enumerate(_within(notebook.cells, source), start=1):
        if "TESTS" in blocks or ("PROMPT" in blocks and worked):
            continue
        text = cell.source
        if "SOLUTION" in blocks and cell.cell_type == "code":
            text = _unmarked(text) if worked else _stripped(text, f"{source}, cell {number}")
        elif "SOLUTION" in blocks and not worked:
            text = WRITE_HERE
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        cells.append(new(text, id=cell.id, metadata=cell.metadata))
    metadata = {
        key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _within(cells: list[NotebookNode], source: Path) -> Iterator[tuple[NotebookNode, tuple[str, ...]]]:
    """Every cell that is not a mark, with the blocks it lies in."""
    open_blocks: list[str] = []
    for number, cell in enumerate(cells, start=1):
        if cell.cell_type != "raw":
            yield cell, tuple(open_blocks)
            continue
        head = (cell.source.splitlines() or [""])[0]
        mark = BOUNDARY.match(head)
        if head.strip() == CONFIG and number == 1:
            continue
        if not mark or mark[2] not in BLOCKS:
            raise SourceError(
                f"{source}, cell {number}: a raw cell says {head!r}; see `otter assign`'s conventions"
            )
        if mark[1] == "BEGIN":
            open_blocks.append(mark[2])
        elif not open_blocks or open_blocks.pop() != mark[2]:
            raise SourceError(f"{source}, cell {number}: {head!r} ends what was not begun")
    if open_blocks:
        raise SourceError(f"{source}: BEGIN {open_blocks[-1]} is not ended")


def _stripped(code: str, where: str) -> str:
    """A solution's code as it is handed out: `name = ...` for what is to be found."""
    lines, hidden, prompt, marked = [], False, False, False
    for line in code.splitlines():
        if PROMPT_BEGINS.match(line) or PROMPT_ENDS.match(line):
            prompt = bool(PROMPT_BEGINS.match(line))
        elif prompt:
            lines.append(line)
        elif inner := INNER.match(line):
            hidden, marked = inner[2] == "BEGIN", True
            if hidden and not inner[3]:
                lines.append(f"{inner[1]}...")
        elif hidden:
            continue
        elif found := ASSIGNED.match(line):
            marked = True
            lines.append(f"{found[1]}{found[2] or ''}...")
        else:
            lines.append(line)
    if not marked:
        raise SourceError(f"{where}: a solution without '# SOLUTION' in any line would be handed out")
    return "\n".join(lines)


def _unmarked(code: str) -> str:
    """A solution's code without the marks."""
    lines, prompt = [], False
    for line in code.splitlines():
        if PROMPT_BEGINS.match(line) or PROMPT_ENDS.match(line):
            prompt = bool(PROMPT_BEGINS.match(line))
        elif not prompt and not INNER.match(line):
            lines.append(re.sub(r"\s*# SOLUTION\s*$", "", line))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the notebooks of a course folder from its sources; 1 where `--check` finds one that differs."""
    parser = argparse.ArgumentParser(prog="python -m workbench.course.assigning", description=__doc__)
    parser.add_argument("folder", type=Path, help="the course: its sources lie in FOLDER/source")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, and name what is not as its source says"
    )
    asked = parser.parse_args(argv)
    try:
        texts = written(asked.folder)
    except SourceError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{'differs' if asked.check else 'written'}: {path}")
        if not asked.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(texts[path], "utf-8")
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

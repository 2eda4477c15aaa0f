"""Docstrings are in one dialect, Google's, and say what every argument is where there are several."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "workbench"
MODULES = sorted(PACKAGE.rglob("*.py"))
WHOLE = ("spectral", "fitting", "examples", "data/images", "data/image_trees", "data/loading", "data/models")
WHOLE += ("data/checkpoints", "data/factories", "plots")  # where the whole interface is said in full
HEADINGS = ("Args", "Returns", "Yields", "Raises", "Source", "Attributes", "Example")


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def public_functions(path: Path) -> list[ast.FunctionDef]:
    body = ast.parse(path.read_text()).body
    return [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_headings_are_those_of_one_dialect(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        text = ast.get_docstring(node) or ""
        assert not re.search(r"^-{3,}$", text, re.MULTILINE), f"{text.splitlines()[0]}: an underlined heading"
        assert not re.search(r"^:(param|return|raise)", text, re.MULTILINE), text.splitlines()[0]
        for heading in re.findall(r"^([A-Z][a-z]+):$", text, re.MULTILINE):
            assert heading in HEADINGS, f"{path.name}: {heading}"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith(WHOLE)], ids=name_of)
def test_every_argument_is_said(path):
    for node in public_functions(path):
        text = ast.get_docstring(node)
        assert text, f"{node.name} has no docstring"
        arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
        if len(arguments) < 2:
            continue
        assert "\nArgs:\n" in text, f"{node.name} does not say what its arguments are"
        said = text.partition("\nArgs:\n")[2]
        heads = re.findall(r"^    ([\w, ]+): ", said, re.MULTILINE)
        names = {name for head in heads for name in re.split(r", ", head)}
        assert set(arguments) <= names, f"{node.name}: {sorted(set(arguments) - names)}"
        if node.returns is not None and ast.unparse(node.returns) != "None":
            assert re.search(r"^(Returns|Yields):$", text, re.MULTILINE), f"{node.name}: what it gives"

"""The one-way order of the package: a module imports only from lower layers, and no layer has a circle."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "workbench"
ORDER = (  # from the ground up; a folder imports only folders before it
    "spectral",
    "network",
    "data",
    "measure",
    "fitting",
    "tuning",
    "examples",
    "pruning",
    "export",
    "session",
    "plots",
    "widgets",
    "serve",
)
LAYERS = {name: index for index, name in enumerate(ORDER)}
LAYERS |= dict.fromkeys(("cli", "__main__", ""), len(ORDER))  # "": the package, with the public names
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name below the package; a package's own file has the package's name."""
    return (
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
    )


NAMES = {name_of(path) for path in MODULES}


def layer(name: str) -> int:
    return LAYERS[name.partition(".")[0]]


def imports(tree: ast.AST, name: str, *, is_package: bool = False) -> set[str]:
    """The package's modules that the code in `tree` imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = ["workbench", *filter(None, name.split("."))]
                above = parents[: len(parents) - node.level + is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {module for one in found if (module := own_module(one)) is not None}


def own_module(dotted: str) -> str | None:
    """The longest module of the package that `dotted` names, '' for the package; None for others' modules."""
    first, *rest = dotted.split(".")
    if first != "workbench":
        return None
    while rest and ".".join(rest) not in NAMES:
        rest.pop()
    return ".".join(rest)


def imports_of(path: Path) -> set[str]:
    name = name_of(path)
    return imports(ast.parse(path.read_text()), name, is_package=path.name == "__init__.py") - {name}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
    name = name_of(path)
    upwards = {other for other in imports_of(path) if layer(other) > layer(name)}
    assert upwards == set(), f"workbench.{name} is in layer {layer(name)} and imports from a later one"


def test_no_layer_has_a_circle():
    graph = {name_of(path): loaded_with(path) for path in MODULES if name_of(path)}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) >= set(graph)


def loaded_with(path: Path) -> set[str]:
    """What a module imports as it loads: not what a function asks for when called, nor what types need."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return imports(tree, name_of(path), is_package=path.name == "__init__.py") - {name_of(path)}


def test_plots_import_nothing_of_ours():
    for path in MODULES:
        if name_of(path).partition(".")[0] == "plots":
            assert imports_of(path) == set()


def test_the_mathematics_needs_arrays_alone():
    for path in (PACKAGE / "spectral").glob("*.py"):
        outside = roots_of(path) - sys.stdlib_module_names - {"torch", "numpy", "workbench"}
        assert outside == set(), path.name


def roots_of(path: Path) -> set[str]:
    """The top names of all that a module imports by its full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_the_reader_of_imports_sees_every_form():
    code = "import workbench.serve.lab\nfrom workbench import cli\nfrom . import plots\n"
    code += "from .session import store\n"
    code += "def later():\n    from workbench.spectral.moment import Moment\n"
    seen = imports(ast.parse(code), "cli")
    assert {"serve.lab", "cli", "session.store", "spectral.moment"} <= seen

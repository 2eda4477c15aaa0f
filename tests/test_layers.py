"""The one-way order of the package: a module imports only from lower layers, and no layer has a circle."""

import ast
import graphlib
import subprocess
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
    "course",
    "plots",
    "widgets",
    "page",
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


def test_no_import_is_part_of_a_circle():
    """Neither those at the top of a file, nor those in functions, nor those that types alone need."""
    graph = {name_of(path): imports_of(path) for path in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(graph)


HEAVY = {  # what a function imports, since it is slow to load and few need it → where
    "matplotlib": ("plots.style", "plots.spectra", "plots.curves", "plots.networks"),
    "seaborn": ("plots.networks",),
    "IPython": ("plots.style",),
    "matplotlib_inline": ("plots.style",),
    "sklearn": ("examples.datasets", "course.networks"),
    "pooch": ("examples.download",),
    "tqdm": ("data.progress",),
    "jupyterlab": ("serve.lab",),
    "jupyterlab_server": ("serve.lab",),
}
BRINGS = {  # our own modules that bring something heavy: it
    "data.loading": "torch",
    "data.models": "torch",
    "examples.catalogue": "torch",
    "session.replay": "torch",
    "session.session": "torch",
    "page.opening": "torch",
    "page.writing": "ipywidgets",
    "serve.lab": "jupyterlab",
    "serve.app": "voila",
    "serve.launch": "jupyter_core",
}


def late_imports(path: Path) -> set[str]:
    """The modules that functions of a file import, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import):
                    found |= {alias.name for alias in inner.names}
                elif isinstance(inner, ast.ImportFrom):
                    found.add(inner.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_imports_only_what_is_slow_to_load(path):
    name = name_of(path)
    for module in late_imports(path):
        own = own_module(module)
        if own is not None:
            assert own in BRINGS, f"workbench.{own} brings nothing heavy: import it at the top"
            assert name == "cli", f"{name} loads {BRINGS[own]} in any case"
        elif module != "importlib.metadata":
            assert name in HEAVY.get(module.partition(".")[0], ()), f"{name} imports {module} late"


def loaded_by(code: str, *modules: str) -> list[str]:
    """Which of `modules` are loaded after `code` ran in a process of its own."""
    code += f"; import sys; print(*[m for m in {modules!r} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_what_is_slow_to_load_is_left_out_where_it_is_not_needed():
    heavy = ("torch", "ipywidgets", "anywidget", "matplotlib", "seaborn", "sklearn", "onnx", "transformers")
    assert loaded_by("import workbench", *heavy) == []
    assert loaded_by("import workbench.cli", *heavy) == []
    later = ("ipywidgets", "anywidget", "matplotlib", "seaborn", "onnx", "transformers")
    assert loaded_by("import workbench; workbench.Session", *later) == []


LONGER = {"session/session.py"}  # the package's manual


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_can_be_read_at_once(path):
    text = path.read_text()
    if path.relative_to(PACKAGE).as_posix() not in LONGER:
        assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_plots_import_nothing_of_ours():
    for path in MODULES:
        if name_of(path).partition(".")[0] == "plots":
            assert {one.partition(".")[0] for one in imports_of(path)} <= {"plots"}


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

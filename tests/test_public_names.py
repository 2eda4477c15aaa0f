"""The public names are there, and the ones for type checkers are the same."""

import ast

import pytest

import workbench
from workbench.data.surviving import surviving


def test_every_public_name_loads():
    for name in workbench.__all__:
        assert getattr(workbench, name) is not None


def test_type_checkers_see_the_same_names(repository):
    tree = ast.parse((repository / "workbench" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for line in block.body for alias in line.names}
    assert seen == set(workbench.__all__)


def test_the_names_of_the_documented_interface_are_there():
    documented = {
        "Moment",
        "Spectrum",
        "ridge",
        "information_loss",
        "greedy_path",
        "reconstruction_matrix",
        "load_example",
        "Session",
        "Workbench",
    }
    assert documented <= set(workbench.__all__)


def test_who_runs_out_of_memory_can_catch_it_by_a_public_name():
    @surviving("measuring", "less")
    def measure():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes")

    with pytest.raises(workbench.OutOfMemoryError, match="64 bytes"):
        measure()
    assert issubclass(workbench.OutOfMemoryError, MemoryError)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(workbench, "Wrokbench")

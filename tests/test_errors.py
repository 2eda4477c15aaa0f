"""Every exception that the package defines can be handed from one process to another."""

import importlib
import inspect
import pickle
import pkgutil

import workbench


def _own_errors():
    """Every exception that the workbench defines, whichever module it is in."""
    for found in pkgutil.walk_packages(workbench.__path__, "workbench."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Exception) and one.__module__ == module.__name__:
                yield one


def test_errors_go_from_one_process_to_another():
    """Loaders' workers and process pools hand errors on by pickle: one that cannot be hides what happened."""
    words = ["the brief", "the advice"]
    kinds = set(_own_errors())
    assert len(kinds) > 15
    for kind in kinds:
        takes = len(inspect.signature(kind.__init__).parameters) - 1 if "__init__" in vars(kind) else 1
        error = kind(*words[:takes])
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), vars(again)) == (str(error), vars(error))

"""Spectral Pruning Workbench: see the spectrum of every layer, choose its width, keep what matters."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from workbench.measure import Cancelled, evaluate, measure_moments
from workbench.measure.examples import EXAMPLES, Example, load_example
from workbench.network import UnitGroup, count_cost, find_groups, remove_units
from workbench.session import (
    Choice,
    NotMeasuredError,
    RecipeError,
    Session,
    StaleMomentsError,
    Step,
    replay,
)
from workbench.spectral import (
    GreedySelector,
    Moment,
    Path,
    Spectrum,
    greedy_path,
    information_loss,
    reconstruction_matrix,
    ridge,
)

if TYPE_CHECKING:
    from workbench.widgets import Workbench

try:
    __version__ = version("spectral-pruning-workbench")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "EXAMPLES",
    "Cancelled",
    "Choice",
    "Example",
    "GreedySelector",
    "Moment",
    "NotMeasuredError",
    "Path",
    "RecipeError",
    "Session",
    "Spectrum",
    "StaleMomentsError",
    "Step",
    "UnitGroup",
    "Workbench",
    "count_cost",
    "evaluate",
    "find_groups",
    "greedy_path",
    "information_loss",
    "load_example",
    "measure_moments",
    "reconstruction_matrix",
    "remove_units",
    "replay",
    "ridge",
]


def __getattr__(name: str) -> Any:
    # The widgets bring ipywidgets with them: they load when asked for.
    if name == "Workbench":
        return import_module("workbench.widgets").Workbench
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")

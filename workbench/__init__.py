"""Spectral Pruning Workbench: see the spectrum of every layer, choose its width, keep what matters.

The public names load when they are first asked for, so that the command line starts without torch and a
script without widgets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.measure import Cancelled as Cancelled
    from workbench.measure import evaluate as evaluate
    from workbench.measure import measure_moments as measure_moments
    from workbench.measure.checkpoints import load_checkpoint as load_checkpoint
    from workbench.measure.examples import EXAMPLES as EXAMPLES
    from workbench.measure.examples import Example as Example
    from workbench.measure.examples import load_example as load_example
    from workbench.measure.loading import load_data as load_data
    from workbench.measure.models import load_model as load_model
    from workbench.network import UnitGroup as UnitGroup
    from workbench.network import count_cost as count_cost
    from workbench.network import explicit as explicit
    from workbench.network import find_groups as find_groups
    from workbench.network import remove_units as remove_units
    from workbench.session import Choice as Choice
    from workbench.session import NotMeasuredError as NotMeasuredError
    from workbench.session import RecipeError as RecipeError
    from workbench.session import Session as Session
    from workbench.session import StaleMomentsError as StaleMomentsError
    from workbench.session import Step as Step
    from workbench.session import Tuning as Tuning
    from workbench.session import load_pruned as load_pruned
    from workbench.session import replay as replay
    from workbench.spectral import GreedySelector as GreedySelector
    from workbench.spectral import Moment as Moment
    from workbench.spectral import Path as Path
    from workbench.spectral import Spectrum as Spectrum
    from workbench.spectral import greedy_path as greedy_path
    from workbench.spectral import information_loss as information_loss
    from workbench.spectral import reconstruction_matrix as reconstruction_matrix
    from workbench.spectral import ridge as ridge
    from workbench.widgets import Workbench as Workbench

_HOMES = {
    "workbench.spectral": (
        "GreedySelector",
        "Moment",
        "Path",
        "Spectrum",
        "greedy_path",
        "information_loss",
        "reconstruction_matrix",
        "ridge",
    ),
    "workbench.network": ("UnitGroup", "count_cost", "explicit", "find_groups", "remove_units"),
    "workbench.measure": ("Cancelled", "evaluate", "measure_moments"),
    "workbench.measure.checkpoints": ("load_checkpoint",),
    "workbench.measure.loading": ("load_data",),
    "workbench.measure.models": ("load_model",),
    "workbench.measure.examples": ("EXAMPLES", "Example", "load_example"),
    "workbench.session": (
        "Choice",
        "NotMeasuredError",
        "RecipeError",
        "Session",
        "StaleMomentsError",
        "Step",
        "Tuning",
        "load_pruned",
        "replay",
    ),
    "workbench.widgets": ("Workbench",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("spectral-pruning-workbench")
        except PackageNotFoundError:  # a source tree on the path, not installed
            return "0+unknown"
    if name not in _HOME_OF:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]

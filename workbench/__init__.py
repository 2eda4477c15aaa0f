"""Spectral Pruning Workbench: see the spectrum of every layer, choose its width, keep what matters.

The public names load when they are first asked for, so that the command line starts without torch and a
script without widgets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.data.bounds import FileError as FileError
    from workbench.data.checkpoints import load_checkpoint as load_checkpoint
    from workbench.data.loading import load_data as load_data
    from workbench.data.models import load_model as load_model
    from workbench.data.progress import Cancelled as Cancelled
    from workbench.data.surviving import OutOfMemoryError as OutOfMemoryError
    from workbench.examples.catalogue import EXAMPLES as EXAMPLES
    from workbench.examples.catalogue import Example as Example
    from workbench.examples.catalogue import load_example as load_example
    from workbench.export.architecture import load_pruned as load_pruned
    from workbench.measure.evaluation import evaluate as evaluate
    from workbench.measure.moments import measure_moments as measure_moments
    from workbench.network.cost import count_cost as count_cost
    from workbench.network.finding.proof import find_groups as find_groups
    from workbench.network.groups import UnitGroup as UnitGroup
    from workbench.network.rebuilt.explicit import explicit as explicit
    from workbench.network.surgery import remove_units as remove_units
    from workbench.page.app import Workbench as Workbench
    from workbench.page.figure import Figure as Figure
    from workbench.pruning.choice import Choice as Choice
    from workbench.pruning.problem import NotMeasuredError as NotMeasuredError
    from workbench.pruning.state import StaleMomentsError as StaleMomentsError
    from workbench.session.history import Step as Step
    from workbench.session.keeping import autosave as autosave
    from workbench.session.keeping import earlier_runs as earlier_runs
    from workbench.session.recipe import RecipeError as RecipeError
    from workbench.session.replay import replay as replay
    from workbench.session.runs import taken_up as taken_up
    from workbench.session.session import Session as Session
    from workbench.spectral.greedy import GreedySelector as GreedySelector
    from workbench.spectral.greedy import Path as Path
    from workbench.spectral.greedy import greedy_path as greedy_path
    from workbench.spectral.losses import information_loss as information_loss
    from workbench.spectral.moment import Moment as Moment
    from workbench.spectral.reconstruction import reconstruction_matrix as reconstruction_matrix
    from workbench.spectral.regression import ridge as ridge
    from workbench.spectral.spectrum import Spectrum as Spectrum
    from workbench.tuning.settings import Tuning as Tuning

_HOMES = {
    "workbench.data.bounds": ("FileError",),
    "workbench.data.checkpoints": ("load_checkpoint",),
    "workbench.data.loading": ("load_data",),
    "workbench.data.models": ("load_model",),
    "workbench.data.progress": ("Cancelled",),
    "workbench.data.surviving": ("OutOfMemoryError",),
    "workbench.examples.catalogue": (
        "EXAMPLES",
        "Example",
        "load_example",
    ),
    "workbench.export.architecture": ("load_pruned",),
    "workbench.measure.evaluation": ("evaluate",),
    "workbench.measure.moments": ("measure_moments",),
    "workbench.network.cost": ("count_cost",),
    "workbench.network.finding.proof": ("find_groups",),
    "workbench.network.groups": ("UnitGroup",),
    "workbench.network.rebuilt.explicit": ("explicit",),
    "workbench.network.surgery": ("remove_units",),
    "workbench.page.app": ("Workbench",),
    "workbench.page.figure": ("Figure",),
    "workbench.pruning.choice": ("Choice",),
    "workbench.pruning.problem": ("NotMeasuredError",),
    "workbench.pruning.state": ("StaleMomentsError",),
    "workbench.session.replay": ("replay",),
    "workbench.session.history": ("Step",),
    "workbench.session.keeping": (
        "autosave",
        "earlier_runs",
    ),
    "workbench.session.recipe": ("RecipeError",),
    "workbench.session.runs": ("taken_up",),
    "workbench.session.session": ("Session",),
    "workbench.spectral.greedy": (
        "GreedySelector",
        "Path",
        "greedy_path",
    ),
    "workbench.spectral.losses": ("information_loss",),
    "workbench.spectral.moment": ("Moment",),
    "workbench.spectral.reconstruction": ("reconstruction_matrix",),
    "workbench.spectral.regression": ("ridge",),
    "workbench.spectral.spectrum": ("Spectrum",),
    "workbench.tuning.settings": ("Tuning",),
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

"""Layer 3, the session: choices, commits, undo, the record."""

from workbench.session.choice import RECONSTRUCTIONS, SELECTIONS, Choice, LossCurve, NotMeasuredError
from workbench.session.packing import load_pruned
from workbench.session.recipe import RecipeError, fingerprint, read_recipe
from workbench.session.replay import replay
from workbench.session.session import Session
from workbench.session.state import StaleMomentsError, Step
from workbench.session.tuning import Tuning

__all__ = [
    "RECONSTRUCTIONS",
    "SELECTIONS",
    "Choice",
    "LossCurve",
    "NotMeasuredError",
    "RecipeError",
    "Session",
    "StaleMomentsError",
    "Step",
    "Tuning",
    "fingerprint",
    "load_pruned",
    "read_recipe",
    "replay",
]

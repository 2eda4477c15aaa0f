"""Layer 5, the face: panels over one shared state."""

from workbench.widgets.app import Workbench
from workbench.widgets.state import WorkbenchState

__all__ = ["Workbench", "WorkbenchState"]

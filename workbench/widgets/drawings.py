"""What is drawn of a network, of its units and of its data: the parts of the shared state for it, as one."""

from __future__ import annotations

from workbench.widgets.flips import Flips
from workbench.widgets.network_tab import Networks
from workbench.widgets.units import Units


class Drawings(Networks, Units, Flips):
    """The network as a picture, single units, and examples that changed."""

    def _begin_drawings(self) -> None:
        self._begin_networks()
        self._begin_units()
        self._begin_flips()

    def _no_drawings(self) -> dict:
        """Values for another session."""
        return self._no_network() | self._no_units() | self._no_flips()

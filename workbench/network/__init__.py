"""Layer 1, the network: unit groups, surgery and cost."""

from workbench.network.cost import Cost, cost_saved, count_cost, measure_latency
from workbench.network.discovery import call_order, one_line
from workbench.network.groups import Reader, UnitGroup, Writer
from workbench.network.proof import find_groups
from workbench.network.surgery import remove_units

__all__ = [
    "Cost",
    "Reader",
    "UnitGroup",
    "Writer",
    "call_order",
    "cost_saved",
    "count_cost",
    "find_groups",
    "measure_latency",
    "one_line",
    "remove_units",
]

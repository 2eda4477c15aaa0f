"""Layer 1, the network: unit groups, surgery and cost."""

from workbench.network.cost import Cost, cost_saved, count_cost, measure_latency
from workbench.network.discovery import call_order, first_calls, one_line
from workbench.network.groups import Reader, UnitGroup, Writer
from workbench.network.proof import find_groups
from workbench.network.running import evaluating, received
from workbench.network.surgery import remove_units

__all__ = [
    "Cost",
    "Reader",
    "UnitGroup",
    "Writer",
    "call_order",
    "cost_saved",
    "count_cost",
    "evaluating",
    "find_groups",
    "first_calls",
    "measure_latency",
    "one_line",
    "received",
    "remove_units",
]

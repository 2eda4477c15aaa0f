"""Layer 1, the network: unit groups, surgery and cost."""

from workbench.network.cost import Cost, count_cost, measure_latency
from workbench.network.cost_model import CostModel, cost_saved
from workbench.network.discovery import call_order, first_calls, one_line
from workbench.network.explicit import explicit
from workbench.network.groups import Reader, UnitGroup, Writer, named_group
from workbench.network.layers import layer_weight, set_layer_weight
from workbench.network.proof import find_groups
from workbench.network.running import Inputs, call, evaluating, first_examples, moved, received
from workbench.network.surgery import remove_units

__all__ = [
    "Cost",
    "CostModel",
    "Inputs",
    "Reader",
    "UnitGroup",
    "Writer",
    "call",
    "call_order",
    "cost_saved",
    "count_cost",
    "evaluating",
    "explicit",
    "find_groups",
    "first_calls",
    "first_examples",
    "layer_weight",
    "measure_latency",
    "moved",
    "named_group",
    "one_line",
    "received",
    "remove_units",
    "set_layer_weight",
]

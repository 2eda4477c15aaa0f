"""MACs of networks of torchvision and timm, beside torch's own counter.

`python tests/benchmarks/library_costs.py [--write]` needs torchvision and timm, in the versions that go with
torch. Names choose networks.
"""

import sys

import results
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from vision import NETWORKS, versions

import workbench as wb


def costs(name: str) -> tuple[int, int, int]:
    """Parameters, MACs by the workbench, and by torch's counter without attention that it does not see."""
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    model, image = build().eval(), torch.randn(1, 3, size, size)
    counter = FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(image)
    torch.backends.mha.set_fastpath_enabled(True)
    cost = wb.count_cost(model, image)
    return cost.parameters, cost.macs, counter.get_total_flops() // 2


def main() -> int:
    parser = results.options(__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    asked = parser.parse_args()
    lines = [
        f"{versions()}.",
        "",
        "| network | parameters | MACs | by torch's counter |",
        "|---|---:|---:|---:|",
    ]
    right = True
    for name in asked.networks:
        parameters, ours, theirs = costs(name)
        right &= ours == theirs
        lines.append(f"| {name} | {parameters:,} | {ours:,} | {theirs:,} |")
    results.show("library-costs", "\n".join(lines), asked.write)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

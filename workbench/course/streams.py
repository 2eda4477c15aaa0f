"""A small untrained network that has what a chain has not: a residual stream, a depthwise stage, branches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from workbench.data.randomness import OwnRandomness

STREAM, INNER, EXPANDED, LEFT, RIGHT, CLASSES = 16, 24, 32, 8, 12, 10  # units
SIZE = 16  # pixels a side


class StreamNetwork(nn.Module):
    """A residual stream of 16 units that three layers write and four read; then two branches, concatenated.

    The stem opens the stream; a block (`inner`, `outer`) adds to it, then an inverted bottleneck (`expand`,
    `depthwise`, `project`); `left` and `right` read it, and `classifier` reads the two side by side.
    Inputs (n, 3, 16, 16); outputs (n, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STREAM, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STREAM)
        self.inner = nn.Conv2d(STREAM, INNER, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(INNER)
        self.outer = nn.Conv2d(INNER, STREAM, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(STREAM)
        self.expand = nn.Conv2d(STREAM, EXPANDED, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(EXPANDED)
        self.depthwise = nn.Conv2d(EXPANDED, EXPANDED, 3, padding=1, groups=EXPANDED, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(EXPANDED)
        self.project = nn.Conv2d(EXPANDED, STREAM, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(STREAM)
        self.left = nn.Conv2d(STREAM, LEFT, 1)
        self.right = nn.Conv2d(STREAM, RIGHT, 3, padding=1)
        self.classifier = nn.Linear(LEFT + RIGHT, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 16, 16) images to (n, 10)."""
        stream = self.stem_norm(self.stem(images))
        stream = stream + self.outer_norm(self.outer(relu(self.inner_norm(self.inner(stream)))))
        wide = relu(self.expand_norm(self.expand(stream)))
        wide = relu(self.depthwise_norm(self.depthwise(wide)))
        stream = stream + self.project_norm(self.project(wide))
        branches = torch.cat([relu(self.left(stream)), relu(self.right(stream))], dim=1)  # (n, 20, 16, 16)
        return self.classifier(branches.mean((2, 3)))


def stream_network(seed: int = 0) -> StreamNetwork:
    """The network with random weights and random norms, in float64 and evaluation mode.

    The norms have statistics, scales and shifts drawn too, as training would leave them: of a fresh norm,
    which shifts nothing, one would not see that it cannot be forgotten.

    Args:
        seed: of its own stream of random numbers; the caller's is not touched.

    Returns:
        The network.
    """
    with OwnRandomness(seed).drawing():
        network = StreamNetwork().double()
        norms: list[Any] = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.5)
            nn.init.normal_(norm.running_mean, std=0.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return network.eval().requires_grad_(False)


def stream_images(count: int = 4, seed: int = 0) -> Tensor:
    """Random images that the network takes, (count, 3, 16, 16) float64."""
    return torch.randn(
        count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )

"""A network of 29 groups with long names for a cell, and what the page is told of one with any number."""

# 1 + 28 convolutions in three stages, whose units the ReLU after each makes a group of its own.
NETWORK = """
import torch
from torch import nn
import workbench as wb

NAMES = ("pointwise_expand_conv", "pointwise_project_conv")

class Long(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)
        self.backbone = nn.Module()
        self.backbone.encoder = nn.Module()
        stages, before = [], 5
        for blocks, width in ((2, 6), (3, 9), (9, 12)):
            stage = nn.Module()
            stage.blocks = nn.ModuleList()
            for _ in range(blocks):
                block = nn.Module()
                for name in NAMES:
                    setattr(block, name, nn.Conv2d(before, width, 1))
                    before = width
                stage.blocks.append(block)
            stages.append(stage)
        self.backbone.encoder.stages = nn.ModuleList(stages)
        self.head = nn.Linear(before, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        for stage in self.backbone.encoder.stages:
            for block in stage.blocks:
                for name in NAMES:
                    x = getattr(block, name)(x).relu()
        return self.head(x.mean((2, 3)))

torch.manual_seed(0)
x, y = torch.randn(128, 3, 7, 7), torch.randint(3, (128,))
session = wb.Session(Long().eval(), (x, y), [(x, y)], name="long")
"""

# `groups` groups of 32 units in blocks of three, that there are not: the page computes from these alone.
TOLD = """(lambda state, np, g, names: state._set({
    "spectra": np.tile(np.logspace(0, -6, 32), g).tobytes(), "selected": names[0],
    "layers": [state.layers[0] | {"name": name, "kind": "Linear", "offset": 32 * i, "count": 32, "width": 32,
                                  "original": 32} for i, name in enumerate(names)],
    "budget": {"names": names, "widths": [32] * g, "original": [1056 * g, 1024 * g], "parameters": 1056 * g,
               "macs": 1024 * g, "terms": [[32, 32, 1024, 1024, 1, 0, [[i, 1]], [[i - 1, 1]] if i else []]
                                           for i in range(g)]},
    "widths": {}, "locks": [],
}))(view, __import__("numpy"), %d, [f"stages.{i // 90}.blocks.{i // 3}.{('expand', 'mix', 'reduce')[i %% 3]}"
                                   for i in range(%d)])"""

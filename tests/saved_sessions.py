"""Two sessions that earlier versions saved, as test data: their network, its data, and where they lie.

`tests/data/saved/inputs.safetensors` holds the network's weights and the calibration data; `first` was saved
by 0.1.0, `second` by the last version before every step's weights were saved. Neither is ever written again.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).parent / "data" / "saved"


class Small(nn.Module):
    """Two convolutions with norms, one of them without a bias, and two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 7, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(7)
        self.fc1 = nn.Linear(7, 11)
        self.fc2 = nn.Linear(11, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))


def small() -> tuple[Small, torch.Tensor, torch.Tensor]:
    """The network with its weights, inputs (24, 2, 5, 5) and targets (24,)."""
    tensors = load_file(FOLDER / "inputs.safetensors")
    x, y = tensors.pop("calibration"), tensors.pop("targets")
    model = Small().eval()
    model.load_state_dict(tensors)
    return model, x, y

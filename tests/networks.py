"""Small networks for tests, with prime widths so that a swapped axis cannot hide."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class ConvNet(nn.Module):
    """Convolutions, norms, pooling, dropout, Flatten with several positions a channel: not a Sequential."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 7, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(7)
        self.conv2 = nn.Conv2d(7, 11, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(11)
        self.act = nn.PReLU(11)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(11 * 4, 13)
        self.fc2 = nn.Linear(13, 5)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.avg_pool2d(self.act(self.bn2(self.conv2(x))), 2)
        x = self.drop(torch.flatten(x, 1))
        return self.fc2(functional.gelu(self.fc1(x)))


class Residual(nn.Module):
    """A stream with two writers and two readers, one of them in both roles."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 7, 3, padding=1)
        self.inner = nn.Conv2d(7, 7, 3, padding=1)
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = x + functional.relu(self.inner(x))
        return self.head(x.mean((2, 3)))


class Mixed(nn.Module):
    """A softmax across units stands between writer and reader: removing is not silencing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 7)
        self.second = nn.Linear(7, 5)

    def forward(self, x):
        return self.second(torch.softmax(self.first(x), -1))


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 7)
        self.second = nn.Linear(7, 7)
        self.third = nn.Linear(7, 7)
        self.third.weight = self.second.weight
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.head(torch.tanh(self.third(torch.tanh(self.second(x)))))


class Grouped(nn.Module):
    """A depthwise stage, a layer that never runs, and a layer of an unsupported kind."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(2, 7, 1)
        self.depthwise = nn.Conv2d(7, 7, 3, groups=7, padding=1)
        self.narrow = nn.Conv2d(7, 5, 1)
        self.idle = nn.Linear(3, 4)
        self.up = nn.ConvTranspose2d(5, 3, 2)

    def forward(self, x):
        return self.up(self.narrow(functional.relu(self.depthwise(functional.relu(self.wide(x))))))


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def settled(model: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """The model with running statistics that fit its inputs, in evaluation mode."""
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(inputs)
    return model.eval()


def images(n: int = 64, channels: int = 2, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def conv_net(seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    model = ConvNet()
    nn.init.uniform_(model.act.weight, 0.1, 0.4)
    return settled(model, images())

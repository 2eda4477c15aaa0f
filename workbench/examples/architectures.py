"""The networks of the built-in examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu


class NN3(nn.Module):
    """The paper's NN3: hidden layers of 300, 1000 and 300 units with ReLU, on flattened images.

    Inputs (n, ...) with `features` numbers each; outputs (n, classes), before the softmax. Source: method.md
    §8, Figure 1 of the paper.
    """

    def __init__(self, features: int, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, 300)
        self.fc2 = nn.Linear(300, 1000)
        self.fc3 = nn.Linear(1000, 300)
        self.fc4 = nn.Linear(300, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, ...) images to (n, classes)."""
        hidden = relu(self.fc1(images.flatten(1)))
        hidden = relu(self.fc2(hidden))
        hidden = relu(self.fc3(hidden))
        return self.fc4(hidden)


class DigitsCNN(nn.Module):
    """Three convolutions of 32, 64 and 64 channels with batch normalisation, then two linear layers.

    Inputs (n, 1, 8, 8); outputs (n, classes), before the softmax. Each of the last 64 channels reaches fc1
    at 2 × 2 positions.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * 2 * 2, 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 8, 8) images to (n, classes)."""
        maps = relu(self.bn1(self.conv1(images)))
        maps = self.pool(relu(self.bn2(self.conv2(maps))))
        maps = self.pool(relu(self.bn3(self.conv3(maps))))
        return self.fc2(relu(self.fc1(self.flatten(maps))))


class VGG13(nn.Module):
    """VGG-13 for small images, with batch normalisation: ten 3 × 3 convolutions in five stages, a classifier.

    The stages have 1, 2, 4, 8 and 8 times `width` channels (the original: 64) and end in a 2 × 2 maximum.
    Inputs (n, 3, 32, 32); outputs (n, classes), before the softmax. Source: the paper's Figures 1c and 1d.
    """

    def __init__(self, classes: int = 10, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for times in (1, 2, 4, 8, 8):
            for _ in range(2):
                convolution = nn.Conv2d(channels, times * width, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(times * width), nn.ReLU()]
                channels = times * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, 32, 32) images to (n, classes)."""
        return self.classifier(self.features(images).flatten(1))


class RowRNN(nn.Module):
    """A recurrent network that reads an image row by row: `hidden` units with tanh, then a linear layer.

    Inputs (n, 1, rows, `row`); outputs (n, classes), before the softmax, from the hidden state after the last
    row. Source: after the pixel-by-pixel MNIST of Furuya et al., AISTATS 2022, with 28 steps in place of 784.
    """

    def __init__(self, row: int = 28, hidden: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.rnn = nn.RNN(row, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, rows, row) images to (n, classes)."""
        states, _ = self.rnn(images.squeeze(1))  # (n, rows, hidden)
        return self.classifier(states[:, -1])


class Block(nn.Module):
    """A transformer block with its norms in front: attention between tokens, then an MLP on each of them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        seen = self.norm1(tokens)
        tokens = tokens + self.attention(seen, seen, seen, need_weights=False)[0]
        return tokens + self.fc2(gelu(self.fc1(self.norm2(tokens))))


class DigitsViT(nn.Module):
    """A vision transformer of two blocks of `heads` heads, on 8 × 8 images cut into 16 patches of 2 × 2.

    Inputs (n, 1, 8, 8); outputs (n, classes), before the softmax, from the mean over the tokens.
    """

    def __init__(self, width: int = 64, heads: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.block1 = Block(width, heads)
        self.block2 = Block(width, heads)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, 8, 8) images to (n, classes)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions  # (n, 16, width)
        tokens = self.norm(self.block2(self.block1(tokens)))
        return self.classifier(tokens.mean(1))

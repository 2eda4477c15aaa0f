"""Small, faithful networks on images, volumes and sounds, each named as its papers and libraries name it.

Widths are odd or prime where the architecture permits, so that a swapped axis cannot hide. `VGG` and
`ResNet` at full size are torchvision's `vgg16` and `resnet50`: the same names, shapes and order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet(nn.Module):
    """Two convolutions and three linear layers; a Flatten with 25 positions a channel."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 7, 5, padding=2)
        self.conv2 = nn.Conv2d(7, 17, 5)
        self.fc1 = nn.Linear(17 * 25, 113)
        self.fc2 = nn.Linear(113, 83)
        self.fc3 = nn.Linear(83, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.fc1(x.view(x.size(0), -1)))
        return self.fc3(torch.relu(self.fc2(x)))


class VGG(nn.Module):
    """torchvision's VGG: `plan` lists widths of 3×3 convolutions, 'M' a pooling."""

    def __init__(self, plan: list, hidden: int, classes: int, pool: int = 7, norm: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in plan:
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers.append(nn.ReLU(inplace=True))
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((pool, pool))
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool * pool, hidden),
            nn.ReLU(True),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(True),
            nn.Dropout(0.5),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class CifarBlock(nn.Module):
    """Two 3×3 convolutions; where the shape changes the shortcut skips pixels and pads with zero channels."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.padding = (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.padding:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return torch.relu(out + x)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of 6n + 2 layers (20, 32, 44, 56, …) with zero-padded shortcuts (option A)."""

    def __init__(self, depth: int, classes: int = 10):
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; a CIFAR ResNet has 6n + 2 layers, such as 20 or 56")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [CifarBlock(width, width, 1) for _ in range(blocks - 1)]
        return nn.Sequential(CifarBlock(inputs, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = functional.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class BasicBlock(nn.Module):
    """torchvision's two-convolution block, with a projection where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, groups: int, per_group: float):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """torchvision's 1×1, 3×3 (grouped in a ResNeXt), 1×1 block."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, groups: int, per_group: float):
        super().__init__()
        inner = int(width * per_group) * groups
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """torchvision's ResNet: a stem, stages of blocks (`blocks` of `widths`), one linear layer."""

    def __init__(
        self,
        block: type,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        classes: int,
        groups: int = 1,
        per_group: float = 1,
    ):
        super().__init__()
        channels = widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = len(blocks)
        for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = []
            for position in range(count):
                stride = 2 if index and not position else 1
                stage.append(block(channels, width, stride, groups, per_group))
                channels = width * block.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for index in range(self.stages):
            x = getattr(self, f"layer{index + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class LeNet3d(nn.Module):
    """Conv3d, BatchNorm3d, PReLU with a slope a channel and with one for all."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 7, 3, padding=1)
        self.act1 = nn.PReLU(7)
        self.conv2 = nn.Conv3d(7, 13, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(13)
        self.act2 = nn.PReLU()
        self.fc1 = nn.Linear(13 * 8, 17)
        self.fc2 = nn.Linear(17, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool3d(self.act1(self.conv1(x)), 2)
        x = functional.max_pool3d(self.act2(self.bn2(self.conv2(x))), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class AudioNet(nn.Module):
    """Strided Conv1d over a waveform, BatchNorm1d, GroupNorm, adaptive pooling."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 11, 9, stride=4, bias=False),
            nn.BatchNorm1d(11),
            nn.ReLU(),
            nn.Conv1d(11, 14, 3, padding=1),
            nn.GroupNorm(7, 14),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(14, 17, 3, padding=2, dilation=2),
            nn.BatchNorm1d(17),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.head = nn.Linear(17, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).squeeze(-1))

"""The networks of the paper's ImageNet tables, as structure: VGG-16 and ResNet-50 at any widths.

They have no trained weights, and by default no weights at all (torch's "meta" device): parameters and MACs
follow from the structure alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from workbench.course.tables import Table
from workbench.network.cost import Cost, count_cost

IMAGE = (3, 224, 224)  # channels, height, width
CLASSES = 1000
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG16_HIDDEN = (4096, 4096)
VGG16_GRID = 7  # positions along a side that the first fully connected layer sees of every channel
RESNET50_STAGES = (3, 4, 6, 3)  # blocks
STEM, EXPANSION = 64, 4


def vgg16(
    stages: Sequence[Sequence[int]] = VGG16_STAGES,
    hidden: Sequence[int] = VGG16_HIDDEN,
    grid: int = VGG16_GRID,
    device: str = "meta",
) -> nn.Module:
    """VGG-16 without batch normalisation, as the paper's table has it.

    Args:
        stages: channels of every convolution, a tuple a stage; each stage ends in a 2 × 2 maximum.
        hidden: units of the fully connected layers before the last; () for none.
        grid: the last maps are averaged to grid × grid; 1 is global average pooling.
        device: where the weights are made; "meta" makes none.

    Returns:
        The network, in evaluation mode: (n, 3, 224, 224) to (n, 1000).

    Source:
        Simonyan and Zisserman, ICLR 2015, configuration D.
    """
    layers: list[nn.Module] = []
    channels = IMAGE[0]
    with torch.device(device):
        for stage in stages:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        layers += [nn.AdaptiveAvgPool2d(grid), nn.Flatten()]
        features = channels * grid**2
        for width in hidden:
            layers += [nn.Linear(features, width), nn.ReLU()]
            features = width
        layers.append(nn.Linear(features, CLASSES))
    return nn.Sequential(*layers).eval()


def resnet50(share: float = 1.0, device: str = "meta") -> nn.Module:
    """ResNet-50; of the units inside its blocks a share is left, of the residual streams all.

    Args:
        share: of the two inner widths of every block, in (0, 1].
        device: where the weights are made; "meta" makes none.

    Returns:
        The network, in evaluation mode: (n, 3, 224, 224) to (n, 1000).

    Raises:
        ValueError: a share outside (0, 1].

    Source:
        He et al., CVPR 2016, with the stride in the 3 × 3 convolution.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of inner units that is left lies in (0, 1]; got {share!r}")
    with torch.device(device):
        layers: list[nn.Module] = [*_normed(IMAGE[0], STEM, 7, stride=2), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        channels = STEM
        for number, blocks in enumerate(RESNET50_STAGES):
            width = STEM * 2**number
            for block in range(blocks):
                stride = 2 if number and not block else 1
                layers.append(Bottleneck(channels, round(share * width), EXPANSION * width, stride))
                channels = EXPANSION * width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers).eval()


class Bottleneck(nn.Module):
    """A block of ResNet-50: 1 × 1 down to `inner` channels, 3 × 3, 1 × 1 up, added to the stream."""

    def __init__(self, channels: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _normed(channels, inner, 1)
        self.conv2, self.bn2 = _normed(inner, inner, 3, stride)
        self.conv3, self.bn3 = _normed(inner, outputs, 1)
        same = stride == 1 and channels == outputs
        self.shortcut = nn.Sequential() if same else nn.Sequential(*_normed(channels, outputs, 1, stride))

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, outputs, h / stride, w / stride)."""
        inner = relu(self.bn1(self.conv1(maps)))
        inner = relu(self.bn2(self.conv2(inner)))
        return relu(self.bn3(self.conv3(inner)) + self.shortcut(maps))


def cost_on_imagenet(model: nn.Module) -> Cost:
    """Parameters and MACs of a network on one image of ImageNet's size.

    Args:
        model: takes (1, 3, 224, 224); its weights may be on the "meta" device.

    Returns:
        The cost of one image.
    """
    device = next(model.parameters()).device
    return count_cost(model, torch.zeros(1, *IMAGE, device=device))


def cost_table(networks: Mapping[str, nn.Module]) -> str:
    """The parameter and MAC columns of a table, in Markdown.

    Args:
        networks: by the name of their row, the unpruned one first.

    Returns:
        A row a network: parameters, those of them that are no biases, MACs (a multiply and its add are
        one), and both as shares of the first row's.
    """
    head = ("network", "parameters", "without biases", "MACs", "parameters left", "MACs left")
    rows = []
    costs = {name: cost_on_imagenet(model) for name, model in networks.items()}
    whole = next(iter(costs.values()))
    for name, cost in costs.items():
        biases = sum(p.numel() for key, p in networks[name].named_parameters() if key.endswith("bias"))
        counts = cost.parameters / 1e6, (cost.parameters - biases) / 1e6
        left = cost.parameters / whole.parameters, cost.macs / whole.macs
        rows.append(
            (
                name,
                *(f"{count:.2f} M" for count in counts),
                f"{cost.macs / 1e9:.2f} G",
                *(f"{share:.1%}" for share in left),
            )
        )
    return Table(head, tuple(rows)).to_markdown()


def _normed(channels: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)

"""Small, faithful networks that branch: concatenation, depthwise stages, gates, skips, two inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseLayer(nn.Module):
    """torchvision's dense layer: norm, 1×1, norm, 3×3 over everything that came before in the block."""

    def __init__(self, inputs: int, growth: int, inner: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(torch.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(torch.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, layers: int, inputs: int, growth: int, inner: int):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + i * growth, growth, inner) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Two dense blocks with a transition that narrows and pools."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 11, 3, padding=1, bias=False)
        self.block1 = DenseBlock(3, 11, 5, 13)  # 11 + 3·5 = 26
        self.norm1 = nn.BatchNorm2d(26)
        self.transition = nn.Conv2d(26, 13, 1, bias=False)
        self.block2 = DenseBlock(3, 13, 5, 13)  # 13 + 3·5 = 28
        self.norm2 = nn.BatchNorm2d(28)
        self.classifier = nn.Linear(28, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.conv0(x))
        x = functional.avg_pool2d(self.transition(torch.relu(self.norm1(x))), 2)
        x = torch.relu(self.norm2(self.block2(x)))
        return self.classifier(functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, activation: the brick of Inception, MobileNet and EfficientNet."""

    def __init__(self, inputs, outputs, size=1, stride=1, groups=1, act: type[nn.Module] | None = nn.ReLU):
        pad = tuple(n // 2 for n in size) if isinstance(size, tuple) else size // 2
        conv = nn.Conv2d(inputs, outputs, size, stride, pad, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), *([act()] if act else []))


class InceptionBlock(nn.Module):
    """Four branches side by side, concatenated: 1×1; 1×1 to 3×3; a factorised 1×5, 5×1; pooling to 1×1."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]):
        super().__init__()
        one, three, five, pooled = widths
        self.branch1 = ConvNorm(inputs, one)
        self.branch2 = nn.Sequential(ConvNorm(inputs, three - 2), ConvNorm(three - 2, three, 3))
        self.branch3 = nn.Sequential(
            ConvNorm(inputs, five - 2), ConvNorm(five - 2, five, (1, 5)), ConvNorm(five, five, (5, 1))
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNorm(inputs, pooled))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvNorm(3, 11, 3)
        self.inception1 = InceptionBlock(11, (5, 11, 7, 5))
        self.inception2 = InceptionBlock(28, (7, 13, 7, 5))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inception1(functional.max_pool2d(self.stem(x), 2))
        x = self.inception2(functional.max_pool2d(x, 3, 2, 1)).mean((2, 3))
        return self.fc(self.dropout(x))


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow without activation, add where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int):
        super().__init__()
        inner = inputs * expand
        widen = [ConvNorm(inputs, inner, act=nn.ReLU6)] if expand != 1 else []
        self.conv = nn.Sequential(
            *widen,
            ConvNorm(inner, inner, 3, stride, inner, nn.ReLU6),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            ConvNorm(3, 11, 3, 2, act=nn.ReLU6),
            InvertedResidual(11, 7, 1, 1),
            InvertedResidual(7, 13, 2, 3),
            InvertedResidual(13, 13, 1, 3),
            InvertedResidual(13, 17, 1, 3),
            ConvNorm(17, 37, act=nn.ReLU6),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(37, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class SqueezeExcitation(nn.Module):
    """One gate a channel, from the means of all channels."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = functional.silu(self.fc1(self.avgpool(x)))
        return torch.sigmoid(self.fc2(gate)) * x


class MBConv(nn.Module):
    """EfficientNet's block: widen, depthwise, gate, narrow, add where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expand: int):
        super().__init__()
        inner = inputs * expand
        self.block = nn.Sequential(
            ConvNorm(inputs, inner, act=nn.SiLU),
            ConvNorm(inner, inner, size, stride, inner, nn.SiLU),
            SqueezeExcitation(inner, max(1, inputs // 2)),
            ConvNorm(inner, outputs, act=None),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(x)
        return out + x if self.residual else out


class EfficientNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            ConvNorm(3, 7, 3, 2, act=nn.SiLU),
            MBConv(7, 11, 3, 1, 3),
            MBConv(11, 11, 5, 1, 3),
            MBConv(11, 13, 3, 2, 3),
            ConvNorm(13, 37, act=nn.SiLU),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(37, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class UNet(nn.Module):
    """Two levels down, two up: transposed convolutions, skips by concatenation, a class a pixel."""

    def __init__(self):
        super().__init__()
        self.down1 = nn.Sequential(ConvNorm(1, 7, 3), ConvNorm(7, 7, 3))
        self.down2 = nn.Sequential(ConvNorm(7, 11, 3), ConvNorm(11, 11, 3))
        self.bottom = nn.Sequential(ConvNorm(11, 17, 3), ConvNorm(17, 17, 3))
        self.up2 = nn.ConvTranspose2d(17, 13, 2, stride=2)
        self.merge2 = nn.Sequential(ConvNorm(13 + 11, 11, 3), ConvNorm(11, 11, 3))
        self.up1 = nn.ConvTranspose2d(11, 5, 2, stride=2)
        self.merge1 = nn.Sequential(ConvNorm(5 + 7, 7, 3), ConvNorm(7, 7, 3))
        self.out = nn.Conv2d(7, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(functional.max_pool2d(fine, 2))
        x = self.bottom(functional.max_pool2d(coarse, 2))
        x = self.merge2(torch.cat([self.up2(x), coarse], 1))
        x = self.merge1(torch.cat([self.up1(x), fine], 1))
        return self.out(x)


class TwoInputs(nn.Module):
    """An image and a vector, each with its branch, concatenated."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 7, 3, padding=1)
        self.bn = nn.BatchNorm2d(7)
        self.fc = nn.Linear(5, 11)
        self.joint = nn.Linear(7 * 4 + 11, 13)
        self.head = nn.Linear(13, 3)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        seen = functional.adaptive_max_pool2d(torch.relu(self.bn(self.conv(image))), 2).flatten(1)
        told = torch.relu(self.fc(vector))
        return self.head(torch.relu(self.joint(torch.cat((seen, told), dim=-1))))


@dataclass
class Prediction:
    """What `WithFeatures` returns: like a Hugging Face output, logits are not the first field."""

    features: Tensor
    logits: Tensor
    loss: Tensor | None = None


class WithFeatures(nn.Module):
    """Returns a dataclass; its features are an output too, so that the units behind them stay."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 7, 3, padding=1)
        self.conv2 = nn.Conv2d(7, 11, 3, padding=1)
        self.head = nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Prediction:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        features = x.mean((2, 3))
        return Prediction(features=features, logits=self.head(features))

"""The CIFAR-10 ResNets with the shared weights, and their data, for benchmarks on real networks."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from family_images import CifarResNet
from safetensors.torch import load_file

from workbench.examples.datasets import load_cifar10

MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of the training images, in pixel units


def resnet(depth: int) -> CifarResNet:
    path = Path(os.environ.get("WORKBENCH_DATA", "")) / f"resnet{depth}-cifar10.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not under WORKBENCH_DATA")
    model = CifarResNet(depth)
    model.load_state_dict(load_file(path))
    return model.eval()


@cache
def calibration(count: int = 1024) -> torch.Tensor:
    """Training images, as many of each class."""
    inputs, _ = _prepared(load_cifar10("train", per_class=-(-count // 10)), seed=0)
    return inputs[:count]


@cache
def evaluation(count: int = 10_000) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = _prepared(load_cifar10("test"), seed=1)
    return inputs[:count], labels[:count]


def _prepared(images, seed):
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    return (images.pixels[order].float() - mean) / std, images.labels[order]


def inner_groups(session) -> list[str]:
    """The inner width of every block: what its first convolution writes and its second reads."""
    return [g.name for g in session.groups if g.prunable and g.name.startswith("layer")]

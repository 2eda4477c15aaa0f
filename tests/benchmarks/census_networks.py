"""What the census goes over: named networks of public libraries with random weights and small inputs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.network.running import Inputs

VOCABULARY = 37


@dataclass(frozen=True)
class Network:
    """`build()` gives it with random weights; `inputs(n, size)` n examples of a size, the same each time.

    `sizes`: the size at which the session is opened, and another that the network may take.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, Any], Inputs]
    sizes: tuple[Any, Any]

    @property
    def key(self) -> str:
        return f"{self.library}/{self.name}"


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=seeded())


def grey(count: int, size: int) -> Tensor:
    return torch.randn(count, 1, size, size, generator=seeded())


def volumes(count: int, size: int) -> Tensor:
    return torch.randn(count, 1, size, size, size, generator=seeded())


def videos(count: int, size: tuple[int, int]) -> Tensor:
    frames, side = size
    return torch.randn(count, 3, frames, side, side, generator=seeded())


def words(count: int, length: int) -> Tensor:
    return torch.randint(3, VOCABULARY, (count, length), generator=seeded())


def waves(count: int, length: int) -> Tensor:
    return torch.randn(count, 1, length, generator=seeded())


def sequences(features: int) -> Callable[[int, int], Tensor]:
    """Inputs (n, length, features) of normal numbers."""
    return lambda count, length: torch.randn(count, length, features, generator=seeded())


def larger(side: int) -> int:
    """Another side of an image, which goes through as many halvings."""
    return side + max(32, side // 2 // 32 * 32)


def of_images(library: str, builders: Mapping[str, tuple[Callable[[], nn.Module], int]]) -> list[Network]:
    """Networks that take square images in colour, from {name: (build, side)}."""
    return [
        Network(library, name, build, images, (side, larger(side)))
        for name, (build, side) in builders.items()
    ]


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def version(distribution: str) -> str:
    """The version that is installed, '' where none is."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""

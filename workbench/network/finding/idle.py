"""Layers that the example does not reach, and groups that they would meet on other inputs."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from workbench.network.finding.sisters import pattern
from workbench.network.groups import UnitGroup
from workbench.network.layers import is_linear_layer

Sisters = dict[tuple[str, tuple[int, ...]], list[str]]
"""Names of layers that did not run, by the pattern of the name and the weight's shape."""


def idle_layers(model: nn.Module, ran: Collection[str]) -> Sisters:
    """The layers of `model` that are not among those that `ran`."""
    found: Sisters = {}
    for name, module in model.named_modules():
        if is_linear_layer(module) and name not in ran:
            found.setdefault(_kind(name, module), []).append(name)
    return found


def idle_sister(group: UnitGroup, model: nn.Module, idle: Sisters) -> str:
    """Why a layer that did not run stands in the way of a group, '' where none does.

    An expert that gets no token of the example, but has sisters among the group's layers, reads or writes the
    same units on other inputs. It has nothing to do with what stands inside of one sister alone.
    """
    modules = [part.module for part in (*group.writers, *group.norms)] + [r.module for r in group.readers]
    for name in modules if idle else ():
        module = model.get_submodule(name)
        for sister in idle.get(_kind(name, module), ()) if is_linear_layer(module) else ():
            own = _apart(name, sister)
            if not all(f"{other}.".startswith(f"{own}.") for other in modules):
                return (
                    f"{sister}, which has the place of {name} on other inputs, does not run on the example "
                    "input: give an example_input with examples that reach it"
                )
    return ""


def _kind(name: str, module: nn.Module) -> tuple[str, tuple[int, ...]]:
    weight = getattr(module, "weight", None)
    return pattern(name), tuple(getattr(weight, "shape", ()))


def _apart(name: str, sister: str) -> str:
    """The module, by the start of `name`, in which `sister` is not."""
    parts, others = name.split("."), sister.split(".")
    first = next(i for i, (a, b) in enumerate(zip(parts, others, strict=True)) if a != b)
    return ".".join(parts[: first + 1])

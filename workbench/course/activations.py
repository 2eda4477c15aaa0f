"""The activations themselves, sample by sample, where a lesson needs more than their moment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.measure.passes import each_batch, run_batch
from workbench.network.running import device_of, evaluating, received
from workbench.session.session import Session


def activations(session: Session, name: str, model: nn.Module | None = None) -> Tensor:
    """φ of a group: what its first reader receives from the calibration data.

    Args:
        session: its calibration data is run, and its groups say which features of the reader are the units.
        name: of the group.
        model: another network with the same layers; None: the session's, as it stands now.

    Returns:
        (n, m) float64, a row a sample, a column a unit; a sample is an example, or each of its positions.

    Raises:
        ValueError: no such group, one that no layer reads, or calibration data that does not go through.
    """
    group = session.group(name)
    if not group.readers:
        raise ValueError(f"{name} has no activations to look at: {group.why_not}")
    reader, network = group.readers[0], session.model if model is None else model
    rows: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        rows.append(reader.samples(received(args, kwargs).detach()).double().cpu())

    handle = network.get_submodule(reader.module).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with evaluating(network), torch.no_grad():
            each_batch(
                session.calibration,
                device_of(network),
                "collecting activations",
                lambda index, inputs: run_batch(network, inputs, index),
            )
    finally:
        handle.remove()
    return torch.cat(rows)

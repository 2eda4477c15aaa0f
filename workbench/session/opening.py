"""Opening: the examples with which groups are proved; how far it is, told, and stopped between passes."""

from __future__ import annotations

from threading import Event

import torch
from torch import nn

from workbench.data.progress import Cancelled, Progress
from workbench.network.fewer import on_few
from workbench.network.finding.idle import idle_layers
from workbench.network.finding.proof import STAGES
from workbench.network.running import Inputs, call_order, mapped, tensors_of

EXAMPLE_SIZE = 8  # examples of the first batch with which groups are proved
REACHING_SIZE = 64  # where fewer leave a layer without input
LARGE_EXAMPLE = 1 << 16  # numbers an example from which two must do
BEFORE = 2  # stages before groups are looked for: copying, a first pass


class Opening:
    """Tells how far opening a session is, and stops it: between forward passes, before anything is there.

    `progress(done, total, what)` is told the stages of `BEFORE`, of finding the groups, and counting costs.
    """

    def __init__(self, progress: Progress | None = None, cancel: Event | None = None):
        self.progress, self.cancel = progress, cancel

    def at(self, stage: int, what: str) -> None:
        """Say that `stage` has begun. Raises Cancelled where that was asked for."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("opening the network was cancelled")
        if self.progress is not None:
            self.progress(stage, BEFORE + STAGES + 1, f"opening, {what}")

    def over(self, groups: int) -> None:
        """Say that the session is open."""
        self.at(BEFORE + STAGES + 1, f"{groups} groups found")

    def finding(self, stage: int, what: str) -> None:
        """`at`, counted from where groups are looked for."""
        self.at(BEFORE + stage, what)


def probed(model: nn.Module, inputs: Inputs, cut: bool) -> tuple[Inputs, tuple[str, ...]]:
    """The examples with which groups are proved, and the order in which they call the modules.

    `cut`: fewer than were given, and fewer still where each is large; more where these reach more layers, as
    experts need it. They are copies: a tensor made in inference mode cannot be traced, and a network may
    write into its input.
    """

    def calls(few: Inputs) -> tuple[str, ...]:
        return call_order(model, mapped(few, torch.clone))

    if not cut:
        return mapped(inputs, torch.clone), calls(inputs)
    size = max((tensor[:1] if tensor.dim() else tensor).numel() for tensor in tensors_of(inputs))
    few, order = on_few(model, inputs, EXAMPLE_SIZE if size < LARGE_EXAMPLE else 2, calls)
    if size < LARGE_EXAMPLE and idle_layers(model, set(order)):
        more, longer = on_few(model, inputs, REACHING_SIZE, calls)
        few, order = (more, longer) if len(set(longer)) > len(set(order)) else (few, order)
    return mapped(few, torch.clone), order

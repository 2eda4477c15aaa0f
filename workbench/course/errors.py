"""How far a pruned network's outputs are from the whole one's: the error of the paper's Figure 1b."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.data.batches import as_batches
from workbench.measure.passes import each_batch, run_batch
from workbench.network.running import device_of, evaluating, main_output
from workbench.pruning.choice import DEFAULT_THETA
from workbench.pruning.problem import BUDGET_LAM
from workbench.session.session import Session


def outputs(model: nn.Module, data: Iterable[Any]) -> Tensor:
    """f on every example.

    Args:
        model: run in evaluation mode; every module gets its mode back.
        data: inputs, or (inputs, targets), batch by batch.

    Returns:
        (n, outputs) float64.

    Raises:
        ValueError: data that does not go through the model.
    """
    rows: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        each_batch(
            as_batches(data),
            device_of(model),
            "collecting outputs",
            lambda index, inputs: rows.append(
                main_output(run_batch(model, inputs, index)).flatten(1).double().cpu()
            ),
        )
    return torch.cat(rows)


def relative_error(before: Tensor, after: Tensor) -> float:
    """‖f − f♯‖ₙ / ‖f‖ₙ, where ‖f‖ₙ² is the mean over the n examples of the squared length of f(x).

    Args:
        before: f, (n, outputs).
        after: f♯, (n, outputs).

    Returns:
        A share of the size of f: 0 where nothing changed.

    Raises:
        ValueError: the shapes differ, or f is 0 everywhere.
    """
    if before.shape != after.shape:
        raise ValueError(
            f"outputs of shape {tuple(before.shape)} and {tuple(after.shape)} cannot be compared"
        )
    size = torch.linalg.vector_norm(before)
    if size == 0:
        raise ValueError("the outputs are 0 everywhere, so there is no error relative to them")
    return float(torch.linalg.vector_norm(before - after) / size)  # the two √n cancel


def errors_against_width(
    session: Session,
    name: str,
    widths: Sequence[int],
    lam: float = BUDGET_LAM,
    theta: float = DEFAULT_THETA,
) -> list[float]:
    """The relative error on the calibration data where one group alone is compressed, by the paper's Â.

    Args:
        session: measured.
        name: of the group.
        widths: units kept, each in [1, m].
        lam: λ, relative to the trace.
        theta: weight of the input loss in the choice of units.

    Returns:
        ‖f − f♯‖ₙ / ‖f‖ₙ, one a width.

    Raises:
        ValueError: no such group, or a width, λ or θ out of range.

    Source:
        The paper's Figure 1b.
    """
    whole = outputs(session.model, session.calibration)
    absolute = lam * session.spectrum(name).trace
    choices = [session.preview(name, width=width, lam=absolute, theta=theta) for width in widths]
    return [relative_error(whole, outputs(session.pruned(one), session.calibration)) for one in choices]

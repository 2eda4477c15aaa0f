"""A session as the plain values that a page shows. No traits here: these functions run in worker threads."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from workbench.data.batches import Batches, split_batch
from workbench.data.randomness import each_of
from workbench.network.groups import UnitGroup
from workbench.network.running import tensors_of
from workbench.pruning.choice import Choice
from workbench.session.session import Session
from workbench.session.tables import sizes_line, stays_line
from workbench.tuning.augmentation import is_image_batch
from workbench.widgets.branches import branch_values, step_values
from workbench.widgets.folders import usual_folder

SHOWN_OF_A_CHOICE = (
    "input_loss",
    "output_loss",
    "combined_loss",
    "predicted_error",
    "predicted_error_exact",
    "parameters_saved",
    "macs_saved",
)
SHOWN_OF_SWAPS = ("swaps", "before", "after", "settled")


def read_session(session: Session) -> dict[str, Any]:
    """Every trait that shows the session itself: names, groups with their spectra, history."""
    measured = session.measured
    stale = session.stale
    layers, spectra, offset = [], [], 0
    for group in session.groups:
        count = 0
        if measured and group.prunable:
            values = session.spectrum(group.name).eigenvalues
            spectra.append(values.numpy().tobytes())
            count = len(values)
        layers.append(
            {
                "name": group.name,
                "kind": group.kind,
                "width": group.width,
                "unit": unit_word(group),
                "rows": max(writer.rows.shape[1] for writer in group.writers),
                "original": session.original_width(group.name),
                "prunable": group.prunable,
                "why_not": group.why_not,
                "stale": stale.get(group.name, ""),
                "offset": offset,
                "count": count,
            }
        )
        offset += count
    return {
        "name": session.name,
        "folder": usual_folder(session.name),
        "data_name": session.data_name,
        "metric": session.metric,
        "procedure": session.procedure,
        "measured": measured,
        "norms": session.has_norms,
        "layers": layers,
        "stays": {
            "line": stays_line(session),
            "tensors": [[one.name, one.numbers, one.why_not] for one in session.stays],
        },
        "sizes": {"line": sizes_line(session), "words": str(session.sizes)},
        "budget": cost_terms(session),
        "spectra": b"".join(spectra),
        **scored_values(session),
        "position": session.position,
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
    }


def scored_values(session: Session) -> dict[str, Any]:
    """The traits that show steps, with their scores."""
    steps = [
        step_values(step) | {"flips": session.flip_counts(index)}
        for index, step in enumerate(session.history)
    ]
    return {"history": steps, **branch_values(session)}


def cost_terms(session: Session) -> dict[str, Any]:
    """The present network's cost at any widths, for the page to compute totals from: see `CostModel`.

    "terms" are (rows, columns, parameters, macs, biases, new_biases, lost_rows, lost_columns), groups by
    their place in "names"; "original" are the original network's (parameters, MACs).
    """
    model, start = session.cost_model, session.history[0]
    return {
        "names": list(model.groups),
        "widths": list(model.widths),
        "parameters": model.parameters,
        "macs": model.macs,
        "original": [start.parameters, start.macs],
        "terms": [
            [t.rows, t.columns, t.parameters, t.macs, t.biases, t.new_biases]
            + [[list(pair) for pair in pairs] for pairs in (t.lost_rows, t.lost_columns)]
            for t in model.terms
        ],
    }


def shown_values(session: Session) -> dict[str, Any]:
    """Every trait that a session decides, where it is shown for the first time."""
    return read_session(session) | {"learns": learning_values(session)}


def learning_values(session: Session) -> dict[str, Any]:
    """What fine-tuning and the Taylor criterion learn from, as the page says it.

    "targets": whether it has them; "size": its examples, 0 where that is not known; "own": whether it is
    the session's training data, else the calibration data; "batches": whether it makes its own; "images":
    whether the network takes images, which can be mirrored and shifted.
    """
    data = session.calibration if session.training is None else session.training
    targets, size = False, 0
    if isinstance(data, Batches):
        targets, size = data.targets is not None, data.examples
    else:
        # What is wrong with the data is said when it is used.
        with suppress(Exception, SystemExit, GeneratorExit):
            targets = split_batch(next(each_of(data)), 0, "training")[1] is not None
    return {
        "targets": targets,
        "size": size,
        "own": session.training is not None,
        "batches": not isinstance(data, Batches),
        "images": any(is_image_batch(tensor) for tensor in tensors_of(session.example_input)),
    }


def unit_word(group: UnitGroup) -> str:
    """What the group's units are called: heads and channel groups are read as blocks of features."""
    whole = group.writers[0].rows.shape[1] > 1 and any(r.positions > 1 for r in group.readers)
    return ("groups" if group.kind.startswith("Conv") else "heads") if whole else "units"


def preview_values(choice: Choice, request: dict) -> dict[str, Any]:
    """A choice's read-outs, with the request that they answer."""
    swaps = choice.swaps
    found = {} if swaps is None else {name: getattr(swaps, name) for name in SHOWN_OF_SWAPS}
    return (
        {"request": request}
        | {name: getattr(choice, name) for name in SHOWN_OF_A_CHOICE}
        | {"swaps": found or None}
    )


def curve_bytes(choice: Choice) -> bytes:
    """The loss curve as 4 rows of float64: widths, input, output and combined loss, (4, k+1)."""
    curve = choice.curve
    rows = torch.stack([curve.widths.double(), curve.input, curve.output, curve.combined])
    return rows.contiguous().numpy().tobytes()


def preview_of(session: Session, request: dict) -> Choice:
    """The session's choice for a request, whose λ is relative to the trace. Stale moments are not used.

    Raises StaleMomentsError for a stale group, and what `Session.preview` raises.
    """
    trace = session.spectrum(request["group"]).trace
    return session.preview(
        request["group"],
        width=request["width"],
        lam=request["lam"] * trace if trace > 0 else request["lam"],
        theta=request["theta"],
        selection=request["selection"],
        reconstruction=request["reconstruction"],
        reestimate=request["reestimate"],
        remeasure=False,
    )


def with_procedure(session: Session, procedure: str) -> Session:
    """A session on the same network under another procedure; what was measured of it is taken along.

    Raises ValueError where something is committed, since a recipe has one procedure.
    """
    if session.position > 0:
        raise ValueError("something is committed under the present procedure: reset first, then change it")
    others = [name for name, steps in session.branches.items() if name != session.branch and len(steps) > 1]
    if others:
        raise ValueError(
            f"other branches were made under the present procedure: drop {', '.join(others)} first, in the "
            "menu of branches"
        )
    return session.afresh(procedure)

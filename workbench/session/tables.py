"""A session as text in aligned columns: its groups, what is in none, and what its steps came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.session.session import Session

SHARE = 1e-3  # of the trace: the λ at which `group_table` says the degrees of freedom


def group_table(session: Session) -> str:
    """A line a group: name, kind, units, degrees of freedom at λ = 10⁻³ of the trace, prunable or why not."""
    table = [("group", "units", f"N({SHARE:g}·trace)", "kind", "prunable")]
    for group in session.groups:
        freedom = f"{degrees_of_freedom(session, group.name):.1f}" if group.prunable else "–"
        table.append((group.name, str(group.width), freedom, group.kind, group.why_not or "yes"))
    return "\n".join(aligned(table, words=(0, 3, 4)))


def stays_line(session: Session) -> str:
    """What of the present network is in no group, in one line; '' where everything is in one."""
    tensors, numbers = len(session.stays), sum(one.numbers for one in session.stays)
    if not tensors:
        return ""
    share = 100 * numbers / session.parameters
    part = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}" if share >= 0.05 else "under 0.1"
    return f"{tensors} {'tensor' if tensors == 1 else 'tensors'} in no group: {part} % of the parameters"


def sizes_line(session: Session) -> str:
    """On how many sizes of input the groups were proved, in one line; '' where none was."""
    if not session.sizes.first:
        return ""
    return f"proved at {'two sizes' if session.sizes.second else 'one size'} of input"


def stays_table(session: Session) -> str:
    """That line, and a line a tensor: name, numbers, the reason why it stays; '' as `stays_line`."""
    rows = [(one.name, f"{one.numbers:,}", one.why_not) for one in session.stays]
    return "\n".join([stays_line(session), *aligned(rows, words=(0, 2))]) if rows else ""


def degrees_of_freedom(session: Session, name: str) -> float:
    """N(λ) of a measured group at λ = 10⁻³ of its trace.

    Args:
        session: which has measured it.
        name: of the group.

    Returns:
        Units; 0 where nothing ever reaches the group.
    """
    spectrum = session.spectrum(name)
    return spectrum.degrees_of_freedom(SHARE * spectrum.trace) if spectrum.trace else 0.0


def summary(session: Session) -> str:
    """A line a committed step; then parameters, MACs and score, original → now, in aligned columns."""
    steps = session.history[: session.position + 1]
    table = [("step", "parameters", "MACs", session.metric)]
    table += [(step.label, f"{step.parameters:,}", f"{step.macs:,}", _score(step.score)) for step in steps]
    first, last = table[1], table[-1]
    change = [(what, first[column], "→", last[column]) for column, what in enumerate(table[0]) if column]
    return "\n".join([*aligned(table), "", *aligned(change)])


def aligned(rows: Sequence[tuple[str, ...]], words: Sequence[int] = (0,)) -> list[str]:
    """A line a row, columns of one width each: those in `words` begin together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _score(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.4f}"

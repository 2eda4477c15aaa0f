"""Verdicts of the census, its summary and its table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
PRECISE, ROUGH = 1e-5, 1e-3  # largest difference from silencing, in float64 and where only float32 runs
HALF = 0.5  # share of the parameters in prunable rows or columns, below which groups are few
VERDICTS = ("well", "few groups", "none", "refused", "wrong", "raw error", "slow", "skipped")
COLUMNS = (
    "network", "verdict", "parameters", "groups", "prunable", "in prunable rows or columns", "smallest",
    "seconds to open", "passes", "opening in forward passes", "measuring in forward passes",
    "memory in models",
    "worst difference", "torch-pruning: right of its groups", "in those", "words",
)  # fmt: skip


def worst(row: Row) -> float:
    """The largest difference from silencing, wherever it was looked for."""
    kinds = ("alone", "committed", "plan", "other batch", "other size", "opened")
    return max((row.get(f"{kind} off") or 0.0 for kind in kinds), default=0.0)


def faults(row: Row) -> list[str]:
    """What is wrong in what the workbench made, in words."""
    limit = PRECISE if row.get("precise", True) else ROUGH
    said = []
    for kind in ("opened", "alone", "committed", "plan", "other batch", "other size"):
        if not (row.get(f"{kind} off") or 0.0) <= limit:
            where = f" ({row['alone worst']})" if kind == "alone" else ""
            said.append(f"{kind}{where} off by {row[f'{kind} off']:.1e}")
    if row.get("counted wrong"):
        said.append(f"parameters counted wrong by {row['counted wrong']}")
    if row.get("unmentioned"):
        names = row["unmentioned"]
        said.append(f"{len(names)} parameters unmentioned: {', '.join(names[:3])}")
    if row.get("export equal") is False:
        said.append("not the same after export and back")
    return said


def is_slow(row: Row) -> bool:
    return bool(row.get("timed out")) or row["open seconds"] > 30 * row["forward seconds"] + 5


def verdict(row: Row) -> str:
    """One of VERDICTS."""
    if row.get("raw"):
        return "raw error"
    if row.get("error") and not row.get("timed out"):
        return "skipped" if row["stage"] in ("build", "import") else "refused"
    if faults(row):
        return "wrong"
    if is_slow(row):
        return "slow"
    if not row["prunable"]:
        return "none"
    return "few groups" if row["share"] < HALF else "well"


def words(row: Row) -> str:
    """What there is to say of a row."""
    said = faults(row)
    if row.get("error"):
        said.insert(0, f"at {row['stage']}: {row['error']}")
    if not row.get("prunable", 1) or row.get("share", 1.0) < HALF:
        said += row.get("why not", ())[:3]
    if 0 < row.get("alone", 0) < row.get("prunable", 0):
        said.append(f"{row['alone']} of the groups tried alone")
    if row.get("plan late"):
        said.append("its plan was broken off after eight seconds")
    if row.get("without effect"):
        said.append(f"{row['without effect']} of them silent already on these examples")
    if row.get("precise") is False:
        said.append("in float32")
    return "; ".join(said).replace("|", "¦")


def beside_verdict(row: Row | None) -> str:
    """right: every group that keeps the output's shape is as zeroing its channels, in one word."""
    if not row:
        return "not asked"
    if row.get("error"):
        return "error"
    good, bad = row["right"], row["differs"] + row["breaks"]
    return "none" if not good else "right" if not bad else "partly"


def summary(rows: Sequence[Row]) -> str:
    """Verdicts by library, torch-pruning's beside, and what nine tenths stay under."""
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    head = [
        "library",
        "networks",
        *VERDICTS,
        "torch-pruning: all groups right",
        "partly",
        "none right",
        "error",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for library in [*libraries, "all"]:
        own = [row for row in rows if library in (row["library"], "all")]
        found = Counter(map(verdict, own))
        other = Counter(beside_verdict(row.get("beside")) for row in own)
        numbers = [len(own), *(found[v] for v in VERDICTS)]
        numbers += [other[v] for v in ("right", "partly", "none", "error")]
        lines.append(f"| {library} | {' | '.join(map(str, numbers))} |")
    lost = [row["name"] for row in rows if other_is_ahead(row)]
    ahead = f"- torch-pruning right somewhere where nothing is prunable here: {', '.join(lost) or 'nowhere'}"
    return "\n".join([*lines, "", *quantiles(rows), ahead])


def other_is_ahead(row: Row) -> bool:
    """torch-pruning has a right group, and the workbench none."""
    return not row.get("prunable") and bool((row.get("beside") or {}).get("right"))


def quantiles(rows: Sequence[Row]) -> list[str]:
    out = []
    for key, unit in (
        ("passes", "forward passes to open"),
        ("open seconds", "seconds to open"),
        ("open multiple", "plain forward passes' time to open"),
        ("measure multiple", "plain forward passes' time to measure"),
        ("memory multiple", "times the model's memory to open"),
    ):
        found = [row[key] for row in rows if row.get(key) is not None]
        if len(found) > 1:
            tenth = statistics.quantiles(found, n=10, method="inclusive")[-1]
            middle, most = statistics.median(found), max(found)
            out.append(f"- {unit}: median {middle:.3g}, nine tenths under {tenth:.3g}, most {most:.3g}")
    return out


def number(value: float | None, form: str = ".2g") -> str:
    return "" if value is None else f"{value:{form}}"


def line(row: Row) -> str:
    other = row.get("beside") or {}
    tried = sum(other.get(key, 0) for key in ("right", "differs", "breaks"))
    cells = [
        f"{row['library']} {row['name']}", verdict(row), number(row.get("parameters"), ",d"),
        row.get("groups", ""),
        row.get("prunable", ""), number(row.get("share"), ".0%"), number(row.get("smallest"), ".1%"),
        number(row.get("open seconds"), ".1f"), row.get("passes", ""), number(row.get("open multiple"),
        ".0f"),
        number(row.get("measure multiple"), ".1f"), number(row.get("memory multiple"), ".1f"),
        number(worst(row), ".0e") if row.get("alone") else "",
        "error" if other.get("error") else f"{other.get('right', 0)} of {tried}" if other else "",
        number(other.get("share"), ".0%"), words(row)[:200],
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(rows: Sequence[Row]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|---|---{'|---:' * (len(COLUMNS) - 3)}|---|"
    return "\n".join([head, *map(line, rows)])

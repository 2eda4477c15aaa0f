"""The session that `workbench page` is asked for: a saved one, or a built-in example, measured."""

from __future__ import annotations

from typing import Any

from workbench.data.durable import expanded
from workbench.data.progress import Progress
from workbench.examples.catalogue import example_names
from workbench.export.kinds import RECIPE, holds_session
from workbench.session.session import Session


def session_called(
    name: str,
    own: dict[str, Any] | None = None,
    progress: Progress | None = None,
    *,
    metric: str | None = None,
    classes: str | None = None,
    mask: str | bool | None = None,
) -> Session:
    """A saved session, or a built-in example that is measured now; nothing in it is stale.

    Args:
        name: the session's folder, or the example's name; a saved session of that name comes first.
        own: `model`, `calibration`, `evaluation`, `training` of a session that is not an example's.
        progress: is told what has been measured.
        metric, classes, mask: how targets and positions are read, as for `Session.open`.

    Returns:
        The session.

    Raises:
        ValueError: neither a saved session nor an example, or what `Session.open` misses.
        OSError: files that cannot be read.
    """
    folder, own = expanded(name), own or {}
    if (folder / RECIPE).is_file() and not holds_session(folder):
        raise ValueError(
            f"{folder} holds an export or a recipe alone, not a session with its moments; save the session "
            "itself"
        )
    if (folder / RECIPE).is_file():
        own = {key: value for key, value in own.items() if key != "data_name"}
        session = Session.open(folder, **own, metric=metric, classes=classes, mask=mask, progress=progress)
    elif name in example_names():
        if own:
            raise ValueError(
                f"{name} is a built-in example, with its own model and data: give none beside it"
            )
        session = Session.example(name, progress=progress)
    elif folder.exists():
        raise ValueError(f"{folder} is no saved session: it has no {RECIPE}")
    else:
        raise ValueError(
            f"there is no folder {name}, and no example of that name; the examples are "
            f"{', '.join(example_names())}"
        )
    if session.measured:
        session.remeasure(progress)
    else:
        session.measure(progress)
    return session

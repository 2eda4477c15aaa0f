"""The picture of a saved workbench: drawn anew at each save, from the state that the notebook holds.

What a cell shows is fixed when it runs, before anything is measured. What is looked at later (an untrusted
notebook, a page of a repository) should be what the person saw last.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from workbench.widgets.picture import PICTURED, VIEW, line_of, picture_of

STATE = "application/vnd.jupyter.widget-state+json"


def keep_picture(model: dict[str, Any], **_: Any) -> None:
    """Put line and picture of the stored state beside each workbench of a notebook that is being saved.

    A hook of Jupyter's contents manager (`pre_save_hook`). What is no notebook, or holds no state, stays.

    Args:
        model: what is saved; its "content" is changed in place.
    """
    notebook = model.get("content") if model.get("type") == "notebook" else None
    if not notebook:
        return
    models = notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})
    for data in _outputs(notebook):
        values = _values(models.get(data[VIEW].get("model_id", ""), {}))
        if values is None:
            continue
        data["text/plain"] = line_of(values)
        picture = _drawn(_Values(values))
        if picture is not None:
            data["image/png"] = picture


def _outputs(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The data of each output that is a widget."""
    for cell in notebook.get("cells", ()):
        for output in cell.get("outputs", ()):
            if VIEW in output.get("data", {}):
                yield output["data"]


def _values(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the workbench of this model shows; None where it is another widget, or is not stored."""
    values = dict(model.get("state", {}))
    for buffer in model.get("buffers", ()):
        if len(buffer["path"]) == 1:
            values[buffer["path"][0]] = base64.b64decode(buffer["data"])
    values = {name: values[name] or b"" if name in ("spectra", "curve") else values[name]
              for name in PICTURED if name in values}  # fmt: skip
    return values if len(values) == len(PICTURED) else None


class _Values(dict):
    """Values that are known again, so that a notebook is not drawn anew at each of its autosaves."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((self["spectra"], self["curve"], self["lam"], self["selected"], self["position"]))


@lru_cache(maxsize=4)
def _drawn(values: _Values) -> str | None:
    png = picture_of(values)
    return None if png is None else base64.b64encode(png).decode()

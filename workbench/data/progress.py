"""How long work tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int | None, str], Any]


class Cancelled(RuntimeError):  # noqa: N818 (it says what happened, not that something is wrong)
    """The work was cancelled by the person who started it; nothing was changed."""

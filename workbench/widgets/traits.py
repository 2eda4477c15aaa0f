"""Traits that the page shares."""

from __future__ import annotations

from typing import Any

import traitlets as t


def synced(kind: type, default: Any = t.Undefined, **options: Any) -> Any:
    value = kind(**options) if default is t.Undefined else kind(default, **options)
    return value.tag(sync=True)

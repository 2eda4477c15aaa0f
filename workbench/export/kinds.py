"""What a folder holds, a session or an export: both have a recipe, and neither is ever put upon the other."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.export.architecture import ARCHITECTURE, MOMENTS, RECIPE

STORE = "store"  # in a session's recipe: which files its tensors are in
TENSORS = "tensors"  # the folder of these


def holds_session(folder: Path) -> bool:
    """Whether a session was saved there, by this version or an earlier one, or what is left of one."""
    recipe = folder / RECIPE
    if not recipe.is_file():
        return False
    if (folder / MOMENTS).is_file():
        return True
    try:
        found = json.loads(recipe.read_bytes())
    except ValueError:
        return (folder / TENSORS).is_dir()
    return isinstance(found, dict) and STORE in found


def holds_export(folder: Path) -> bool:
    """Whether an export was written there."""
    return (folder / RECIPE).is_file() and (folder / ARCHITECTURE).is_file()

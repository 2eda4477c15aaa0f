"""Where sessions that keep themselves are kept, and how that is switched off."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from workbench.data.durable import expanded

SWITCH = "WORKBENCH_AUTOSAVE"  # of the environment: "off", "on", or the folder of all runs
OFF = ("off", "0", "no", "false")
ON = ("", "on", "1", "yes", "true")


def root_folder(given: bool | str | Path = True) -> Path | None:
    """Where runs are kept: `given`, or what the environment says, or the platform's folder for state.

    None where it is switched off, by False or by the environment.
    """
    said = os.environ.get(SWITCH, "").strip()
    if given is False or (given is True and said.lower() in OFF):
        return None
    if not isinstance(given, bool):
        return expanded(given)
    return (
        expanded(said)
        if said.lower() not in ON
        else Path(platformdirs.user_state_path("spectral-pruning-workbench", False))
    )

"""Whether someone looks on while a cell runs, or a program runs the notebook and takes what is there."""

from __future__ import annotations

import os

from IPython.core.getipython import get_ipython


def is_attended() -> bool:
    """Whether the running cell was sent by a page that a person has before them, or by no kernel at all.

    Every request to run a cell says whether its sender can be asked for input (`allow_stdin`): JupyterLab,
    Notebook, VS Code and the consoles can, nbclient cannot, and with it nbconvert, papermill, Quarto and
    Jupyter Book. Voilà runs cells with nbclient too, for a person who waits for the page: it says so in
    SERVER_SOFTWARE.

    Returns:
        False only where a program runs the cell and nobody can see what comes after it.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return True
    request = kernel.get_parent("shell") or {}
    return request.get("content", {}).get("allow_stdin") is not False

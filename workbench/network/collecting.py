"""Python's collector of garbage kept from what was there before, all of which its full rounds would walk.

Taking a network apart makes many short-lived copies of modules, which set off a full round every few trials.
In a process in which large libraries are loaded one takes a third of a second, as long as many trials.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_new_alone() -> Iterator[None]:
    """Within: the collector passes over all objects that are there now; afterwards it sees them as before.

    Where objects are passed over already, nothing changes: they could not be told apart afterwards.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

"""Ctrl+C at any line leaves the session as before or after, and nothing of the process otherwise."""

import random

import pytest
from surviving import OPERATIONS, interrupted_once, planned

EACH = 1  # lines of each operation; the command tries hundreds


# Where it arrives in a finalizer, Python itself goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_after_ctrl_c_it_goes_on(name, tmp_path):
    draw = random.Random(name)
    moments, after = planned(name, tmp_path, draw)
    heard = 0
    for number, moment in enumerate(moments[:EACH]):
        place, was_heard, wrong = interrupted_once(name, moment, after, tmp_path / f"{number}")
        assert not wrong, f"Ctrl+C at {place}: {wrong}"
        heard += was_heard
    assert heard

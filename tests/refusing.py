"""What strangers' files must meet with: one error that names the file, before memory is taken for it."""

import tracemalloc

import pytest

from workbench.data.bounds import FileError

ENOUGH = 24 << 20  # bytes of Python and NumPy, while a file is refused


def refused(call, words, error=FileError):
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words) as raised:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ENOUGH
    assert len(str(raised.value)) < 1500
    return raised.value

"""A lock that one holds at a time, and JSON that says its own hash."""

import json
import os
import threading

import pytest
from crashes import flipped

from workbench.data.durable import LOCK, FolderInUseError, is_sealed, locked, sealed, write_whole


def test_of_many_threads_one_is_in_at_a_time(tmp_path):
    inside, most, told = [], [], []

    def enter():
        for _ in range(20):
            try:
                with locked(tmp_path, patience=0.02):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except FolderInUseError:
                told.append(1)

    threads = [threading.Thread(target=enter) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(told) == 100
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_went_is_not_held(tmp_path):
    """Who waits may get hold of a file that the one before has just taken away; another makes a new one."""
    with locked(tmp_path):
        os.unlink(tmp_path / LOCK)
        (tmp_path / LOCK).touch()
        with locked(tmp_path, patience=0), pytest.raises(FolderInUseError), locked(tmp_path, patience=0):
            raise AssertionError


def test_every_flip_breaks_a_seal(tmp_path):
    values = {"a": 1.5, "sha": "sha256", "ö": [1, 2, {"e": 1e-05}], "sha256": "before"}
    path = tmp_path / "a.json"
    write_whole(path, sealed(values))
    assert is_sealed(path.read_bytes())
    assert json.loads(path.read_bytes()).keys() == values.keys()
    for bit in range(8 * path.stat().st_size):
        flipped(path, bit)
        assert not is_sealed(path.read_bytes())
        flipped(path, bit)
    assert is_sealed(path.read_bytes())

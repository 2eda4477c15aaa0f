"""A disk that is full, or breaks, whenever it is written to: what was there stays, words name a file."""

import errno
import os
import shutil

import pytest
from full_disk import ERRORS, KINDS, filled, room_for, small_disk
from surviving import grown, held_in, told_of

from workbench.data.durable import write_whole


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("pt2", "onnx")])
def test_what_was_there_stays_and_it_works_with_room(kind, tmp_path):
    for level, (name, number) in zip((1, 3), ERRORS.items(), strict=True):
        home = tmp_path / name
        home.mkdir()
        wrong, done = filled(kind, level, 4, number, home)
        assert not wrong
        assert not done


def test_a_program_on_a_full_disk_is_an_error_and_not_the_end(tmp_path):
    session = grown()
    with room_for(15_000, errno.ENOSPC), pytest.raises(OSError, match=r"model\.pt2"):
        session.export(tmp_path / "out", ("pt2",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", ["session", "pt2"])
def test_free_space_is_looked_at_before(write, tmp_path, monkeypatch):
    session = grown()
    before, free = told_of(session), shutil._ntuple_diskusage(1 << 30, 1 << 30, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: free)
    monkeypatch.setattr(os, "write", lambda *_: pytest.fail("something was written"))
    with pytest.raises(OSError, match=r"no space left.*are needed, and 100 bytes are free") as caught:
        KINDS[write](session, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)
    assert told_of(session) == before


def test_a_disk_that_does_not_say_how_large_it_is_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: shutil._ntuple_diskusage(0, 0, 0))
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def save_often(session, place):
    for number in range(20):
        session.save(place / f"session-{number}")


def test_a_real_disk_that_is_full(tmp_path):
    session, place = grown(), tmp_path / "disk"
    place.mkdir()
    try:
        with small_disk(place, 40_960):
            with pytest.raises(OSError, match=r"\.safetensors|recipe\.json|tensors"):
                save_often(session, place)
            session.save(tmp_path / "whole")
            assert held_in(place / "session-0", "session") == held_in(tmp_path / "whole", "session")
    except PermissionError:  # who may not mount has the other tests
        with room_for(0, errno.ENOSPC), pytest.raises(OSError, match="session"):
            session.save(place / "session")

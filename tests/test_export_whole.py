"""An export is whole at every byte: kills, power cuts, full disks, damaged files, other writers."""

import errno
import os
import random
import shutil
from contextlib import suppress

import pytest
from crashes import Images, before_each, flipped, tree
from exports import as_earlier, small_session
from full_disk import room_for
from labelled import same
from networks import conv_net

import workbench as wb
from workbench.data import durable
from workbench.data.durable import FolderInUseError, locked
from workbench.export import folder as export_module
from workbench.export import placing


@pytest.fixture(autouse=True)
def quick_programs(monkeypatch):
    """A program is a file as any other here."""
    monkeypatch.setattr(export_module, "traced", lambda portable: None)
    monkeypatch.setattr(
        export_module, "write_pt2", lambda portable, program, path: path.write_bytes(b"program" * 99)
    )


def loaded(folder):
    return {key: value.clone() for key, value in wb.load_pruned(conv_net(), folder).state_dict().items()}


def exported(folder):
    """A session one step further than its export in `folder`, which has a program and a file of mine."""
    session = small_session()
    session.undo()
    session.export(folder, formats=("pt2",))
    (folder / "notes.txt").write_text("mine")
    session.redo()
    return session


def test_cut_at_any_moment_it_is_as_before_or_as_after(tmp_path):
    session = exported(tmp_path / "out")
    folder = tmp_path / "out"
    before, old = tree(folder), loaded(folder)
    cuts = Images(folder, tmp_path)
    with cuts.taking():
        session.export(folder)
    after, new = tree(folder), loaded(folder)
    assert len(cuts.killed) > 20
    assert "model.pt2" not in after
    for images_of in (cuts.killed, cuts.cut):
        found = [loaded(image) for image in images_of]
        where = next(index for index, one in enumerate(found) if same(one, new))
        assert all(same(one, old) for one in found[:where])
        assert all(same(one, new) for one in found[where:])
        assert 0 < where < len(found)
        for index, image in enumerate(images_of):  # the opening has put all in place
            assert tree(image) == (before if index < where else after)


def test_what_a_kill_left_is_taken_up_where_nothing_may_be_written(tmp_path, monkeypatch):
    session = exported(tmp_path / "out")
    cuts = Images(tmp_path / "out", tmp_path)
    with cuts.taking():
        session.export(tmp_path / "out")
    new = loaded(tmp_path / "out")
    monkeypatch.setattr(placing, "settle", lambda folder: None)
    monkeypatch.setattr("workbench.export.architecture.settle", lambda folder: None)
    found = [same(loaded(image), new) for image in cuts.killed]
    assert found == sorted(found)
    assert found[-1]


def test_an_export_goes_on_where_another_was_cut(tmp_path):
    session = exported(tmp_path / "out")
    cuts = Images(tmp_path / "out", tmp_path)
    with cuts.taking():
        session.export(tmp_path / "out")
    for image in cuts.killed:
        session.export(image)
        assert tree(image) == tree(tmp_path / "out")


def test_an_export_into_a_new_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    session, home = small_session(), tmp_path / "home"
    home.mkdir()
    cuts = Images(home, tmp_path)
    with cuts.taking():
        session.export(home / "a" / "b")
    whole = tree(home)
    for image in (*cuts.killed, *cuts.cut):
        there = (image / "a" / "b").exists()
        assert not there or tree(image / "a" / "b") == tree(home / "a" / "b")
        session.export(image / "a" / "b")
        assert tree(image) == whole


@pytest.mark.parametrize(
    ("names", "number"), [(["fsync"], errno.EIO), (["replace", "rename"], errno.ENOSPC), (["mkdir"], 28)]
)
def test_a_disk_that_fails_at_any_moment_leaves_the_export_before(tmp_path, names, number):
    session = exported(tmp_path / "out")
    folder, place = tmp_path / "out", 0
    before = tree(folder)
    while True:
        count = [place]

        def fail(*_, count=count):
            count[0] -= 1
            if count[0] == -1:
                raise OSError(number, "no space left")

        with suppress(OSError), before_each(fail, names):
            session.export(folder)
            break
        assert tree(folder) == before
        place += 1
    assert place > 0
    assert "model.pt2" not in tree(folder)


def test_weights_onto_a_full_disk_leave_the_export_before(tmp_path):
    session = exported(tmp_path / "out")
    before = tree(tmp_path)

    with room_for(999, errno.ENOSPC), pytest.raises(OSError, match=r"out/model\.safetensors"):
        session.export(tmp_path / "out")
    assert tree(tmp_path) == before


def test_every_flip_and_every_cut_is_found_and_names_the_file(tmp_path):
    exported(tmp_path)
    draw = random.Random(0)
    for name in ("model.safetensors", "architecture.json", "recipe.json", "model.pt2"):
        whole = (tmp_path / name).read_bytes()
        damages = [whole[:count] for count in (0, 1, len(whole) // 2, len(whole) - 1)] + [whole + b"\0"]
        for damage in (*damages, *(draw.randrange(8 * len(whole)) for _ in range(24))):
            if isinstance(damage, int):
                flipped(tmp_path / name, damage)
            else:
                (tmp_path / name).write_bytes(damage)
            with pytest.raises(ValueError, match=name):
                wb.load_pruned(conv_net(), tmp_path)
            (tmp_path / name).write_bytes(whole)
    (tmp_path / "README.md").write_text("what I know of it")
    (tmp_path / "model.pt2").unlink()
    loaded(tmp_path)


def test_an_export_without_hashes_is_read_as_ever(tmp_path):
    small_session().export(tmp_path)
    expected = loaded(tmp_path)
    as_earlier(tmp_path)
    assert same(loaded(tmp_path), expected)


def test_a_second_writer_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "PATIENCE", 0.1)
    session = exported(tmp_path)
    before, old = tree(tmp_path), loaded(tmp_path)
    with locked(tmp_path):
        with pytest.raises(FolderInUseError, match="being written to by another"):
            session.export(tmp_path)
        assert same(loaded(tmp_path), old)
    assert tree(tmp_path) == before


def test_the_folder_of_a_live_export_is_not_swept_away(tmp_path):
    session = small_session()
    with placing.aside(tmp_path / "a") as made:
        session.export(tmp_path / "b")
        assert made.is_dir()
    left = tmp_path / f".exporting-{16 * 'a'}"
    (left / "made").mkdir(parents=True)
    (tmp_path / ".exporting-mine").mkdir()
    session.export(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".exporting-mine", "b", "c"]


@pytest.mark.parametrize(("umask", "file", "place"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_modes_follow_the_umask(tmp_path, umask, file, place):
    session, before = small_session(), os.umask(umask)
    try:
        session.export(tmp_path / "out", formats=("pt2",))
        shutil.copytree(tmp_path / "out", tmp_path / "again")
        session.export(tmp_path / "again", formats=("pt2",))
    finally:
        os.umask(before)
    for name in ("out", "again"):
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / name).iterdir()} == {file}
    assert (tmp_path / "out").stat().st_mode & 0o777 == place


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    session = small_session()
    session.export("~/out")
    assert same(loaded("~/out"), session.model.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

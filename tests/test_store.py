"""A saved session is whole at every byte: kills, power cuts, full disks, damaged files, other writers."""

import errno
import os
import random
import shutil
from contextlib import suppress

import pytest
from crashes import Images, before_each, flipped, tree
from earlier_layout import save_earlier
from labelled import weights
from stored import equal, first, further, opened, steps_of, values

from workbench.data import blobs
from workbench.session import store
from workbench.session.recipe import RecipeError


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Tensors of a small network lie in files of their own too."""
    monkeypatch.setattr(blobs, "ALONE", 64)


# Kills -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["present", "earlier"])
def test_cut_at_any_moment_of_a_save_it_opens_as_before_or_as_after(tmp_path, layout):
    session, folder = first(), tmp_path / "saved"
    session.save(folder) if layout == "present" else save_earlier(session, folder)
    (folder / "notes.txt").write_text("mine")
    shutil.copytree(folder, tmp_path / "before")
    old = values(folder)
    further(session)
    cuts = Images(folder, tmp_path)
    with cuts.taking():
        session.save(folder)
    shutil.copytree(folder, tmp_path / "after")
    new = values(folder)
    assert len(cuts.killed) > 20
    for images_of in (cuts.killed, cuts.cut):
        found = [values(image) for image in images_of]
        where = next(index for index, one in enumerate(found) if one[1:] == new[1:])
        assert all(one[1:] == old[1:] for one in found[:where])
        assert all(one == new for one in found[where:])
        assert 0 < where < len(found)
        for image in images_of:  # the opening has cleaned
            assert tree(image) in (tree(tmp_path / "before"), tree(tmp_path / "after")) or (
                layout == "earlier" and tree(image).keys() == tree(tmp_path / "after").keys()
            )
    assert equal(steps_of(opened(cuts.killed[0])), steps_of(opened(tmp_path / "before")))
    assert equal(steps_of(opened(cuts.cut[-1])), steps_of(session))


def test_a_first_save_that_is_cut_leaves_nothing_in_the_way(tmp_path):
    session, folder = first(), tmp_path / "saved"
    folder.mkdir()
    cuts = Images(folder, tmp_path)
    with cuts.taking():
        session.save(folder)
    for image in cuts.killed:
        session.save(image)
        assert tree(image) == tree(folder)


# Disks that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "number"), [("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", 0)])
def test_a_disk_that_fails_at_any_moment_leaves_the_save_before(tmp_path, name, number):
    session, folder = first(), tmp_path / "saved"
    session.save(folder)
    (folder / "notes.txt").write_text("mine")
    before, old = tree(folder), values(folder)
    further(session)
    state, recipe = weights(session), session.recipe
    place = 0
    while True:
        count = [place]

        def fail(*_, count=count):
            count[0] -= 1
            if count[0] < 0:  # from here on: a full disk stays full
                raise OSError(number, "no space left")

        with suppress(OSError), before_each(fail, [name]):
            session.save(folder)
            break
        if values(folder) != old:  # the names were not put onto the disk, but they are there
            assert name == "fsync"
            break
        assert tree(folder) == before
        assert session.recipe == recipe
        assert equal({"": weights(session)}, {"": state})
        place += 1
    assert place > 3
    session.save(folder)
    assert equal(steps_of(opened(folder)), steps_of(session))


def test_a_first_save_onto_a_full_disk_leaves_no_folder(tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    with before_each(full, ["write"]), pytest.raises(OSError, match="no space left"):
        first().save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


# Damage ----------------------------------------------------------------------------------------------------


def test_every_flip_and_every_cut_is_found_and_names_the_file(tmp_path):
    session, folder = further(first()), tmp_path / "saved"
    session.save(folder)
    draw = random.Random(0)
    files = [folder / name for name in tree(folder)]
    assert len(files) > 10
    tried = 0
    for path in files:
        whole = path.read_bytes()
        damages = [whole[:count] for count in (0, 1, len(whole) // 2, len(whole) - 1)] + [whole + b"\0", None]
        damages += [draw.randrange(8 * len(whole)) for _ in range(8)]
        for damage in damages:
            if damage is None:
                path.unlink()
            elif isinstance(damage, int):
                flipped(path, damage)
            else:
                path.write_bytes(damage)
            kind = FileNotFoundError if damage is None and path.name == "recipe.json" else RecipeError
            with pytest.raises(kind, match=path.name):
                store.read(folder)
            path.write_bytes(whole)
            tried += 1
    assert tried == 14 * len(files)
    assert equal(steps_of(opened(folder)), steps_of(session))


def test_a_damaged_recipe_is_not_saved_over_and_damaged_tensors_are_mended(tmp_path):
    session = first()
    session.save(tmp_path)
    whole = tree(tmp_path)
    flipped(next((tmp_path / "tensors").iterdir()), 999)
    session.save(tmp_path)
    assert tree(tmp_path) == whole
    flipped(tmp_path / "recipe.json", 999)
    damaged = tree(tmp_path)
    with pytest.raises(ValueError, match=r"recipe\.json.*Name another folder"):
        session.save(tmp_path)
    with pytest.raises(RecipeError, match=r"recipe\.json"):
        opened(tmp_path)
    assert tree(tmp_path) == damaged


def test_a_network_that_its_steps_do_not_lead_to_is_refused(tmp_path):
    """What is cut out of a network might not be the same in another version."""
    session = first()
    session.save(tmp_path)
    saved = store.read(tmp_path)
    branch = saved.branches[0]
    object.__setattr__(branch, "changed", [{}])
    store.write(saved, tmp_path)
    with pytest.raises(RecipeError, match="cannot be opened: what the steps of branch 'main' lead to"):
        opened(tmp_path)


# What is written -------------------------------------------------------------------------------------------


def written_by(work):
    count = []
    with before_each(lambda name, args: count.append(len(args[1])), ["write"]):
        work()
    return sum(count)


def test_a_second_save_writes_what_changed_alone(tmp_path):
    session = first()
    all_of_it = written_by(lambda: session.save(tmp_path))
    recipe = (tmp_path / "recipe.json").stat().st_size
    assert written_by(lambda: session.save(tmp_path)) == recipe
    there = {path.name for path in (tmp_path / "tensors").iterdir()}
    session.commit(session.preview("fc1", width=7))
    count = written_by(lambda: session.save(tmp_path))
    new = [path for path in (tmp_path / "tensors").iterdir() if path.name not in there]
    recipe = (tmp_path / "recipe.json").stat().st_size
    assert count == recipe + sum(path.stat().st_size for path in new)
    changed = session._history.line.changed(session.position)[-1]
    assert set(changed) == {"fc2.weight"}
    assert count - recipe < sum(tensor.nbytes for tensor in changed.values()) + 300 * len(new)
    assert count - recipe < all_of_it / 20
    session.measure_gradients()  # writes a number a unit, but no moment again
    count = written_by(lambda: session.save(tmp_path))
    assert count - (tmp_path / "recipe.json").stat().st_size < all_of_it / 5


def test_branches_share_what_they_have_in_common(tmp_path):
    session = further(first())
    session.save(tmp_path / "a")
    session.switch("thin")
    session.fork("same as thin")
    session.save(tmp_path / "b")
    names = [{path.name for path in (tmp_path / name / "tensors").iterdir()} for name in "ab"]
    assert names[0] == names[1]


@pytest.mark.parametrize(("umask", "file", "place"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_modes_follow_the_umask(tmp_path, umask, file, place):
    session, before = first(), os.umask(umask)
    try:
        session.save(tmp_path / "saved")
    finally:
        os.umask(before)
    found = [path.stat().st_mode & 0o777 for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert set(found) == {file}
    assert {(tmp_path / "saved" / name).stat().st_mode & 0o777 for name in (".", "tensors")} == {place}

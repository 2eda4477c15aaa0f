"""Who has a folder open: told to the next one, taken over, free where a process has ended."""

import json
import signal
import warnings

import pytest
from another_notebook import Other
from labelled import TARGETS
from networks import conv_net, images
from stored import equal, first, further, opened, steps_of

from workbench.data.claims import OPEN, OWNER, claim, in_use, is_open
from workbench.data.durable import FolderInUseError
from workbench.session import place
from workbench.session.session import Session


@pytest.fixture
def other():
    one = Other()
    yield one
    if one.process.returncode is None:
        one.end()


def test_the_second_is_told_and_opens_read_only(tmp_path, other):
    folder = tmp_path / "both"
    assert other.does(f"session = first(); session.save({str(folder)!r})") == "done"
    assert in_use(folder).process == other.process.pid
    with pytest.warns(UserWarning, match="open in another notebook.*read-only"):
        mine = opened(folder)
    assert equal(steps_of(mine), steps_of(first()))
    assert "read-only" in mine.read_only
    before = (folder / "recipe.json").read_bytes()
    with pytest.raises(FolderInUseError, match="is open in another notebook"):
        mine.save(folder)
    assert (folder / "recipe.json").read_bytes() == before
    mine.save(tmp_path / "elsewhere")
    assert not mine.read_only
    assert other.does(f"further(session); session.save({str(folder)!r})") == "done"


def test_it_may_take_over_and_the_first_is_told(tmp_path, other):
    folder = tmp_path / "both"
    assert other.does(f"session = first(); session.save({str(folder)!r})") == "done"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = [(images(64), TARGETS)]
        mine = Session.open(folder, conv_net(), data, data, take_over=True)
    assert not mine.read_only
    mine.commit(mine.preview("fc1", width=7))
    mine.save(folder)
    saved = (folder / "recipe.json").read_bytes()
    assert "was taken over by another notebook" in other.does(f"session.save({str(folder)!r})")
    assert (folder / "recipe.json").read_bytes() == saved
    assert other.does(f"session.save({str(folder)!r}, take_over=True)") == "done"
    with pytest.raises(FolderInUseError, match="taken over"):
        mine.save(folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_has_ended_holds_nothing(tmp_path, other, how):
    assert other.does(f"session = first(); session.save({str(tmp_path)!r})") == "done"
    other.end(how)
    assert in_use(tmp_path) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = opened(tmp_path)
    mine.save(tmp_path)
    names = [path.name for path in tmp_path.iterdir() if path.name.startswith(OPEN)]
    assert len(names) == 1  # its own alone: what the other left is away


def test_what_was_saved_after_it_was_opened_read_only_is_not_replaced(tmp_path, other, nothing_written):
    assert other.does(f"session = first(); session.save({str(tmp_path)!r})") == "done"
    with pytest.warns(UserWarning, match="read-only"):
        mine = opened(tmp_path)
    assert other.does(f"further(session); session.save({str(tmp_path)!r})") == "done"
    other.end()
    with pytest.raises(FolderInUseError, match="saved by another notebook"):
        mine.save(tmp_path)
    assert equal(steps_of(opened(tmp_path)), steps_of(further(first())))
    mine.save(tmp_path, take_over=True)
    assert equal(steps_of(opened(tmp_path)), steps_of(first()))


def test_sessions_of_one_process_are_one_persons(tmp_path):
    a, b = first(), further(first())
    for session in (a, b, a):
        session.save(tmp_path)
    assert equal(steps_of(opened(tmp_path)), steps_of(a))
    assert is_open(tmp_path)
    assert in_use(tmp_path) is None


def test_a_session_that_goes_leaves_nothing_in_its_folder(tmp_path):
    import gc

    session = first()
    session.save(tmp_path / "one")
    session.save(tmp_path / "two")
    assert not is_open(tmp_path / "one")
    assert is_open(tmp_path / "two")
    del session
    gc.collect()
    for name in ("one", "two"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["recipe.json", "tensors"]


def test_what_a_stranger_wrote_there_is_nobody(tmp_path, other):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("../victim", "0" * 16, 3, None):
        (folder / OWNER).write_text(json.dumps({"name": name, "process": 1, "host": "h", "since": 0.0}))
        assert in_use(folder) is None
    link = folder / f"{OPEN}{'0' * 16}"
    link.symlink_to(victim)
    (folder / OWNER).write_text(json.dumps({"name": "0" * 16, "process": 1, "host": "h", "since": 0.0}))
    assert in_use(folder) is None
    assert claim(folder) is not None
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("error", [NotImplementedError("no flock here"), OSError(37, "No locks available")])
def test_a_disk_without_locks_saves_and_opens_all_the_same(tmp_path, monkeypatch, error):
    from filelock import FileLock

    def refuse(*args, **options):
        raise error

    session = first()
    monkeypatch.setattr(FileLock, "acquire", refuse)
    session.save(tmp_path)
    assert in_use(tmp_path) is None
    assert equal(steps_of(opened(tmp_path)), steps_of(session))


@pytest.fixture
def nothing_written(monkeypatch):
    """As if this process had saved nothing yet: what tests make is the same to the bit in every process."""
    monkeypatch.setattr(place, "_written", set())


def test_what_another_saved_meanwhile_is_not_saved_over(tmp_path, other, nothing_written):
    mine = first()
    mine.save(tmp_path)
    folder = repr(str(tmp_path))
    # It takes over, saves, and goes: nobody has the folder open now, but what is there is not what was here.
    assert other.does(f"session = opened({folder}); session.save({folder}, take_over=True)") == "done"
    assert other.does(f"further(session); session.save({folder})") == "done"
    other.end()
    there = (tmp_path / "recipe.json").read_bytes()
    assert in_use(tmp_path) is None
    with pytest.raises(FolderInUseError, match="saved by another notebook"):
        mine.save(tmp_path)
    assert (tmp_path / "recipe.json").read_bytes() == there
    assert equal(steps_of(opened(tmp_path)), steps_of(further(first())))
    mine.save(tmp_path, take_over=True)
    mine.commit(mine.preview("fc1", width=7))
    mine.save(tmp_path)


def test_one_that_takes_over_while_it_is_saved_is_not_saved_over(tmp_path, other, monkeypatch):
    mine = first()
    mine.save(tmp_path)
    stock = Session.saved
    folder = repr(str(tmp_path))

    def slow(session, *args):
        saved = stock(session, *args)
        other.does(f"session = opened({folder}); session.save({folder}, take_over=True)")
        return saved

    monkeypatch.setattr(Session, "saved", slow)
    with pytest.raises(FolderInUseError, match="taken over"):
        mine.save(tmp_path)


def test_it_is_opened_as_it_was_read_also_where_it_is_saved_in_between(
    tmp_path, other, nothing_written, monkeypatch
):
    folder = repr(str(tmp_path))
    assert other.does(f"session = first(); session.save({folder})") == "done"
    stock = Session.claim

    def late(session, *args):
        other.does(f"further(session); session.save({folder})")
        return stock(session, *args)

    monkeypatch.setattr(Session, "claim", late)
    data = [(images(64), TARGETS)]
    mine = Session.open(tmp_path, conv_net(), data, data, take_over=True)
    assert len(mine.history) == 2
    with pytest.raises(FolderInUseError, match="saved by another notebook"):
        mine.save(tmp_path)


def test_a_claim_is_not_lost_where_others_look_at_it(tmp_path, monkeypatch):
    from filelock import FileLock, Timeout

    stock, tried = FileLock.acquire, []

    def looked_at(lock, *args, **options):
        tried.append(lock.lock_file)
        if len(tried) == 1:
            raise Timeout(lock.lock_file)
        return stock(lock, *args, **options)

    monkeypatch.setattr(FileLock, "acquire", looked_at)
    mine = claim(tmp_path)
    assert mine is not None
    assert is_open(tmp_path)


def test_a_claim_is_of_the_folder_wherever_the_process_goes(tmp_path, monkeypatch):
    (tmp_path / "both").mkdir()
    monkeypatch.chdir(tmp_path)
    session = first()
    session.save("both")
    monkeypatch.chdir("/")
    session.save(tmp_path / "both")
    session.save(tmp_path / "next")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["recipe.json", "tensors"]


@pytest.mark.parametrize("since", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_time_that_is_none_is_nobodys(tmp_path, since):
    from filelock import FileLock

    owner = {"name": "0" * 16, "process": 1, "host": "h", "since": since}
    (tmp_path / OWNER).write_text(json.dumps(owner))
    with FileLock(tmp_path / f"{OPEN}{'0' * 16}"):
        found = in_use(tmp_path)
        assert found is None or "process 1" in str(found)

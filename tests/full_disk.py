"""A disk that has room for so many bytes, or breaks behind them; and every kind of file that is written."""

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from crashes import tree
from surviving import grown, held_in, measured

from workbench.data.claims import OPEN, OWNER
from workbench.export import folder as exporting
from workbench.page.writing import write_page
from workbench.session.autosave import Autosave
from workbench.session.runs import runs
from workbench.widgets.compare_tab import write_comparison

WHO = shutil.ignore_patterns(f"{OPEN}*", OWNER)  # who has a folder open: may go at any moment


@contextmanager
def room_for(count, number, told=None):
    """Within: `os.write` takes `count` bytes in all and then fails with `number`; `told` notes it.

    As a real disk does, it takes the first part of what no longer fits.
    """
    stock, left = os.write, [count]

    def write(handle, content):
        if left[0] <= 0:
            raise OSError(number, os.strerror(number))
        done = stock(handle, memoryview(content)[: left[0]])
        left[0] -= done
        if told is not None:
            told.append(done)
        return done

    os.write = write
    try:
        yield
    finally:
        os.write = stock


@contextmanager
def small_disk(place, size):
    """Within: `place` is a file system of its own, `size` bytes in memory. PermissionError: none may be."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        raise OSError(errno.EPERM, made.stderr.decode())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _page(session, folder):
    write_page(session, folder / "page.html", replace=True)


def _compared(session, folder):
    comparison = session.compare({"0": 3, "4": 4}, ("greedy",), ("none",))
    return lambda _session, place: write_comparison(comparison, session.macs, place)


def _kept(session, folder):
    words = []
    saves = Autosave(session, folder, trouble=words.append)
    saves.wait()
    saves.close()
    if words and words[-1]:
        raise OSError(errno.ENOSPC, words[-1])


def _exported(kind):
    def write(session, folder):
        session.export(folder / "out", (kind,))

    return write


KINDS = {  # (session, folder): writes one of its kind
    "session": lambda session, folder: session.save(folder / "session"),
    "autosave": _kept,
    "safetensors": _exported("safetensors"),
    "pt2": _exported("pt2"),
    "onnx": _exported("onnx"),
    "comparison": None,
    "page": _page,
}
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


def writer_of(kind, session):
    return _compared(session, None) if kind == "comparison" else KINDS[kind]


@contextmanager
def traced_once():
    """Within: one network is traced once, however often it is written."""
    stock, known = exporting.traced, {}

    def once(portable):
        key = tuple((name, t.numpy().tobytes()) for name, t in portable.model.state_dict().items())
        if key not in known:
            known[key] = stock(portable)
        return known[key]

    exporting.traced = once
    try:
        yield
    finally:
        exporting.traced = stock


def bytes_of(kind, session, folder):
    """What one of its kind writes."""
    told = []
    with room_for(1 << 40, errno.ENOSPC, told):
        writer_of(kind, session)(session, folder)
    return sum(told)


def files_in(folder):
    """The files that somebody would find; locks and what says who is there are none of them."""
    return {name: content for name, content in tree(folder).items() if not name.endswith(".lock")}


def filled(kind, level, levels, number, home):
    """One of its kind written where there is room for the share level / levels of it, beside an earlier one.

    Returns what is wrong, in words, and whether it was written.
    """
    earlier, later = measured(), grown()
    before, after = home / "before", home / "after"
    before.mkdir()
    writer_of(kind, earlier)(earlier, before)
    shutil.copytree(before, after, ignore=WHO)
    needed, was = bytes_of(kind, later, after), files_in(before)
    write, wrong = writer_of(kind, later), []
    try:
        with room_for(needed * level // levels, number):
            write(later, before)
        done = True
    except OSError as error:
        done = False
        if not _names_a_file(str(error), before):
            wrong.append(f"names no file: {error}")
    now = files_in(before)
    if not done and now != was and kind != "autosave":
        wrong.append(f"left {sorted(now.keys() ^ was.keys())}, changed {_changed(was, now)}")
    if kind == "autosave" and not all(run.steps for run in runs(before)):
        wrong.append("a run that does not open")
    if not done:
        write(later, before)
    if kind == "session" and held_in(before / "session", "session") != held_in(after / "session", "session"):
        wrong.append("then another session")
    return wrong, done


def _changed(was, now):
    return [name for name in was.keys() & now.keys() if was[name] != now[name]]


def _names_a_file(words, folder):
    return str(folder) in words and Path(words[words.index(str(folder)) :].split("'")[0]).name != folder.name

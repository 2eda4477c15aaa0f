"""What a folder would look like if the process, or the power, were cut at any moment of a piece of work."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from workbench.data.claims import OPEN, OWNER

OPERATIONS = ("replace", "rename", "fsync", "write", "unlink", "rmdir", "mkdir")


@contextmanager
def before_each(act, names=OPERATIONS):
    """Call `act(name, arguments)` before each of these functions of `os` is; it may raise."""
    stock = {name: getattr(os, name) for name in names}

    def watched(name):
        def run(*args, **options):
            act(name, args)
            return stock[name](*args, **options)

        return run

    for name in names:
        setattr(os, name, watched(name))
    try:
        yield
    finally:
        for name, function in stock.items():
            setattr(os, name, function)


class Images:
    """Copies of `folder`, one before every operation: as a killed process leaves it, and as a power cut does.

    A power cut takes away every name and every content that was not put onto the disk by `fsync`.
    """

    def __init__(self, folder, out):
        self.folder, self.out = folder, out
        self.killed, self.cut = [], []
        self.contents = {}  # inode → what is on the disk
        self.names = {}  # inode of a folder → {name: content, or the inode of a folder}
        self._busy = False
        paths = [folder, *folder.rglob("*")]
        for path in sorted(paths, key=Path.is_dir):  # files first
            self._synced(path)

    def taking(self):
        return before_each(self.take)

    def take(self, name, args):
        """One image of each kind; of a write, one with the first half of it too."""
        if self._busy:
            return
        self._busy = True
        try:
            if name == "mkdir" or (name == "write" and not self._is_inside(args[0])):
                return
            self._take()
            if name == "write":
                handle, content = args[0], bytes(args[1])
                place = os.lseek(handle, 0, os.SEEK_CUR)
                os.pwrite(handle, content[: len(content) // 2], place)
                self._take()
                os.ftruncate(handle, place)
            if name == "fsync":
                self._synced_handle(args[0])
        finally:
            self._busy = False

    def _take(self):
        number = f"{len(self.killed):03}"
        shutil.copytree(self.folder, self.out / f"killed-{number}")
        self.killed.append(self.out / f"killed-{number}")
        cut = self.out / f"cut-{number}"
        self._put(cut, self.folder.stat().st_ino)
        self.cut.append(cut)

    def _put(self, place, number):
        place.mkdir()
        for name, held in self.names.get(number, {}).items():
            if isinstance(held, bytes):
                (place / name).write_bytes(held)
            else:
                self._put(place / name, held)

    def _is_inside(self, handle):
        return os.fstat(handle).st_ino in {path.stat().st_ino for path in self.folder.rglob("*")}

    def _synced_handle(self, handle):
        number = os.fstat(handle).st_ino
        for path in [self.folder, *self.folder.rglob("*")]:
            if path.stat().st_ino == number:
                self._synced(path)

    def _synced(self, path):
        if path.is_dir():
            self.names[path.stat().st_ino] = {
                one.name: one.stat().st_ino if one.is_dir() else self.contents.get(one.stat().st_ino, b"")
                for one in path.iterdir()
            }
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()


def tree(folder):
    """Every file in a folder, with its content, but for what says who has it open."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((OWNER, OPEN)))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(content))

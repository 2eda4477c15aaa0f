"""What a folder would look like if the process, or the power, were cut at any moment of a piece of work."""

import os
import shutil
from contextlib import contextmanager

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
        self.names = {}  # folder → {name: content}
        self._busy = False
        for path in [folder, *folder.rglob("*")]:
            self._synced(path)
        for path in [folder, *folder.rglob("*")]:
            self._synced(path)  # folders once more, now that their files are known

    def taking(self):
        return before_each(self.take)

    def take(self, name, args):
        """One image of each kind; of a write, one with the first half of it too."""
        if self._busy:
            return
        self._busy = True
        try:
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
        for place, files in self.names.items():
            (cut / place.relative_to(self.folder)).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (cut / place.relative_to(self.folder) / name).write_bytes(content)
        self.cut.append(cut)

    def _synced_handle(self, handle):
        number = os.fstat(handle).st_ino
        for path in [self.folder, *self.folder.rglob("*")]:
            if path.stat().st_ino == number:
                self._synced(path)

    def _synced(self, path):
        if path.is_dir():
            files = [one for one in path.iterdir() if one.is_file()]
            self.names[path] = {one.name: self.contents.get(one.stat().st_ino, b"") for one in files}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()


def tree(folder):
    """Every file in a folder, with its content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(content))

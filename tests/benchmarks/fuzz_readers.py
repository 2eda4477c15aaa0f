"""Every reader of files that strangers may send: files that it reads, how they are damaged, how it reads."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
import numpy as np
import results  # noqa: F401 (puts the tests' helpers onto the path)
import torch
from earlier_layout import save_earlier
from exports import as_earlier
from networks import conv_net, images
from PIL import Image
from safetensors.torch import save_file
from saved_sessions import FOLDER, small
from sessions import TARGETS

from workbench.data.blobs import SUFFIX
from workbench.data.checkpoints import load_checkpoint
from workbench.data.claims import OPEN, OWNER
from workbench.data.durable import SEAL, digest, sealed
from workbench.data.loading import load_data
from workbench.data.plain_json import parsed
from workbench.examples.cifar import read_cifar_batch
from workbench.export.architecture import load_pruned
from workbench.session import store
from workbench.session.recipe import read_recipe
from workbench.session.session import Session
from workbench.tuning.settings import Tuning

LIMIT = 3  # examples that are asked for


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes real files; `read(folder)` reads them; `change(path)`: how a file is damaged.

    `share`: of all inputs, beside the others. `again(folder, path, content)` writes a damaged file where
    its own hash is said elsewhere.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    change: mutations.Mutation | None = None
    share: float = 1.0
    again: Callable[[Path, Path, bytes], None] | None = None

    def mutation(self, path: Path) -> mutations.Mutation:
        if self.change is not None:
            return self.change
        kinds = {".json": mutations.json_text, SUFFIX: mutations.safetensors}
        return kinds.get(path.suffix, mutations.bytewise)


@cache
def worked_on() -> Session:
    """A small session with a commit, a fine-tuning, a refit and a second branch."""
    x = images(32)
    session = Session(conv_net(), [(x, TARGETS[:32])], [(x, TARGETS[:32])])
    session.measure()
    session.commit(session.preview("conv2", width=6))
    session.fork("thin")
    session.finetune(tuning=Tuning(steps=1))
    session.refit()
    session.switch("main")
    return session


def resealed(folder: Path, path: Path, content: bytes) -> None:
    """Write a file of a session that is damaged, with hashes and seal as if it were right."""
    recipe = (folder / "recipe.json").read_text()
    if path.suffix == SUFFIX:
        name = digest(content)
        (path.parent / f"{name}{SUFFIX}").write_bytes(content)
        recipe = recipe.replace(path.stem, name)
    else:
        recipe = content.decode("utf-8", "surrogateescape")
    try:
        values = json.loads(recipe)
        recipe_bytes = sealed({key: one for key, one in values.items() if key != SEAL})
    except (ValueError, AttributeError, RecursionError):
        recipe_bytes = recipe.encode("utf-8", "surrogatepass" if path.suffix == SUFFIX else "surrogateescape")
    (folder / "recipe.json").write_bytes(recipe_bytes)


def _exported(folder: Path, whole: bool = False) -> None:
    worked_on().export(folder)
    if not whole:
        as_earlier(folder)
        for name in ("README.md", "recipe.json"):
            (folder / name).unlink()


def _weights(folder: Path) -> None:
    save_file(dict(conv_net(3).state_dict()), folder / "w.safetensors")


def _torch(folder: Path, new: bool) -> None:
    held = {"state_dict": dict(conv_net(3).state_dict()), "epoch": 3, "args": {"lr": 0.1, "name": "a"}}
    torch.save(held, folder / "w.pt", _use_new_zipfile_serialization=new)


def _picture(kind: str, size: tuple[int, int, int] = (16, 12, 3)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 255, size, dtype=np.uint8)).save(out, kind)
    return out.getvalue()


PICTURES = {"a/1.jpg": "JPEG", "a/2.png": "PNG", "b/3.bmp": "BMP", "b/4.webp": "WEBP", "b/5.ppm": "PPM"}


def _pictures(folder: Path) -> None:
    for name, kind in PICTURES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_picture(kind))


def _zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in list(PICTURES.items())[:3]:
            archive.writestr(name, _picture(kind))


def _idx(folder: Path, packed: bool) -> None:
    inputs = bytes((0, 0, 8, 3)) + struct.pack(">3I", 7, 5, 3) + bytes(range(105))
    labels = bytes((0, 0, 8, 1)) + struct.pack(">I", 7) + bytes(7)
    for name, content in (("train-images-idx3-ubyte", inputs), ("train-labels-idx1-ubyte", labels)):
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


def _arrays(folder: Path, name: str) -> None:
    x, y = np.arange(84, dtype=np.float32).reshape(7, 12), np.arange(7)
    if name == "x.npy":
        np.save(folder / name, x)
    else:
        np.savez_compressed(folder / name, x=x, y=y)


def _cifar(folder: Path) -> None:
    batch = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2, 3], b"batch_label": b"one"}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))


def _opened(folder: Path) -> Any:
    model, x, y = small()
    return Session.open(folder, model, [(x, y)])


def _recipe(folder: Path) -> None:
    (folder / "recipe.json").write_text(json.dumps(worked_on().recipe))


def _options(folder: Path) -> None:
    (folder / "it.json").write_text('{"classes": 10, "sizes": [1, 2], "name": {"a": 1.5}}')


def _copied(folder: Path, which: str) -> None:
    shutil.copytree(FOLDER / which, folder, dirs_exist_ok=True)


READERS = {
    "recipe.json": Reader(_recipe, lambda at: read_recipe(at / "recipe.json"), share=3),
    "options in JSON": Reader(
        _options, lambda at: parsed((at / "it.json").read_bytes(), str(at / "it.json")), share=2
    ),
    "session, hashes put right": Reader(lambda at: worked_on().save(at), store.read, share=2, again=resealed),
    "session of the version before": Reader(lambda at: save_earlier(worked_on(), at) and None, store.read),
    "session of 0.1.0": Reader(partial(_copied, which="first"), store.read),
    "session opened whole": Reader(partial(_copied, which="second"), _opened, share=0.03),
    "export": Reader(_exported, lambda at: load_pruned(conv_net(), at), share=0.5),
    "weights, safetensors": Reader(_weights, lambda at: load_checkpoint(conv_net(), at / "w.safetensors")),
    "weights, torch": Reader(
        partial(_torch, new=True),
        lambda at: load_checkpoint(conv_net(), at / "w.pt"),
        mutations.zipped(mutations.bytewise),
    ),
    "weights, torch before 1.6": Reader(
        partial(_torch, new=False), lambda at: load_checkpoint(conv_net(), at / "w.pt"), mutations.headed
    ),
    "npy": Reader(
        partial(_arrays, name="x.npy"), lambda at: load_data(at / "x.npy", limit=LIMIT), mutations.npy, 2
    ),
    "npz": Reader(
        partial(_arrays, name="x.npz"),
        lambda at: load_data(at / "x.npz", limit=LIMIT),
        mutations.zipped(mutations.npy),
        2,
    ),
    "IDX": Reader(partial(_idx, packed=False), lambda at: load_data(at, limit=LIMIT), mutations.headed, 2),
    "IDX in gzip": Reader(
        partial(_idx, packed=True), lambda at: load_data(at, limit=LIMIT), mutations.gzipped
    ),
    "folder of images": Reader(_pictures, lambda at: load_data(at, limit=LIMIT), mutations.headed, 2),
    "zip of images": Reader(
        _zip, lambda at: load_data(at / "photos.zip", limit=LIMIT), mutations.zipped(mutations.headed), 2
    ),
    "CIFAR-10 batch": Reader(_cifar, lambda at: read_cifar_batch(at / "test_batch"), mutations.headed),
}
SEALED = {
    "session": Reader(lambda at: worked_on().save(at), store.read),
    "export": Reader(partial(_exported, whole=True), lambda at: load_pruned(conv_net(), at)),
}


def files_of(folder: Path) -> list[Path]:
    """The files that a reader reads; what an export says to people apart."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return sorted(path for path in files if not path.name.startswith((OWNER, OPEN)))  # who has it open


def damaged(content: bytes, draw: random.Random) -> bytes:
    """One bit flipped, or the end cut off."""
    if draw.random() < 0.3:
        return content[: draw.randrange(len(content))]
    out = bytearray(content)
    out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)

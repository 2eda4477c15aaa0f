"""Small files in every form in which the data sets come."""

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.examples.datasets import CIFAR10_CLASSES

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing answers there


def idx(array: np.ndarray) -> bytes:
    """An array as the bytes of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(numbers, stem: str = "t10k", count: int = 23) -> dict[str, bytes]:
    pixels = numbers.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    return {f"{stem}-images-idx3-ubyte": idx(pixels), f"{stem}-labels-idx1-ubyte": idx(labels)}


def write_files(folder: Path, files: dict[str, bytes], compress: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)


def picture(numbers, size: int = 32, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(numbers.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def image_files(numbers, per_class: int = 3, suffix: str = "png") -> dict[str, bytes]:
    return {
        f"{split}/{kind}/{number:04}.{suffix}": picture(numbers)
        for split in ("train", "test")
        for kind in CIFAR10_CLASSES
        for number in range(per_class)
    }


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def batch(numbers, count: int = 17) -> dict:
    data = numbers.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {b"data": data, b"labels": [number % 10 for number in range(count)], b"batch_label": b"one"}


def write_batches(folder: Path, numbers) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch(numbers), protocol=2))

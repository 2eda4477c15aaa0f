"""Data sets: every form they come in, every way a file can be wrong, downloads from our own server."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data.arrays import read_idx
from workbench.data.image_trees import LARGEST_FILE
from workbench.data.progress import Cancelled
from workbench.examples import datasets
from workbench.examples.cifar import read_cifar_batch
from workbench.examples.datasets import CIFAR10_CLASSES, DATA_VARIABLE, load_cifar10, load_digits, load_mnist
from workbench.examples.download import DownloadError, fetch, unpack

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing answers there


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """An empty folder that WORKBENCH_DATA names; the cache is an absent one beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(13)


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


class TestDigits:
    def test_splits_are_fixed_disjoint_and_stratified(self):
        train, test = load_digits("train"), load_digits("test")
        assert len(train) + len(test) == 1797
        assert len(test) == 450
        shares = torch.bincount(test.labels) / torch.bincount(torch.cat([train.labels, test.labels]))
        torch.testing.assert_close(shares, torch.full((10,), 0.25), atol=0.01, rtol=0)
        torch.testing.assert_close(load_digits("test").pixels, test.pixels)
        seen = {image.numpy().tobytes() for image in train.pixels}
        assert not any(image.numpy().tobytes() in seen for image in test.pixels)

    def test_pixels_and_classes(self):
        images = load_digits("train", per_class=7)
        assert images.pixels.shape == (70, 1, 8, 8)
        assert images.pixels.dtype == torch.uint8
        assert int(images.pixels.max()) == 16
        assert torch.bincount(images.labels).tolist() == [7] * 10
        assert images.classes == tuple("0123456789")

    @pytest.mark.parametrize("load", [load_digits, load_mnist, load_cifar10])
    def test_an_unknown_split_is_refused(self, load):
        with pytest.raises(ValueError, match="'validation', expected 'train' or 'test'"):
            load("validation")


class TestMnist:
    @pytest.mark.parametrize("layout", ["MNIST/raw", "MNIST", "."])
    @pytest.mark.parametrize("compress", [False, True])
    def test_every_layout_is_found(self, data, numbers, layout, compress):
        files = mnist_files(numbers)
        write_files(data / layout, files, compress)
        images = load_mnist("test", base_url=NOWHERE)
        assert images.pixels.shape == (23, 1, 28, 28)
        assert images.pixels.numpy().tobytes() == files["t10k-images-idx3-ubyte"][16:]
        assert images.labels.tolist() == [number % 10 for number in range(23)]

    def test_images_and_labels_come_from_one_folder(self, data, numbers):
        write_files(data / "MNIST" / "raw", mnist_files(numbers))
        (data / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
        write_files(data, mnist_files(numbers, count=31))
        assert len(load_mnist("test", base_url=NOWHERE)) == 31

    def test_first_of_every_class(self, data, numbers):
        write_files(data, mnist_files(numbers, "train"))
        whole, part = load_mnist("train"), load_mnist("train", per_class=2)
        assert part.labels.tolist() == [*range(10), *range(10)]
        assert torch.equal(part.pixels, whole.pixels[:20])

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda content: b"", "starts with nothing"),
            (lambda content: b"\x00\x00\x0d" + content[3:], "starts with 00000d03"),
            (lambda content: content[:9], "ends within its header"),
            (lambda content: content[:-5], r"asks for 18048"),
            (lambda content: content + b"x", r"asks for 18048"),
        ],
    )
    def test_a_malformed_file_is_named(self, data, numbers, spoil, message):
        files = mnist_files(numbers)
        files["t10k-images-idx3-ubyte"] = spoil(files["t10k-images-idx3-ubyte"])
        write_files(data, files)
        with pytest.raises(ValueError, match=f"t10k-images-idx3-ubyte.*{message}"):
            load_mnist("test")

    @pytest.mark.parametrize("cut", [5, 400, -3])
    def test_a_cut_gzip_file_is_named(self, tmp_path, cut):
        path = tmp_path / "images.gz"
        path.write_bytes(
            gzip.compress(idx(np.zeros((3, 5, 7), np.uint8)))[:cut] if cut != 400 else b"no gzip"
        )
        with pytest.raises(ValueError, match=r"images\.gz is not a whole gzip file"):
            read_idx(path, 3)

    def test_another_number_of_labels_is_refused(self, data, numbers):
        write_files(data, mnist_files(numbers))
        (data / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(22, np.uint8)))
        with pytest.raises(ValueError, match=r"has 23 images, but .*t10k-labels-idx1-ubyte has 22 labels"):
            load_mnist("test")

    def test_labels_and_image_sizes_are_checked(self, data, numbers):
        write_files(data, mnist_files(numbers))
        (data / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(23, 10, np.uint8)))
        with pytest.raises(ValueError, match="labels from 0 to 9"):
            load_mnist("test")
        (data / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((23, 29, 28), np.uint8)))
        with pytest.raises(ValueError, match=r"shape \(29, 28\), expected \(28, 28\)"):
            load_mnist("test")


class TestCifarBatches:
    @pytest.mark.parametrize("layout", ["cifar-10-batches-py", "."])
    def test_batches_are_read_in_order(self, data, numbers, layout):
        write_batches(data / layout, numbers)
        train, test = load_cifar10("train", base_url=NOWHERE), load_cifar10("test", base_url=NOWHERE)
        assert train.pixels.shape == (5 * 17, 3, 32, 32)
        assert test.pixels.shape == (17, 3, 32, 32)
        first = read_cifar_batch(data / layout / "data_batch_1")[0]
        assert np.array_equal(train.pixels[:17].numpy(), first)
        assert torch.bincount(load_cifar10("train", per_class=3).labels).tolist() == [3] * 10

    @pytest.mark.parametrize("protocol", [2, 3, 4])
    def test_pixels_are_planes_of_a_row(self, tmp_path, numbers, protocol):
        content = batch(numbers)
        path = tmp_path / "data_batch_1"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        pixels, labels = read_cifar_batch(path)
        assert np.array_equal(pixels[5, 2, 11], content[b"data"][5, 2 * 1024 + 11 * 32 :][:32])
        assert labels.tolist() == content[b"labels"]

    def test_a_pickle_as_python_2_wrote_it(self, tmp_path):
        raw = bytes(range(256)) * 12
        path = tmp_path / "test_batch"
        # Opcodes of cPickle, protocol 2: byte strings (U, T), numpy's old module path, BUILD (b).
        path.write_bytes(
            b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + raw + b"tb"
            b"U\x06labels](K\x07eu."
        )
        pixels, labels = read_cifar_batch(path)
        assert pixels.tobytes() == raw
        assert labels.tolist() == [7]

    def test_a_pickle_that_runs_code_is_refused(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "sprung"),)

        path = tmp_path / "data_batch_1"
        path.write_bytes(pickle.dumps({b"data": Trap(), b"labels": []}))
        with pytest.raises(
            ValueError, match=r"data_batch_1 is not a CIFAR-10 python batch.*mkdir.*not admitted"
        ):
            read_cifar_batch(path)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        "odd",
        [
            np.array([print], dtype=object),
            np.zeros((2, 3072)),
            np.ma.masked_array([1]),
            torch.nn.Linear(2, 3),
        ],
    )
    def test_objects_other_than_integer_arrays_are_refused(self, tmp_path, odd):
        path = tmp_path / "data_batch_1"
        path.write_bytes(pickle.dumps({b"data": odd, b"labels": [0]}, protocol=2))
        with pytest.raises(ValueError, match=r"data_batch_1.*not admitted|data_batch_1.*plain arrays"):
            read_cifar_batch(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([1, 2], "holds a list, not a dict"),
            ({b"labels": [1]}, r"uint8 array of shape \(n, 3072\)"),
            ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [1, 2]}, r"shape \(n, 3072\)"),
            ({b"data": np.zeros((2, 3072), np.int64), b"labels": [1, 2]}, "uint8"),
            ({b"data": np.zeros((2, 3072), np.uint8)}, "list of integers from 0 to 9"),
            ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}, "list of integers from 0 to 9"),
            ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "2 images but 1 labels"),
        ],
    )
    def test_a_malformed_batch_is_named(self, tmp_path, content, message):
        path = tmp_path / "test_batch"
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(ValueError, match=f"test_batch.*{message}"):
            read_cifar_batch(path)

    @pytest.mark.parametrize("cut", [0, 1, 60, -1])
    def test_a_cut_batch_is_named(self, tmp_path, numbers, cut):
        path = tmp_path / "test_batch"
        path.write_bytes(pickle.dumps(batch(numbers), protocol=2)[:cut])
        with pytest.raises(ValueError, match="test_batch is not a CIFAR-10 python batch"):
            read_cifar_batch(path)


class TestCifarImages:
    def write(self, data: Path, files: dict[str, bytes], form: str) -> None:
        if form.endswith(".zip"):
            write_zip(data / form, files)
            return
        for name, content in files.items():
            (data / form / name).parent.mkdir(parents=True, exist_ok=True)
            (data / form / name).write_bytes(content)

    @pytest.mark.parametrize("form", [".", "cifar10", "CIFAR-10-images", "cifar10-images.zip"])
    def test_every_form_is_found_and_read_in_sorted_order(self, data, numbers, form):
        files = image_files(numbers)
        self.write(data, dict(reversed(files.items())), form)
        images = load_cifar10("test", base_url=NOWHERE)
        assert images.pixels.shape == (30, 3, 32, 32)
        assert images.labels.tolist() == [label for label in range(10) for _ in range(3)]
        with Image.open(io.BytesIO(files["test/cat/0001.png"])) as picture:
            assert np.array_equal(images.pixels[10].permute(1, 2, 0).numpy(), np.asarray(picture))

    def test_a_tree_below_other_folders_of_a_zip(self, data, numbers):
        files = {f"some/where/{name}": content for name, content in image_files(numbers, 1).items()}
        write_zip(data / "cifar10.zip", files)
        assert len(load_cifar10("train", base_url=NOWHERE)) == 10

    def test_only_what_is_wanted_is_decoded(self, data, numbers):
        files = image_files(numbers, 5)
        for name in files:
            if int(name[-8:-4]) >= 2:
                files[name] = b"not an image"
        write_zip(data / "cifar10.zip", files)
        assert len(load_cifar10("train", per_class=2)) == 20
        with pytest.raises(ValueError, match=r"train/airplane/0002\.png in .*cifar10\.zip cannot be read"):
            load_cifar10("train", per_class=3)

    def test_progress_counts_the_images(self, data, numbers, monkeypatch):
        monkeypatch.setattr("workbench.data.images.REPORT_EVERY", 7)
        write_zip(data / "cifar10.zip", image_files(numbers, 2))
        seen = []
        load_cifar10("test", progress=lambda *report: seen.append(report))
        assert [done for done, _, _ in seen] == [7, 14, 20]
        assert {(total, what) for _, total, what in seen} == {(20, f"reading images from {data}/cifar10.zip")}

    def test_grey_images_are_read_as_colour(self, data, numbers):
        files = image_files(numbers, 1)
        buffer = io.BytesIO()
        Image.fromarray(np.full((32, 32), 77, np.uint8)).save(buffer, "JPEG")
        files["test/airplane/0000.jpg"] = buffer.getvalue()
        del files["test/airplane/0000.png"]
        write_zip(data / "cifar10.zip", files)
        assert load_cifar10("test").pixels[0].unique().tolist() == [77]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("/test/cat/0.png", "leads out of the archive"),
            ("../test/cat/0.png", "leads out of the archive"),
            ("test/../test/cat/0.png", "leads out of the archive"),
            ("C:/test/cat/0.png", "leads out of the archive"),
            ("test\\cat\\0.png", "has backslashes"),
            ("__MACOSX/test/cat/0.png", "holds no images"),
            ("test/cat/._0.png", "holds no images"),
            ("test/cat/0.gif", "holds no images"),
            ("cat/0.png", "no folder 'test'"),
            ("test/cat/0.png", "the folders under test/ are cat; expected airplane"),
            ("test/0.png", "the folders under test/ are none; expected airplane"),
        ],
    )
    def test_a_zip_of_nothing_but_odd_names_is_refused(self, data, numbers, name, message):
        write_zip(data / "cifar10.zip", {name: picture(numbers)})
        with pytest.raises(ValueError, match=rf"cifar10\.zip.* {message}"):
            load_cifar10("test")
        assert [path.name for path in data.parent.rglob("*")] == ["data", "cifar10.zip"]

    def test_enormous_members_are_not_read(self, data, numbers):
        path = write_zip(data / "cifar10.zip", image_files(numbers, 1))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("test/cat/0001.png", bytes(LARGEST_FILE + 1))
        with pytest.raises(ValueError, match=r"test/cat/0001\.png' would unpack to"):
            load_cifar10("test")

    def test_empty_and_broken_zips_are_named(self, data):
        write_zip(data / "cifar10.zip", {})
        with pytest.raises(ValueError, match=r"cifar10\.zip holds no images"):
            load_cifar10("test")
        (data / "cifar10.zip").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(ValueError, match=r"cifar10\.zip is not a readable zip file"):
            load_cifar10("test")

    def test_a_damaged_member_is_named(self, data, numbers):
        files = image_files(numbers, 1)
        path = write_zip(data / "cifar10.zip", files)
        content = path.read_bytes()
        path.write_bytes(content.replace(files["test/dog/0000.png"], bytes(len(files["test/dog/0000.png"]))))
        with pytest.raises(ValueError, match=r"test/dog/0000\.png in .*cifar10\.zip cannot be read"):
            load_cifar10("test")

    def test_images_of_another_size_and_classes_of_another_name_are_refused(self, data, numbers):
        files = image_files(numbers, 1)
        write_zip(data / "cifar10.zip", files | {"test/frog/0000.png": picture(numbers, 31)})
        with pytest.raises(ValueError, match=r"cifar10\.zip: .*frog/0000\.png 31 × 31"):
            load_cifar10("test")
        alike = {name: picture(numbers, 29) for name in files}
        write_zip(data / "cifar10.zip", alike)
        with pytest.raises(ValueError, match="29 × 29 pixels, expected 32 × 32"):
            load_cifar10("test")
        write_zip(data / "cifar10.zip", files | {"test/toad/0000.png": picture(numbers)})
        with pytest.raises(ValueError, match=r"are airplane, .*toad.*; expected airplane"):
            load_cifar10("test")

    def test_other_data_sets_of_that_name_are_left_alone(self, data, numbers):
        write_zip(data / "cifar100.zip", {"test/toad/0000.png": picture(numbers)})
        with pytest.raises(DownloadError, match="was not found on this machine"):
            load_cifar10("test", base_url=NOWHERE)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; a name in `cut` announces all its bytes and sends half."""

    def do_GET(self):
        content = self.server.files.get(self.path.lstrip("/"))
        self.server.asked.append(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        if not self.server.silent:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in self.server.cut else content)

    def log_message(self, *arguments):
        """Quiet: the tests look at `asked`."""


@pytest.fixture
def server():
    """A web server on this machine's loopback, with .files, .cut, .asked and .url."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.cut, server.asked, server.silent = {}, set(), [], False
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class TestDownload:
    CONTENT = bytes(range(256)) * 3001  # several chunks and a bit

    def test_a_good_file_arrives_whole(self, server, tmp_path):
        server.files["a.bin"] = self.CONTENT
        seen = []
        path = fetch(
            server.url + "a.bin", tmp_path / "new" / "a.bin", md5(self.CONTENT), lambda *r: seen.append(r)
        )
        assert path.read_bytes() == self.CONTENT
        assert os.listdir(path.parent) == ["a.bin"]
        assert seen[-1] == (len(self.CONTENT), len(self.CONTENT), "downloading a.bin")
        assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
        assert len(seen) > 3

    def test_a_server_that_tells_no_length_is_followed_too(self, server, tmp_path):
        server.files["a.bin"] = self.CONTENT
        server.silent = True
        seen = []
        fetch(server.url + "a.bin", tmp_path / "a.bin", md5(self.CONTENT), lambda *r: seen.append(r))
        assert (tmp_path / "a.bin").read_bytes() == self.CONTENT
        assert {total for _, total, _ in seen} == {None}
        assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
        assert seen[0][0] > 0

    def test_a_file_that_is_there_is_not_fetched_again(self, server, tmp_path):
        (tmp_path / "a.bin").write_bytes(self.CONTENT)
        fetch(server.url + "a.bin", tmp_path / "a.bin", md5(self.CONTENT))
        assert server.asked == []

    def test_a_download_writes_no_lines(self, server, tmp_path, capfd):
        server.files["a.bin"] = self.CONTENT
        fetch(server.url + "a.bin", tmp_path / "a.bin", md5(self.CONTENT))
        assert capfd.readouterr() == ("", "")

    def test_what_a_report_raises_comes_through(self, server, tmp_path):
        def stop(*report):
            raise Cancelled("enough")

        server.files["a.bin"] = self.CONTENT
        with pytest.raises(Cancelled, match="enough"):
            fetch(server.url + "a.bin", tmp_path / "a.bin", md5(self.CONTENT), stop)
        assert os.listdir(tmp_path) == []

    def test_nothing_loads_the_downloader_before_a_download(self):
        code = "import sys, workbench.examples.datasets; sys.exit('pooch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("bad.bin", "does not match the known hash"),
            ("none.bin", "404"),
            ("cut.bin", "384128 bytes read, 384128 more expected"),
        ],
    )
    def test_a_failed_download_leaves_nothing(self, server, tmp_path, address, message):
        server.files |= {"bad.bin": self.CONTENT + b"x", "cut.bin": self.CONTENT}
        server.cut.add("/cut.bin")
        with pytest.raises(DownloadError, match=f"{address}.*{message}"):
            fetch(server.url + address, tmp_path / "a.bin", md5(self.CONTENT))
        assert os.listdir(tmp_path) == []

    def test_an_interrupted_download_leaves_nothing_and_the_old_file(self, server, tmp_path):
        def stop(*report):
            raise KeyboardInterrupt

        server.files["a.bin"] = self.CONTENT
        (tmp_path / "a.bin").write_bytes(b"old")
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url + "a.bin", tmp_path / "a.bin", md5(self.CONTENT), stop)
        assert os.listdir(tmp_path) == ["a.bin"]
        assert (tmp_path / "a.bin").read_bytes() == b"old"

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        server.files["a.bin"] = self.CONTENT
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DownloadError, match=r"a\.bin: NotADirectoryError"):
            fetch(server.url + "a.bin", tmp_path / "file" / "a.bin", md5(self.CONTENT))

    def test_mnist_is_downloaded_once_into_the_cache(self, server, data, numbers, monkeypatch):
        files = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files(numbers).items()}
        server.files |= files
        checksums = {name.removesuffix(".gz"): md5(content) for name, content in files.items()}
        monkeypatch.setattr(datasets, "MNIST_MD5", checksums)
        first = load_mnist("test", base_url=server.url)
        again = load_mnist("test", base_url=NOWHERE)
        assert torch.equal(first.pixels, again.pixels)
        assert server.asked == [f"/{name}" for name in files]
        assert os.listdir(data) == []
        assert sorted(os.listdir(datasets.cache_folder() / "MNIST" / "raw")) == sorted(files)

    def test_a_second_try_fetches_only_what_is_missing(self, server, data, numbers, monkeypatch):
        files = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files(numbers).items()}
        images, labels = files
        monkeypatch.setattr(
            datasets, "MNIST_MD5", {name.removesuffix(".gz"): md5(content) for name, content in files.items()}
        )
        server.files[images] = files[images]
        with pytest.raises(DownloadError, match=labels):
            load_mnist("test", base_url=server.url)
        server.files[labels] = files[labels]
        assert len(load_mnist("test", base_url=server.url)) == 23
        assert server.asked == [f"/{images}", f"/{labels}", f"/{labels}"]

    def test_cifar10_is_downloaded_and_unpacked_into_the_cache(self, server, data, numbers, monkeypatch):
        folder = data.parent / "made"
        write_batches(folder, numbers)
        members = {f"cifar-10-batches-py/{path.name}": path.read_bytes() for path in folder.iterdir()}
        server.files["cifar-10-python.tar.gz"] = tar_of(members)
        monkeypatch.setattr(datasets, "CIFAR10_MD5", md5(server.files["cifar-10-python.tar.gz"]))
        first = load_cifar10("test", base_url=server.url)
        again = load_cifar10("test", base_url=NOWHERE)
        assert torch.equal(first.pixels, again.pixels)
        assert os.listdir(datasets.cache_folder()) == ["cifar-10-batches-py"]
        assert len(os.listdir(datasets.cache_folder() / "cifar-10-batches-py")) == 6

    @pytest.mark.parametrize(
        ("load", "layout"), [(load_mnist, "train-images-idx3-ubyte"), (load_cifar10, "cifar-10-batches-py")]
    )
    def test_the_error_says_what_was_tried_and_what_to_do(self, data, load, layout):
        with pytest.raises(DownloadError) as caught:
            load("train", base_url=NOWHERE)
        message = str(caught.value)
        for part in (NOWHERE, str(data), str(datasets.cache_folder()), "WORKBENCH_DATA", layout):
            assert part in message

    def test_the_published_checksums(self):
        assert all(len(checksum) == 32 for checksum in datasets.MNIST_MD5.values())
        assert datasets.MNIST_MD5["train-images-idx3-ubyte"] == "f68b3c2dcbeaaa9fbdd348bbdeb94873"
        assert datasets.CIFAR10_MD5 == "c58f30108f718f92721af3b95e74349a"

    @pytest.mark.parametrize("name", ["../evil", "/tmp/evil-of-spectral-pruning", "inside/../../evil"])
    def test_a_tar_member_outside_is_refused(self, tmp_path, name):
        (tmp_path / "cache").mkdir()
        archive = tmp_path / "cache" / "a.tar.gz"
        archive.write_bytes(tar_of({name: b"evil"}))
        with pytest.raises(ValueError, match=r"a\.tar\.gz"):
            unpack(archive, "inside", tmp_path / "cache" / "inside")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "cache"]
        assert not Path("/tmp/evil-of-spectral-pruning").exists()

    def test_a_link_in_a_tar_file_is_refused(self, tmp_path):
        archive = tmp_path / "a.tar"
        with tarfile.open(archive, "w") as tar:
            link = tarfile.TarInfo("inside/a")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        with pytest.raises(ValueError, match="is a link or a device"):
            unpack(archive, "inside", tmp_path / "inside")
        assert os.listdir(tmp_path) == ["a.tar"]

    @pytest.mark.parametrize(
        "content", [b"no tar", tar_of({"other/file": b"x"}), tar_of({"in/a": b"x" * 9999})[:60]]
    )
    def test_another_archive_is_refused(self, tmp_path, content):
        archive = tmp_path / "a.tar.gz"
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tar\.gz"):
            unpack(archive, "inside", tmp_path / "inside")
        assert os.listdir(tmp_path) == ["a.tar.gz"]


class TestFolders:
    def test_the_variable_comes_before_the_cache(self, data):
        assert datasets.data_folders() == (data, datasets.cache_folder())

    def test_without_the_variable_there_is_the_cache(self, data, monkeypatch):
        monkeypatch.delenv(DATA_VARIABLE)
        assert datasets.data_folders() == (data.parent / "cache" / "spectral-pruning-workbench",)
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert datasets.cache_folder() == Path.home() / ".cache" / "spectral-pruning-workbench"

    def test_a_variable_that_names_no_folder_is_an_error(self, data, monkeypatch):
        monkeypatch.setenv(DATA_VARIABLE, str(data / "absent"))
        with pytest.raises(ValueError, match=r"WORKBENCH_DATA is .*absent.*not a folder"):
            load_mnist("test")

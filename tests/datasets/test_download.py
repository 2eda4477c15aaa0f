"""Downloads, from a server of our own."""

import gzip
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
import torch
from dataset_files import NOWHERE, mnist_files, write_batches

from workbench.data.progress import Cancelled
from workbench.examples import datasets
from workbench.examples.datasets import load_cifar10, load_mnist
from workbench.examples.download import DownloadError, fetch, unpack


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
        "content",
        [b"no tar", tar_of({"other/file": b"x"}), tar_of({"in/a": b"x" * 9999})[:60]],
        ids=["no archive", "another folder", "cut off"],  # the bytes have the time in them
    )
    def test_another_archive_is_refused(self, tmp_path, content):
        archive = tmp_path / "a.tar.gz"
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tar\.gz"):
            unpack(archive, "inside", tmp_path / "inside")
        assert os.listdir(tmp_path) == ["a.tar.gz"]

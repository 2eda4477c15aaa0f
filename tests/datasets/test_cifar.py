"""CIFAR-10 as pickled batches and as trees of images, and every way these can be wrong."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import NOWHERE, batch, image_files, picture, write_batches, write_zip
from PIL import Image

from workbench.data.image_trees import LARGEST_FILE
from workbench.examples.cifar import read_cifar_batch
from workbench.examples.datasets import load_cifar10
from workbench.examples.download import DownloadError


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

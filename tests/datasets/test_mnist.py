"""Digits and MNIST: every form they come in, every way a file can be wrong; where data is looked for."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from dataset_files import NOWHERE, idx, mnist_files, write_files

from workbench.data.arrays import read_idx
from workbench.examples import datasets
from workbench.examples.datasets import DATA_VARIABLE, load_cifar10, load_digits, load_mnist


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

    @pytest.mark.parametrize("file", [datasets.DIGITS_FILE, "nowhere"])
    def test_they_are_scikit_learns(self, file, monkeypatch):
        monkeypatch.setattr(datasets, "DIGITS_FILE", file)
        pixels, labels = datasets._all_digits.__wrapped__()
        given = sklearn.datasets.load_digits()
        assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(pixels, given.images)
        np.testing.assert_array_equal(labels, given.target)

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

"""Data from arrays, images in arrays and IDX files."""

import gzip

import numpy as np
import pytest
import torch
from loadable import encoded, idx, in_folder, picture, pixels, same

from workbench.data import images
from workbench.data.batches import Batches
from workbench.data.loading import load_data


class TestArrays:
    def test_every_way_to_give_numbers_gives_the_same(self, tmp_path, generator):
        x, y = torch.randn(17, 3, generator=generator), torch.arange(17) % 5
        np.save(tmp_path / "x.npy", x.numpy())
        np.save(tmp_path / "y.npy", y.numpy())
        np.savez(tmp_path / "xy.npz", x=x.numpy(), y=y.numpy())
        np.savez(tmp_path / "XY.npz", X=x.double().numpy(), Y=y.numpy().astype(np.uint8))
        np.savez_compressed(
            tmp_path / "split.npz", train_images=x.numpy(), train_labels=y.numpy(), test_images=x
        )
        np.savez(tmp_path / "keras.npz", x_test=x.numpy(), y_test=y.numpy(), x_train=x.numpy()[:2])
        expected = Batches(x, y)
        for source, options in (
            ((x, y), {}),
            ((x.numpy(), y.numpy()), {}),
            (x, {"targets": y.tolist()}),
            (Batches(x, y), {}),
            (tmp_path / "x.npy", {"targets": tmp_path / "y.npy"}),
            (tmp_path / "xy.npz", {}),
            (str(tmp_path / "XY.npz"), {}),
            (tmp_path / "split.npz", {"split": "train"}),
            (tmp_path / "keras.npz", {"split": "test"}),
        ):
            assert same(load_data(source, **options), expected), (source, options)

    def test_the_only_array_is_the_inputs(self, tmp_path):
        np.savez(tmp_path / "one.npz", anything=np.ones((7, 3), np.float32))
        batches = load_data(tmp_path / "one.npz", batch_size=3)
        assert [len(inputs) for inputs, _ in batches] == [3, 3, 1]
        assert batches.targets is None

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (np.float64, torch.float32),
            (np.float16, torch.float16),
            (np.dtype(">f4"), torch.float32),
            (np.int64, torch.int64),
            (np.uint16, torch.int64),
            (np.uint8, torch.uint8),
        ],
    )
    def test_types_of_numbers(self, given, kept):
        batches = load_data(np.arange(26).reshape(13, 2).astype(given))
        assert batches.inputs.dtype == kept
        assert batches.inputs[12, 1] == 25

    def test_a_tensor_keeps_its_type_and_is_not_copied(self):
        x = torch.randn(13, 3, dtype=torch.float64, requires_grad=True)
        batches = load_data(x)
        assert batches.inputs.dtype == torch.float64
        assert batches.inputs.data_ptr() == x.data_ptr()
        assert not batches.inputs.requires_grad

    def test_arrays_that_torch_does_not_take_are_copied(self):
        backwards = np.arange(26, dtype=np.float32).reshape(13, 2)[::-1]
        assert load_data(backwards).inputs[0].tolist() == [24.0, 25.0]
        backwards.flags.writeable = False
        assert load_data(backwards).inputs[0].tolist() == [24.0, 25.0]

    @pytest.mark.parametrize(
        ("given", "option", "dtype"),
        [
            (np.arange(13, dtype=np.uint8), None, torch.int64),
            (np.arange(13) % 2 == 0, None, torch.int64),
            (np.arange(13.0), None, torch.float32),
            (np.arange(13.0), "classes", torch.int64),
            (np.arange(13), "values", torch.float32),
            (torch.arange(13.0, dtype=torch.float64), None, torch.float64),
        ],
    )
    def test_whole_numbers_are_classes_and_others_values(self, given, option, dtype):
        assert load_data(torch.zeros(13, 2), targets=given, target_type=option).targets.dtype == dtype

    def test_several_inputs_are_taken_by_name(self):
        x, y = torch.arange(39).reshape(13, 3), torch.arange(13) % 3
        held = {"input_ids": x, "attention_mask": torch.ones_like(x), "labels": y}
        batches = load_data(held, limit=7, batch_size=5)
        assert sorted(batches.inputs) == ["attention_mask", "input_ids"]
        assert torch.equal(batches.inputs["input_ids"][:, 0] // 3 % 3, batches.targets)
        assert [len(targets) for _, targets in batches] == [5, 2]
        pair = load_data(((x, x.float()), y), limit=7)
        assert torch.equal(pair.inputs[0], pair.inputs[1].long())
        assert torch.equal(pair.targets, batches.targets)
        with pytest.raises(ValueError, match="do not apply to several inputs"):
            load_data(held, size=3)

    def test_columns_are_normalised_by_number(self):
        x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
        assert load_data(x, mean=(2, 20), std=(1, 10)).inputs.tolist() == [[-1, -1], [1, 1]]
        assert load_data(x, mean=1).inputs.tolist() == [[0, 9], [2, 29]]
        assert x.tolist() == [[1, 10], [3, 30]]


class TestImagesInArrays:
    def test_bytes_become_units(self):
        grey = torch.arange(2 * 5 * 7, dtype=torch.uint8).reshape(2, 5, 7)
        inputs = load_data(grey).inputs
        assert inputs.shape == (2, 1, 5, 7)
        assert torch.equal(inputs, grey.unsqueeze(1).float() / 255)

    def test_channels_may_stand_last(self):
        image = pixels(picture())
        last = load_data(image.permute(1, 2, 0).unsqueeze(0)).inputs
        assert torch.equal(last, load_data(image.unsqueeze(0)).inputs)

    def test_the_length_of_the_mean_says_the_channels(self):
        image = pixels(picture()).unsqueeze(0)
        grey = pixels(picture(mode="L")).unsqueeze(0)
        assert load_data(grey, mean=(0.5, 0.5, 0.5)).inputs.shape == (1, 3, 13, 17)
        made = load_data(image, mean=[0.0]).inputs
        assert torch.allclose(made * 255, grey.float(), atol=1)
        assert load_data(image, mean=0.25, std=0.5).inputs.shape == (1, 3, 13, 17)

    def test_images_are_resized_and_cut_as_files_are(self, tmp_path):
        image = picture(26, 34)
        path = in_folder(tmp_path, {"a.png": encoded(image)})
        options = {"size": 13, "crop": (11, 7), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
        from_file = load_data(path, **options).inputs
        from_bytes = load_data(pixels(image).unsqueeze(0), **options).inputs
        from_units = load_data(pixels(image).unsqueeze(0) / 255, **options).inputs
        assert from_file.shape == from_bytes.shape == (1, 3, 11, 7)
        assert torch.allclose(from_bytes, from_units, atol=1e-6)
        assert (from_file - from_bytes).abs().max() < 2 / 255 / 0.2  # Pillow rounds to bytes, twice

    def test_conversion_is_the_same_in_pieces(self, monkeypatch, generator):
        x = torch.randint(0, 256, (17, 3, 7, 5), dtype=torch.uint8, generator=generator)
        whole = load_data(x, size=3, mean=(0.1, 0.2, 0.3)).inputs
        monkeypatch.setattr(images, "CHUNK", 4)
        assert torch.allclose(load_data(x, size=3, mean=(0.1, 0.2, 0.3)).inputs, whole)


class TestIdx:
    @pytest.fixture
    def raw(self, tmp_path):
        generator = np.random.default_rng(0)
        for name, count in (("train", 23), ("t10k", 13)):
            images_of = generator.integers(0, 256, (count, 5, 7))
            (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images_of))
            content = gzip.compress(idx(np.arange(count) % 10))
            (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(content)
        return tmp_path

    def test_labels_are_found_beside(self, raw):
        batches = load_data(raw / "t10k-images-idx3-ubyte")
        assert batches.inputs.shape == (13, 1, 5, 7)
        assert float(batches.inputs.max()) <= 1
        assert batches.targets.tolist() == [*range(10), 0, 1, 2]

    def test_a_folder_has_splits(self, raw):
        assert len(load_data(raw, split="train").targets) == 23
        assert len(load_data(raw, split="test").targets) == 13
        with pytest.raises(ValueError, match="split='train' or 'test'"):
            load_data(raw)

    def test_torchvisions_folder_is_found_from_above(self, raw, tmp_path):
        below = tmp_path / "root" / "MNIST" / "raw"
        below.mkdir(parents=True)
        for path in list(raw.glob("*ubyte*")):
            path.rename(below / path.name)
        assert all(
            load_data(place, split="test").examples == 13 for place in (tmp_path / "root", below.parent)
        )

    def test_labels_may_be_named_or_missing(self, raw, tmp_path):
        labels = raw / "t10k-labels-idx1-ubyte.gz"
        (raw / "t10k-images-idx3-ubyte").rename(raw / "mine.idx3")
        assert load_data(raw / "mine.idx3").targets is None
        assert load_data(raw / "mine.idx3", targets=labels).targets[9] == 9

    def test_first_bytes_tell_the_format(self, raw):
        (raw / "t10k-images-idx3-ubyte").rename(raw / "pictures")
        assert load_data(raw / "pictures").inputs.shape == (13, 1, 5, 7)

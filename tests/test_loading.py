"""Data of one's own: every kind of source gives the same batches, and nothing is unpacked or run."""

import gzip
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from workbench.data import image_trees as trees
from workbench.data import images, loading
from workbench.data.batches import Batches
from workbench.data.loading import load_data, load_evaluation, subset

DATA = """
import torch

def pair():
    return torch.ones(13, 3), torch.zeros(13, dtype=torch.long)

def path():
    return {path!r}

def score(model):
    return 0.75

def make_score():
    return score

held = torch.full((7, 3), 2.0)
"""


def picture(height=13, width=17, mode="RGB", seed=0):
    """A smooth image: resampling of noise would say little."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def pixels(image):
    array = np.asarray(image)
    return torch.from_numpy(array.copy().reshape(*array.shape[:2], -1)).permute(2, 0, 1)


@pytest.fixture
def tree(tmp_path):
    """Names and contents of two classes in two splits, with what should be passed over."""
    files = {
        f"{split}/{kind}/{number}.png": encoded(picture(seed=hash((kind == "cat", number)) % 97))
        for split in ("train", "test")
        for kind, count in (("cat", 5), ("dog", 3))
        for number in range(count)
    }
    return files | {
        "train/cat/.hidden.png": b"",
        "train/notes.txt": b"nothing",
        "__MACOSX/train/cat/x.png": b"",
    }


def in_folder(tmp_path, files, name="photos"):
    for file, content in files.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / name


def in_zip(tmp_path, files, name="photos.zip"):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return tmp_path / name


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def same(one, other):
    if not torch.equal(one.inputs, other.inputs):
        return False
    if one.targets is None or other.targets is None:
        return one.targets is other.targets
    return torch.equal(one.targets, other.targets)


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


class TestImageTrees:
    def test_folders_are_classes_in_sorted_order(self, tmp_path, tree):
        folder = in_folder(tmp_path, tree)
        batches = load_data(folder / "train")
        assert batches.inputs.shape == (8, 3, 13, 17)
        assert batches.targets.tolist() == [0] * 5 + [1] * 3
        first = Image.open(folder / "train" / "cat" / "0.png")
        assert torch.equal(batches.inputs[0], pixels(first) / 255)

    @pytest.mark.parametrize("top", ["", "a/b/"])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_zip_is_read_as_its_folder(self, tmp_path, tree, top, split):
        folder = load_data(in_folder(tmp_path, tree) / split)
        files = {top + name: content for name, content in tree.items()}
        assert same(load_data(in_zip(tmp_path, files), split=split), folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "photos.zip"]

    def test_splits_are_not_taken_for_classes(self, tmp_path, tree):
        with pytest.raises(ValueError, match=r"has the parts test, train: choose one with split="):
            load_data(in_folder(tmp_path, tree))

    def test_the_one_split_of_a_zip_can_be_named(self, tmp_path, tree):
        files = {name: content for name, content in tree.items() if name.startswith("train/")}
        path = in_zip(tmp_path, files)
        assert same(load_data(path, split="train"), load_data(path))

    def test_images_in_one_folder_have_no_targets(self, tmp_path):
        files = {f"{number}.png": encoded(picture(seed=number)) for number in range(3)}
        folder = in_folder(tmp_path, files)
        assert load_data(folder).targets is None
        assert same(load_data(folder), load_data(in_zip(tmp_path, {f"x/{k}": v for k, v in files.items()})))
        assert load_data(folder, targets=[0.5, 0.25, 0.125]).targets.tolist() == [0.5, 0.25, 0.125]

    def test_grey_stays_grey_where_all_are(self, tmp_path):
        grey = {"a.png": encoded(picture(mode="L")), "b.jpg": encoded(picture(mode="L"), "JPEG")}
        folder = in_folder(tmp_path, grey)
        assert load_data(folder).inputs.shape == (2, 1, 13, 17)
        assert load_data(folder, mean=(0.5, 0.5, 0.5)).inputs.shape == (2, 3, 13, 17)
        (folder / "c.png").write_bytes(encoded(picture(mode="RGBA")))
        mixed = load_data(folder).inputs
        assert mixed.shape == (3, 3, 13, 17)
        assert torch.equal(mixed[0, 0], mixed[0, 2])
        assert load_data(folder, std=[0.5]).inputs.shape == (3, 1, 13, 17)

    def test_sizes(self, tmp_path):
        folder = in_folder(tmp_path, {"a.png": encoded(picture(20, 40)), "b.png": encoded(picture(30, 20))})
        with pytest.raises(ValueError, match=r"a\.png is 10 × 20 pixels, b\.png 15 × 10: give size and crop"):
            load_data(folder, size=10)
        assert load_data(folder, size=10, crop=10).inputs.shape[2:] == (10, 10)
        assert load_data(folder, size=(7, 11)).inputs.shape[2:] == (7, 11)
        assert load_data(folder, crop=(13, 17)).inputs.shape[2:] == (13, 17)

    def test_a_crop_is_from_the_centre(self, tmp_path):
        image = picture(13, 17)
        folder = in_folder(tmp_path, {"a.png": encoded(image)})
        assert torch.equal(load_data(folder, crop=5).inputs[0], pixels(image)[:, 4:9, 6:11] / 255)

    def test_only_the_chosen_are_decoded(self, tmp_path, tree, monkeypatch):
        read = []
        whole = images.decode
        monkeypatch.setattr(
            images, "decode", lambda tree, name, look: read.append(name) or whole(tree, name, look)
        )
        seen = []
        batches = load_data(
            in_folder(tmp_path, tree), split="train", limit=4, progress=lambda *report: seen.append(report)
        )
        assert len(read) == len(batches.targets) == 4
        assert torch.bincount(batches.targets).tolist() in ([2, 2], [3, 1])
        assert seen[-1][:2] == (4, 4)

    def test_too_much_for_memory_says_how_many_would_do(self, tmp_path, tree, monkeypatch):
        monkeypatch.setattr(images, "LARGEST_DATA", 4 * 3 * 13 * 17 * 5)
        folder = in_folder(tmp_path, tree) / "train"
        with pytest.raises(ValueError, match=r"8 examples of 663 numbers take .* give limit=5 or less"):
            load_data(folder)
        assert len(load_data(folder, limit=5).targets) == 5
        with pytest.raises(ValueError, match=r"9 examples of 663 numbers"):
            load_data(torch.zeros(9, 3, 13, 17, dtype=torch.uint8))
        np.save(tmp_path / "x.npy", np.zeros((9, 663)))
        with pytest.raises(ValueError, match=r"9 examples of 663 numbers"):
            load_data(tmp_path / "x.npy")
        assert load_data(tmp_path / "x.npy", limit=3).inputs.shape == (3, 663)


class TestLimit:
    def test_a_subset_is_fixed_by_its_seed(self):
        x = torch.arange(100.0).unsqueeze(1)
        one, again, other = (load_data(x, limit=17, seed=seed).inputs for seed in (3, 3, 4))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert torch.equal(one, one.unique(dim=0))

    def test_every_class_has_its_share(self):
        targets = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
        for limit, shares in ((10, [6, 3, 1]), (20, [12, 6, 2]), (50, [30, 15, 5])):
            assert torch.bincount(targets[subset(100, targets, limit, 5)]).tolist() == shares

    def test_values_are_drawn_without_classes(self):
        x, y = torch.arange(50.0).unsqueeze(1), torch.arange(50.0)
        batches = load_data((x, y), limit=13)
        assert torch.equal(batches.inputs[:, 0], batches.targets)

    def test_more_than_there_are_is_all(self):
        assert torch.equal(subset(13, None, 17), torch.arange(13))


class TestFactoriesAndIterables:
    @pytest.fixture
    def own(self, tmp_path):
        np.save(tmp_path / "x.npy", np.ones((13, 3)))
        (tmp_path / "my_data.py").write_text(DATA.format(path=str(tmp_path / "x.npy")))
        return tmp_path / "my_data.py"

    def test_what_a_function_returns_is_loaded(self, own):
        assert load_data(f"{own}:pair", limit=7).inputs.shape == (7, 3)
        assert load_data(f"{own}:path").inputs.shape == (13, 3)
        assert load_data(f"{own}:held", mean=1.0).inputs.unique().tolist() == [1.0]

    def test_a_score_is_a_function_of_the_model(self, own):
        assert load_evaluation(f"{own}:score")(None) == 0.75
        assert load_evaluation(f"{own}:make_score")(None) == 0.75
        assert load_evaluation(max) is max
        assert load_evaluation(f"{own}:pair").targets.dtype == torch.int64
        assert load_evaluation(f"{own}:pair", limit=7).examples == 7

    def test_a_loader_stays_what_it_is(self):
        loader = DataLoader(TensorDataset(torch.zeros(13, 3)), batch_size=5)
        assert load_data(loader) is loader
        batches = [torch.zeros(3, 2)]
        assert load_data(batches) is batches
        for options in ({"limit": 3}, {"mean": 0.5}, {"split": "test"}, {"targets": [1]}):
            with pytest.raises(ValueError, match="do not apply to a DataLoader"):
                load_data(loader, **options)

    def test_a_file_whose_name_has_a_colon_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.save(tmp_path / "x.npy", np.ones((13, 3), np.float32))
        (tmp_path / "x.npy").rename(tmp_path / "run:x.npy")
        assert load_data("run:x.npy").inputs.shape == (13, 3)


def test_limits_of_zips_are_those_that_are_declared(tmp_path, tree, monkeypatch):
    path = in_zip(tmp_path, tree)
    monkeypatch.setattr(trees, "LARGEST_ZIP", 100)
    with pytest.raises(ValueError, match=r"its images would unpack to [\d,]+ bytes, the limit is 100"):
        load_data(path, split="train")


def test_accepted_sources_are_said():
    assert all(
        word in loading.ACCEPTED for word in ("folder", ".zip", ".npy", ".npz", "IDX", "MODULE:FACTORY")
    )

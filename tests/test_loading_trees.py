"""Data from image trees and zips of them, from factories and iterables, and how much of it."""

import numpy as np
import pytest
import torch
from loadable import DATA, encoded, in_folder, in_zip, picture, pixels, same
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from workbench.data import image_trees as trees
from workbench.data import images, loading
from workbench.data.loading import load_data, load_evaluation, subset


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

"""An export comes back into the original class, or says why not."""

import json

import pytest
from exports import as_earlier, small_session
from networks import conv_net, images
from safetensors.torch import load_file, save_file
from torch import nn

import workbench as wb


class Other(nn.Module):
    """Not what was pruned."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 5)


def widened():
    model = conv_net()
    model.conv2 = nn.Conv2d(7, 19, 3, padding=1, bias=False)
    return model


def without_a_layer():
    model = conv_net()
    del model.conv2
    return model


def another_layer():
    model = conv_net()
    model.conv2 = nn.Linear(7, 11)
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Other, "is a Other in the model given"),
        (widened, r"'conv2' had weight \(11, 7.* has weight \(19, 7"),
        (without_a_layer, "'conv2' is missing"),
        (another_layer, "'conv2' was a Conv2d .* is a Linear"),
    ],
)
def test_another_network_is_refused_with_the_layer_and_both_widths(build, words, tmp_path):
    small_session().export(tmp_path)
    with pytest.raises(ValueError, match=words):
        wb.load_pruned(build(), tmp_path)


def test_a_layer_that_did_not_change_must_fit_too(tmp_path):
    session = wb.Session(conv_net(), images(8))
    session.export(tmp_path)
    with pytest.raises(ValueError, match=r"conv2\.weight has shape \(11, 7"):
        wb.load_pruned(widened(), tmp_path)
    with pytest.raises(ValueError, match=r"the model has no place for conv2\.weight"):
        wb.load_pruned(without_a_layer(), tmp_path)


def edited(key, value):
    def edit(folder):
        path = folder / "architecture.json"
        architecture = json.loads(path.read_text())
        owner, keys = architecture, key.split("/")
        for part in keys[:-1]:
            owner = owner[part]
        owner[keys[-1]] = value
        path.write_text(json.dumps(architecture))

    return edit


def cut(file):
    def edit(folder):
        path = folder / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return edit


def dropped(name):
    def edit(folder):
        path = folder / "model.safetensors"
        left = {key: value.clone() for key, value in load_file(path).items() if key != name}
        save_file(left, path)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (cut("architecture.json"), r"architecture\.json is not a whole JSON file"),
        (cut("model.safetensors"), r"model\.safetensors is not a whole safetensors file"),
        (dropped("fc1.bias"), r"the file lacks fc1\.bias"),
        (edited("format", "zip"), "'format' must be"),
        (edited("version", 2), "version 2; this workbench reads version 1"),
        (edited("layers", []), "'layers'"),
        (edited("aliases", {"a": 1}), "'aliases'"),
        (edited("layers/conv2", {"class": "Conv2d"}), "layer 'conv2' lacks"),
        (edited("layers/conv2/tensors/weight", [5, "3"]), "not a list of whole numbers"),
        (
            edited("layers/conv2/tensors/weight", [5, -3]),
            r"whole numbers.*\$\.layers\.conv2\.tensors",
        ),
        (edited("layers/conv2/class", 3), r"Expected 'str', got 'int' - at '\$\.layers\.conv2\.class'"),
        (edited("aliases", []), r"Expected 'object', got 'array' - at '\$\.aliases'"),
        (edited("layers/conv2/tensors/weight", [10**12, 3]), r"whole numbers.*<= \d+.*conv2\.tensors"),
        (edited("layers/conv2/tensors/weight", [10**10, 10**6]), r"conv2\.weight has shape"),
        (edited("layers/conv2/tensors/forward", [3]), "cannot have a tensor 'forward'"),
        (edited("layers/conv2/attributes", {"forward": 1}), "no such whole number"),
        (edited("layers/conv2/attributes", {"in_channels": "os"}), "in_channels = 'os'"),
    ],
)
def test_a_damaged_export_is_named(edit, words, tmp_path):
    small_session().export(tmp_path)
    as_earlier(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=words):
        wb.load_pruned(conv_net(), tmp_path)


@pytest.mark.parametrize("file", ["architecture.json", "model.safetensors"])
def test_a_missing_file_is_named(file, tmp_path):
    small_session().export(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        wb.load_pruned(conv_net(), tmp_path)

"""Weights from a file into a model: the wrappers people use, all or nothing, and never any code."""

from collections import OrderedDict

import pytest
import torch
from networks import ConvNet, conv_net
from safetensors.torch import save_file, save_model
from torch import nn

from workbench.data.checkpoints import load_checkpoint, read_state_dict


class TiedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(17, 13)
        self.head = nn.Linear(13, 17, bias=False)
        self.head.weight = self.embedding.weight


class Around(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


@pytest.fixture
def trained():
    return conv_net(seed=3)


@pytest.fixture
def model():
    return conv_net(seed=4)


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def copied(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def saved(tmp_path, held, name="weights.pt"):
    torch.save(held, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "model.bin", "safetensors_inside.pt"])
def test_weights_come_back_to_the_bit(tmp_path, trained, model, name):
    path = tmp_path / name
    if "safetensors" in name:
        save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    assert load_checkpoint(model, path) is model
    assert same(model, trained)
    assert load_checkpoint(conv_net(5), str(path)).training is False


def test_the_format_before_zip_is_read(tmp_path, trained, model):
    path = tmp_path / "old.pth"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(load_checkpoint(model, path), trained)


@pytest.mark.parametrize(
    "wrapper",
    [
        "state_dict",
        "model",
        "model_state_dict",
        "weights",
        "net",
        "params",
        "ema",
        "model_ema",
        "ema_state_dict",
    ],
)
def test_wrappers_are_opened(tmp_path, trained, model, wrapper):
    held = {"epoch": 13, "optimizer": {"lr": 0.1}, wrapper: trained.state_dict()}
    assert same(load_checkpoint(model, saved(tmp_path, held)), trained)


def test_wrappers_within_wrappers_are_opened(tmp_path, trained, model):
    held = {"model_ema": {"module": trained.state_dict(), "decay": 0.9}}
    assert same(load_checkpoint(model, saved(tmp_path, held)), trained)


def test_trained_weights_come_before_averaged_ones(tmp_path, trained, model):
    held = {"state_dict_ema": conv_net(7).state_dict(), "state_dict": trained.state_dict()}
    assert same(load_checkpoint(model, saved(tmp_path, held)), trained)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."]
)
def test_prefixes_are_taken_off(tmp_path, trained, model, prefix):
    held = OrderedDict((prefix + key, value) for key, value in trained.state_dict().items())
    assert same(load_checkpoint(model, saved(tmp_path, held)), trained)


def test_prefixes_of_the_model_are_put_before(tmp_path, trained, model):
    around = Around(nn.DataParallel(model))
    load_checkpoint(around, saved(tmp_path, trained.state_dict()))
    assert same(model, trained)


def test_a_compiled_part_is_recognised(tmp_path):
    torch.manual_seed(0)
    trained, model = (nn.Sequential(nn.Linear(13, 17), nn.Linear(17, 5)) for _ in range(2))
    held = {key.replace("1.", "1._orig_mod."): value for key, value in trained.state_dict().items()}
    assert same(load_checkpoint(model, saved(tmp_path, held)), trained)


def test_averaged_models_are_recognised(tmp_path, trained, model):
    averaged = torch.optim.swa_utils.AveragedModel(trained)
    assert same(load_checkpoint(model, saved(tmp_path, averaged.state_dict())), trained)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_models(tmp_path, trained, model, dtype):
    held = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained.state_dict().items()}
    path = tmp_path / "half.safetensors"
    save_file(held, path)
    load_checkpoint(model, path)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert torch.equal(model.fc1.weight, trained.fc1.weight.to(dtype).float())


def test_the_count_of_batches_may_be_missing(tmp_path, trained, model):
    held = {k: v for k, v in trained.state_dict().items() if "num_batches_tracked" not in k}
    counted = model.bn1.num_batches_tracked.clone()
    load_checkpoint(model, saved(tmp_path, held))
    assert torch.equal(model.bn1.running_mean, trained.bn1.running_mean)
    assert torch.equal(model.bn1.num_batches_tracked, counted)


def test_a_tied_tensor_is_needed_once(tmp_path):
    trained, model = TiedHead(), TiedHead()
    path = tmp_path / "tied.safetensors"
    save_model(trained, path)  # it leaves the second name out
    assert len(read_state_dict(path)) == 1
    assert same(load_checkpoint(model, path), trained)
    assert model.head.weight is model.embedding.weight


def test_a_frozen_model_in_training_mode_stays_so(tmp_path, trained, model):
    model.train().requires_grad_(False)
    load_checkpoint(model, saved(tmp_path, trained.state_dict()))
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())


def without(key):
    return lambda held: {k: v for k, v in held.items() if k != key}


def changed(key, change):
    return lambda held: held | {key: change(held[key])}


WRONG = {
    "a key is missing": (without("fc1.bias"), r"which has 18 keys: missing 1: fc1\.bias$"),
    "a key is too many": (
        lambda held: held | {"fc9.bias": torch.zeros(3)},
        r"which has 18 keys: unexpected 1: fc9\.bias$",
    ),
    "names differ": (
        lambda held: {f"backbone.{key}": value for key, value in held.items()},
        r"missing 16: (\w+\.\w+, ){5}and 11 more; unexpected 18: backbone\.conv1",
    ),
    "a shape differs": (
        changed("fc2.weight", lambda value: value[:, :11]),
        r"shapes differ for 1: fc2\.weight is \(5, 11\), expected \(5, 13\)",
    ),
    "numbers are not finite": (
        changed("conv1.bias", lambda value: value * float("nan")),
        r"conv1\.bias holds NaN or infinite",
    ),
    "whole numbers for floating ones": (
        changed("conv1.bias", lambda value: (value * 100).to(torch.int8)),
        r"conv1\.bias holds int8 numbers, expected float32",
    ),
    "a number too large": (
        changed("conv1.bias", lambda value: value.double() * 1e300),
        r"conv1\.bias has numbers that are too large for the model's float32",
    ),
    "a meta tensor": (changed("conv1.bias", lambda value: value.to("meta")), r"conv1\.bias .*'meta' device"),
    "a sparse tensor": (changed("conv1.bias", lambda value: value.to_sparse()), r"conv1\.bias is sparse"),
    "not a tensor": (changed("conv1.bias", lambda value: 17), r"conv1\.bias is a int, expected a tensor"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_changes_nothing(tmp_path, trained, model, spoil, message):
    before = copied(model)
    path = saved(tmp_path, spoil(dict(trained.state_dict())))
    with pytest.raises(ValueError, match=message) as raised:
        load_checkpoint(model, path)
    assert str(path) in str(raised.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_two_values_for_one_tied_tensor_are_refused(tmp_path):
    model = TiedHead()
    held = {"embedding.weight": torch.zeros(17, 13), "head.weight": torch.ones(17, 13)}
    with pytest.raises(ValueError, match=r"embedding\.weight and head\.weight are one tensor in the model"):
        load_checkpoint(model, saved(tmp_path, held))


def test_a_failure_halfway_is_taken_back(tmp_path, trained, model):
    before = copied(model)

    def fail(*_):
        raise RuntimeError("no more of this")

    model.fc2.register_load_state_dict_pre_hook(fail)
    with pytest.raises(ValueError, match="no more of this"):
        load_checkpoint(model, saved(tmp_path, trained.state_dict()))
    del model.fc2._load_state_dict_pre_hooks
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds no state dict: its keys are none"),
        ({"epoch": 3, "lr": 0.1}, "its keys are epoch, lr"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_a_file_without_weights_is_told(tmp_path, model, held, message):
    with pytest.raises(ValueError, match=message):
        load_checkpoint(model, saved(tmp_path, held))


def test_a_dictionary_in_itself_ends(tmp_path, model):
    held = {}
    held["model"] = held
    with pytest.raises(ValueError, match="no state dict"):
        load_checkpoint(model, saved(tmp_path, held))


def test_models_without_room_for_weights_are_told(tmp_path, trained):
    path = saved(tmp_path, trained.state_dict())
    with torch.device("meta"):
        empty = ConvNet()
    with pytest.raises(ValueError, match="'meta' device"):
        load_checkpoint(empty, path)
    with pytest.raises(ValueError, match="has no shape yet"):
        load_checkpoint(nn.LazyLinear(3), path)
    with pytest.raises(TypeError, match="into a torch module, not into a dict"):
        load_checkpoint({}, path)

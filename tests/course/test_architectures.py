"""VGG-16 and ResNet-50 as structure: known counts, torch's own counter, counts by hand."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import workbench as wb
from workbench.course.architectures import IMAGE, cost_on_imagenet, cost_table, resnet50, vgg16

HALVED = ((32, 32), (64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512))
NETWORKS = {
    "vgg16": vgg16,
    "vgg16, halved, global pooling": lambda: vgg16(HALVED, hidden=(), grid=1),
    "resnet50": resnet50,
    "resnet50, 0.3 inside": lambda: resnet50(0.3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_of_torch_s_own_counter(name):
    model = NETWORKS[name]()
    with FlopCounterMode(display=False) as counter:
        assert model(torch.zeros(1, *IMAGE, device="meta")).shape == (1, 1000)
    assert 2 * cost_on_imagenet(model).macs == counter.get_total_flops()
    assert not model.training
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_parameters_are_torchvision_s():
    assert cost_on_imagenet(vgg16()).parameters == 138_357_544
    assert cost_on_imagenet(resnet50()).parameters == 25_557_032


def test_counts_by_hand():
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    sides = [224, 224, 112, 112, 56, 56, 56, 28, 28, 28, 14, 14, 14]
    weights = [9 * one * other for one, other in itertools.pairwise(channels)]
    dense = [512 * 49 * 4096, 4096 * 4096, 4096 * 1000]
    cost = cost_on_imagenet(vgg16())
    assert cost.macs == sum(w * side**2 for w, side in zip(weights, sides, strict=True)) + sum(dense)
    assert f"{cost.macs / 1e9:.2f}" == "15.47"
    assert cost.parameters == sum(weights) + sum(dense) + sum(channels[1:]) + 4096 * 2 + 1000
    macs, stream = 147 * 64 * 112**2, 64
    for number, blocks in enumerate((3, 4, 6, 3)):
        inner, outputs, side = 64 * 2**number, 256 * 2**number, 56 // 2**number
        for block in range(blocks):
            entering = 2 * side if number and not block else side  # before the 3 × 3 with its stride
            macs += stream * inner * entering**2 + 9 * inner * inner * side**2 + inner * outputs * side**2
            macs += stream * outputs * side**2 if not block else 0
            stream = outputs
    macs += 2048 * 1000
    assert cost_on_imagenet(resnet50()).macs == macs
    assert f"{macs / 1e9:.2f}" == "4.09"


def test_a_small_one_with_weights_can_be_pruned():
    model = vgg16(((4, 6), (8,)), hidden=(5,), grid=2, device="cpu")
    session = wb.Session(model, torch.randn(8, 3, 16, 16))
    session.measure()
    assert [group.width for group in session.groups if group.prunable] == [4, 6, 8, 5]
    narrow = vgg16(((2, 3), (4,)), hidden=(3,), grid=2, device="cpu")
    for group in [g for g in session.groups if g.prunable]:
        session.commit(session.preview(group.name, width=-(-group.width // 2)))
    assert session.parameters == sum(p.numel() for p in narrow.parameters())


def test_a_share_that_is_none_is_told():
    for share in (0, 1.5, -0.5):
        with pytest.raises(ValueError, match="share of inner units"):
            resnet50(share)


def test_a_table_names_shares_and_leaves_biases_out():
    lines = cost_table({"VGG-16": vgg16(), "half": NETWORKS["vgg16, halved, global pooling"]()}).splitlines()
    assert lines[2] == "| VGG-16 | 138.36 M | 138.34 M | 15.47 G | 100.0% | 100.0% |"
    assert lines[3] == "| half | 8.32 M | 8.32 M | 4.67 G | 6.0% | 30.2% |"

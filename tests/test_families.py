"""Every family of architectures: what is found, what can be pruned, and that removing is silencing.

`pytest tests/test_families.py -s -k printed` prints the table of RESULTS.md.
"""

import copy
import random
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from families import EACH, FAMILIES, resnet50, vgg16
from family_images import VGG, Bottleneck, ResNet
from mentions import unmentioned
from silencing import random_kept

from workbench.network.cost import count_cost
from workbench.network.cost_model import CostModel, cost_saved
from workbench.network.finding.assembly import discover
from workbench.network.finding.proof import find_groups
from workbench.network.layers import layer_weight
from workbench.network.rebuilt.explicit import explicit
from workbench.network.running import call, mapped, tensors_of
from workbench.network.surgery import remove_units
from workbench.session.session import Session

RESULTS = Path(__file__).resolve().parent / "benchmarks" / "RESULTS.md"


REASONS = {
    "the network's outputs": "outputs",
    "mixed by .*LayerNorm": "the stream, through LayerNorm",
    "mixed by .*RMSNorm": "the stream, through RMSNorm",
    "whose code fixes a size: The size of tensor": "channels beside a zero-padded shortcut",
    "also returned": "units that are also returned",
}


@cache
def family(name):
    """(model, groups) in float64; attention and recurrent layers taken apart."""
    model = explicit(FAMILIES[name].build()).double()
    return model, find_groups(model, wide(FAMILIES[name].inputs(8)))


def wide(inputs):
    return mapped(inputs, lambda t: t.double() if t.is_floating_point() else t)


def outputs(model, inputs):
    with torch.no_grad():
        return tensors_of(call(model, inputs))


def half(group):
    return list(range(0, group.width, 2))


def silenced(model, groups, kept=None):
    """A copy in which the readers' columns of lost units are zero: an independent oracle.

    Lost is every second unit, or what is not in `kept`, by a group's name.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for group in groups:
            stays = half(group) if kept is None else kept[group.name]
            lost = sorted(set(range(group.width)) - set(stays))
            for reader in group.readers:
                layer_weight(model.get_submodule(reader.module))[:, reader.columns[lost].flatten()] = 0
    return model


def off(ours, theirs):
    """The largest difference, of the largest number where that is above 1; of outputs of the same shapes."""
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    return max(
        float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in zip(ours, theirs, strict=True)
    )


def summary(name):
    _, groups = family(name)
    reasons = {}
    for group in groups:
        if not group.prunable:
            words = next((w for pattern, w in REASONS.items() if re.search(pattern, group.why_not)), None)
            assert words, f"{name}: {group.name}: {group.why_not}"
            reasons[words] = reasons.get(words, 0) + 1
    why = ", ".join(f"{words} ({count})" for words, count in reasons.items())
    return f"| {name} | {len(groups)} | {sum(g.prunable for g in groups)} | {why} |"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_says_what_is_found(name):
    assert summary(name) in RESULTS.read_text(encoding="utf-8")


def test_the_table_can_be_printed():
    rows = [summary(name) for name in FAMILIES]
    print("\n" + "\n".join(rows))
    assert len(rows) == len(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_removing_half_of_a_group_is_silencing_it(name):
    model, groups = family(name)
    inputs = wide(FAMILIES[name].inputs(3))
    found = [group for group in groups if group.prunable]
    assert found
    for group in found:
        pruned, _ = remove_units(model, groups, group.name, half(group))
        assert off(outputs(pruned, inputs), outputs(silenced(model, [group]), inputs)) <= 1e-5


@pytest.mark.parametrize("name", EACH)
def test_half_of_every_group_at_once_is_silencing_them_at_every_batch_size(name):
    model, groups = family(name)
    pruned, left = model, groups
    for group in groups:
        if group.prunable:
            pruned, left = remove_units(pruned, left, group.name, half(group))
    quiet = silenced(model, [group for group in groups if group.prunable])
    for count in (1, 2, 5):
        inputs = wide(FAMILIES[name].inputs(count))
        assert off(outputs(pruned, inputs), outputs(quiet, inputs)) <= 1e-5
    again = {group.name: group for group in find_groups(pruned, wide(FAMILIES[name].inputs(8)))}
    assert {g.name: g.width for g in left if g.prunable and g.width > 1} == {
        g.name: again[g.name].width for g in left if g.prunable and g.width > 1
    }


@pytest.mark.parametrize("name", EACH)
def test_units_taken_at_unequal_widths_are_silenced_units(name):
    model, groups = family(name)
    inputs, generator = wide(FAMILIES[name].inputs(3)), random.Random(0)
    found = [group for group in groups if group.prunable]
    for _ in range(3):
        kept = {g.name: random_kept(g.width, generator) for g in found}
        pruned, left = model, groups
        for group in found:
            pruned, left = remove_units(pruned, left, group.name, kept[group.name])
        assert off(outputs(pruned, inputs), outputs(silenced(model, found, kept), inputs)) <= 1e-9
    for group in found:
        kept = {group.name: random_kept(group.width, generator)}
        pruned, _ = remove_units(model, groups, group.name, kept[group.name])
        assert off(outputs(pruned, inputs), outputs(silenced(model, [group], kept), inputs)) <= 1e-9


@pytest.mark.parametrize("name", EACH)
def test_the_predicted_savings_are_the_real_ones(name):
    model, groups = family(name)
    inputs = wide(FAMILIES[name].inputs(2))
    cost = count_cost(model, inputs)
    for group in groups:
        if not group.prunable:
            continue
        kept = half(group)
        pruned, _ = remove_units(model, groups, group.name, kept)
        left = count_cost(pruned, inputs)
        saved = cost_saved(cost, group, len(kept), model)
        assert (cost.parameters - left.parameters, cost.macs - left.macs) == saved, group.name


@pytest.mark.parametrize("name", EACH)
def test_a_session_mentions_all_measures_commits_and_undoes(name):
    family_ = FAMILIES[name]
    model = family_.build()
    session = Session(model, [(family_.inputs(16), None)])
    assert unmentioned(session) == set()
    session.measure()
    before = outputs(session.model, family_.inputs(3))
    for group in session.groups:
        if group.prunable:
            session.commit(session.preview(group.name, width=max(1, group.width // 2)))
    assert session.parameters < session.history[0].parameters
    assert all(torch.isfinite(t).all() for t in outputs(session.model, family_.inputs(5)))
    session.reset()
    assert all(
        torch.equal(a, b) for a, b in zip(outputs(session.model, family_.inputs(3)), before, strict=True)
    )


def test_vgg16_and_resnet50_have_their_published_sizes():
    with torch.device("meta"):
        big, residual = vgg16(), resnet50()
        image = torch.zeros(1, 3, 224, 224)
    cost = count_cost(big, image)
    assert cost.parameters == 138_357_544
    assert round(cost.macs / 1e9, 2) == 15.47
    cost = count_cost(residual, image)
    assert cost.parameters == 25_557_032
    assert cost.macs / 1e9 == pytest.approx(4.1, abs=0.02)


@pytest.mark.parametrize("name", EACH)
def test_the_cost_at_other_widths_is_that_of_the_pruned_network(name):
    model, groups = family(name)
    inputs = wide(FAMILIES[name].inputs(2))
    pruned, left, widths = model, groups, {}
    for group in groups:
        if group.prunable:
            widths[group.name] = len(half(group))
            pruned, left = remove_units(pruned, left, group.name, half(group))
    cost = count_cost(pruned, inputs)
    whole = CostModel.of(model, groups, count_cost(model, inputs))
    assert whole.total(widths) == (cost.parameters, cost.macs)


def test_halved_vgg16_and_resnet50_cost_what_networks_built_at_half_the_width_do():
    image = torch.zeros(1, 3, 224, 224, device="meta")
    plan = [32, 32, "M", 64, 64, "M", *[128] * 3, "M", *[256] * 3, "M", *[256] * 3, "M"]
    with torch.device("meta"):
        vgg = VGG(plan, 2048, 1000)
        residual = ResNet(Bottleneck, (3, 4, 6, 3), (32, 64, 128, 256), 1000)
    for make, built in ((vgg16, vgg), (resnet50, residual)):
        torch.manual_seed(0)
        model = make()
        groups = discover(model.eval(), torch.randn(2, 3, 32, 32)).groups
        whole = CostModel.of(model, groups, count_cost(model.to("meta"), image))
        halves = {g.name: g.width // 2 for g in groups if g.prunable}
        expected = count_cost(built, image)
        assert whole.total(halves) == (expected.parameters, expected.macs)

"""Surgery: the smaller model is what it should be, and the given one is untouched."""

import pytest
import torch
from networks import Residual, conv_net, images, mlp
from torch import nn

from workbench.network.cost import count_cost
from workbench.network.cost_model import cost_saved
from workbench.network.finding.proof import find_groups
from workbench.network.latency import measure_latency
from workbench.network.surgery import remove_units, shrink


def silenced(model, group, lost):
    """The outputs with the lost units' columns of every reader set to zero: an independent oracle."""
    import copy

    model = copy.deepcopy(model)
    with torch.no_grad():
        for reader in group.readers:
            model.get_submodule(reader.module).weight[:, reader.columns[lost].flatten()] = 0
    return model


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc1"])
def test_removing_units_equals_zeroing_their_columns(name):
    model, x = conv_net().double(), images(5).double()
    groups = find_groups(model, x)
    group = next(g for g in groups if g.name == name)
    kept = list(range(0, group.width, 2))
    lost = [j for j in range(group.width) if j not in kept]
    pruned, _ = remove_units(model, groups, name, kept)
    torch.testing.assert_close(pruned(x), silenced(model, group, lost)(x), rtol=1e-10, atol=1e-12)


def test_a_stream_is_removed_from_all_its_layers():
    torch.manual_seed(0)
    model, x = Residual().double().eval(), images(3).double()
    groups = find_groups(model, x)
    pruned, after = remove_units(model, groups, "stem", [0, 3, 4])
    torch.testing.assert_close(pruned(x), silenced(model, groups[0], [1, 2, 5, 6])(x))
    assert pruned.inner.weight.shape == (3, 3, 3, 3)
    assert after[0].width == 3


def test_groups_stay_true_after_every_cut():
    model, x = conv_net().double(), images(5).double()
    groups = find_groups(model, x)
    for name in ("conv2", "conv1", "fc1", "conv2"):
        group = next(g for g in groups if g.name == name)
        model, groups = remove_units(model, groups, name, list(range(1, group.width)))
    again = find_groups(model, x)
    assert [(g.name, g.width) for g in groups] == [(g.name, g.width) for g in again]
    for ours, fresh in zip(groups, again, strict=True):
        for a, b in zip(ours.readers, fresh.readers, strict=True):
            assert torch.equal(a.columns, b.columns)
        for a, b in zip(ours.writers, fresh.writers, strict=True):
            assert torch.equal(a.rows, b.rows)


def test_attributes_agree_with_the_weights():
    model, x = conv_net(), images(5)
    groups = find_groups(model, x)
    pruned, _ = remove_units(model, groups, "conv2", [0, 5, 9])
    assert pruned.conv2.out_channels == pruned.bn2.num_features == pruned.act.num_parameters == 3
    assert pruned.fc1.in_features == 12
    assert pruned.bn2.running_mean.shape == (3,)
    assert pruned.bn2.num_batches_tracked.dim() == 0


def test_the_given_model_is_untouched():
    model = conv_net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    groups = find_groups(model, images(4))
    remove_units(model, groups, "conv1", [2, 3], [torch.ones(7, 2, dtype=torch.float64)])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_correction_of_identity_changes_nothing():
    model, x = conv_net(), images(5)
    groups = find_groups(model, x)
    pruned, _ = remove_units(model, groups, "conv2", list(range(11)), [torch.eye(11, dtype=torch.float64)])
    assert torch.equal(pruned(x), model(x))


def test_corrections_fold_on_the_channel_axis_at_every_position():
    model, x = conv_net().double(), images(5).double()
    groups = find_groups(model, x)
    matrix = torch.randn(11, 2, dtype=torch.float64)
    pruned, _ = remove_units(model, groups, "conv2", [4, 8], [matrix])
    expected = torch.einsum("omp,mk->okp", model.fc1.weight.reshape(13, 11, 4), matrix).reshape(13, 8)
    torch.testing.assert_close(pruned.fc1.weight.detach(), expected.detach())


@pytest.mark.parametrize(
    ("kept", "corrections"),
    [([], None), ([1, 0], None), ([0, 0], None), ([0, 7], None), ([-1], None), ([0], [])],
)
def test_bad_choices_are_refused(kept, corrections):
    model = conv_net()
    groups = find_groups(model, images(4))
    with pytest.raises(ValueError, match="conv1"):
        remove_units(model, groups, "conv1", kept, corrections)


def test_an_unknown_group_lists_the_valid_ones():
    model = conv_net()
    groups = find_groups(model, images(4))
    with pytest.raises(ValueError, match="conv1, conv2, fc1, fc2"):
        remove_units(model, groups, "conv9", [0])


def test_cost_agrees_with_a_hand_count():
    model = conv_net()
    cost = count_cost(model, images(4))
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.macs == 7 * 2 * 9 * 64 + 11 * 7 * 9 * 16 + 44 * 13 + 13 * 5
    assert cost.by_module["conv2"] == (11 * 7 * 9, 11 * 7 * 9 * 16)


class Shared(nn.Module):
    """One layer under two parents."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        shared = nn.Linear(8, 8)
        self.a, self.b = (nn.ModuleDict({"own": nn.Linear(8, 8), "shared": shared}) for _ in range(2))

    def forward(self, x):
        for part in (self.a, self.b):
            x = part["shared"](part["own"](x).relu()).relu()
        return x


def test_a_layer_under_two_parents_has_the_cost_of_all_its_calls():
    model, x = Shared(), torch.randn(16, 8)
    cost = count_cost(model, x)
    assert cost.macs == 4 * 64
    assert cost.by_module["a.shared"] == (72, 128)
    for group in find_groups(model, x):
        if group.prunable:
            smaller, _ = remove_units(model, [group], group.name, [0, 2, 5])
            after = count_cost(smaller, x)
            saved = cost_saved(cost, group, 3, model)
            assert saved == (cost.parameters - after.parameters, cost.macs - after.macs)


@pytest.mark.parametrize("model", [conv_net(), Residual().eval()], ids=["conv", "residual"])
def test_cost_saved_is_what_surgery_saves(model):
    x = images(4)
    groups = find_groups(model, x)
    before = count_cost(model, x)
    for group in groups:
        if not group.prunable:
            continue
        kept = list(range(group.width // 3))
        pruned, _ = remove_units(model, groups, group.name, kept)
        after = count_cost(pruned, x)
        saved = (before.parameters - after.parameters, before.macs - after.macs)
        assert cost_saved(before, group, len(kept), model) == saved


def test_a_smaller_network_is_really_faster_and_smaller_on_disk(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model, x = mlp(256, 2048, 2048, 10).eval(), torch.randn(256, 256)
    groups = find_groups(model, x[:4])
    pruned, groups = remove_units(model, groups, "0", list(range(256)))
    pruned, groups = remove_units(pruned, groups, "2", list(range(256)))
    for name, network in (("whole", model), ("pruned", pruned)):
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / name)
    assert (tmp_path / "pruned").stat().st_size < (tmp_path / "whole").stat().st_size / 20
    assert measure_latency(pruned, x, 10) < measure_latency(model, x, 10) / 2


def test_a_norm_without_numbers_and_a_layer_without_bias():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 7, 3, bias=False), nn.BatchNorm2d(7, affine=False), nn.ReLU(), nn.Conv2d(7, 5, 3)
    ).eval()
    x = images(4)
    groups = find_groups(model, x)
    before = count_cost(model, x)
    pruned, _ = remove_units(model, groups, "0", [1, 2])
    after = count_cost(pruned, x)
    saved = (before.parameters - after.parameters, before.macs - after.macs)
    assert cost_saved(before, groups[0], 2, model) == saved
    assert pruned[1].running_var.shape == (2,)


def test_a_wide_layer_is_cut_in_linear_time():
    """Twice the units cost about twice the work: a look at each unit, not at all lost ones for each."""

    class Counting(torch.Tensor):
        """Counts how often its numbers are listed."""

        lists = 0

        def tolist(self):
            Counting.lists += 1
            return super().tolist()

    for width in (64, 512):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
        groups = find_groups(model, torch.randn(4, 3))
        lost = torch.arange(0, width, 2).as_subclass(Counting)
        Counting.lists = 0
        shrink(model, groups[0], lost)
        assert model[0].out_features == width // 2
        assert Counting.lists <= 2

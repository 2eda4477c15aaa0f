"""What opening does between forward passes is counted: it grows with layers, not with units times groups."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network import surgery
from workbench.network.finding import training_proof, trials
from workbench.network.finding.labels import Labels
from workbench.network.finding.proof import find_groups
from workbench.network.finding.uses import Uses
from workbench.network.rebuilt import resolved
from workbench.network.rebuilt.explicit import explicit
from workbench.network.surgery import remove_units, shrink_all
from workbench.session import recipe


@pytest.fixture
def counted(monkeypatch):
    """`counted(owner, name)` notes the calls of a function from now on, by their first arguments."""

    def start(owner, name):
        calls, real = [], getattr(owner, name)

        def call(*args, **kwargs):
            calls.append(args[0] if args else None)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)
        return calls

    return start


class Dense(nn.Module):
    """Every layer reads all layers before it, as in a DenseNet."""

    def __init__(self, depth):
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(6 + 4 * i, 4) for i in range(depth))
        self.last = nn.Linear(6 + 4 * depth, 3)

    def forward(self, x):
        for step in self.steps:
            x = torch.cat([x, step(x).relu()], 1)
        return self.last(x)


def test_a_trial_cuts_every_layer_once_however_many_groups_lie_along_it(counted):
    cuts, made = counted(surgery, "set_layer_weight"), counted(trials, "refresh")
    removals = counted(trials, "shrink_all")
    torch.manual_seed(0)
    groups = find_groups(Dense(6), torch.randn(4, 6))
    assert sum(group.prunable for group in groups) == 6
    each = Counter(id(layer) for layer in cuts)
    assert max(each.values()) <= 2  # rows and columns; every trial has layers of its own
    assert len(made) == len(removals) > 0


def test_groups_removed_at_once_are_those_removed_one_after_another():
    torch.manual_seed(0)
    model, x = Dense(5).eval(), torch.randn(4, 6)
    groups = [group for group in find_groups(model, x) if group.prunable]
    lost = {group.name: torch.tensor([index % 4, 3]).unique() for index, group in enumerate(groups)}
    lost[groups[2].name] = torch.tensor([], dtype=torch.int64)
    one_by_one, left = model, tuple(groups)
    for group in groups:
        kept = [unit for unit in range(4) if unit not in lost[group.name].tolist()]
        one_by_one, left = remove_units(one_by_one, left, group.name, kept)
    at_once = Dense(5).eval()
    at_once.load_state_dict(model.state_dict())
    shrink_all(at_once, groups, lost)
    theirs = one_by_one.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in at_once.state_dict().items())
    assert torch.equal(at_once(x), one_by_one(x))
    assert [layer.in_features for layer in at_once.steps] == [
        layer.weight.shape[1] for layer in at_once.steps
    ]


class Multiplied(nn.Module):
    """Units that a bare parameter multiplies, which are refused."""

    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(5, width), nn.Linear(2, 3)
        self.matrix = nn.Parameter(torch.randn(2, width))

    def forward(self, x):
        return self.last((self.first(x)[:, None] * self.matrix.sin()).cumsum(-1)[..., -1])


@pytest.mark.parametrize(
    "made",
    [lambda n: nn.Sequential(nn.Linear(5, n), nn.ReLU(), nn.Linear(n, 3)), Multiplied],
    ids=["prunable", "refused"],
)
def test_units_are_not_looked_up_one_by_one(made, monkeypatch):
    def looks(width):
        torch.manual_seed(0)
        count, real = [], Labels.roots
        monkeypatch.setattr(Labels, "roots", lambda self, labels: count.append(1) or real(self, labels))
        find_groups(made(width), torch.randn(4, 5))
        monkeypatch.setattr(Labels, "roots", real)
        return len(count)

    assert looks(16) == looks(256)


def test_units_are_alike_where_a_count_by_hand_says_so():
    generator = np.random.default_rng(0)
    uses, by_hand = Uses(), defaultdict(lambda: defaultdict(list))
    for index in range(12):
        use = ("reader", f"layer {index % 9}")  # some are noted in two parts
        units = generator.integers(1, 30, 40) if index % 2 else generator.permutation(np.arange(1, 30))[:20]
        uses.note(use, units, np.arange(len(units)))
        for at, unit in enumerate(units.tolist()):
            by_hand[unit][use].append(at)
    expected = defaultdict(list)
    for unit, its in by_hand.items():
        expected[frozenset((use, len(at)) for use, at in its.items())].append(unit)
    found = uses.alike(31)
    assert len(found) == len(expected)
    for alike in found:
        use = next(iter(alike.uses))
        order = alike.in_order_of(use)
        assert sorted(order.tolist()) in [sorted(units) for units in expected.values()]
        firsts = [by_hand[unit][use][0] for unit in order.tolist()]
        assert firsts == sorted(firsts)
        for one in alike.uses:
            assert alike.table(one, order).tolist() == [by_hand[unit][one] for unit in order.tolist()]


class Standardised(nn.Conv2d):
    """A convolution that standardises its weight at every call."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Gained(Standardised):
    """The same, but that a number in a buffer decides whether the input's mean is a factor."""

    def __init__(self, *sizes, gain):
        super().__init__(*sizes)
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, x):
        return super().forward(x) * (1 if self.gain > 1 else x.mean())


def test_what_layers_of_one_form_compute_is_tried_once(counted):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(layer for _ in range(4) for layer in (Standardised(4, 4, 3, padding=1), nn.ReLU())),
        Standardised(4, 4, 3, padding=1, stride=2),
    ).eval()
    x = torch.randn(2, 4, 9, 9)
    expected = model(x)
    tried = counted(resolved, "agree")
    plain = explicit(model)
    assert len(tried) == 2  # with and without strides
    assert [type(layer) for layer in plain[::2]] == [nn.Conv2d] * 5
    assert torch.allclose(plain(x), expected, atol=1e-5)


def test_layers_that_buffers_tell_apart_are_tried_each_for_itself():
    torch.manual_seed(0)
    model = nn.Sequential(Gained(3, 3, 3, gain=2.0), Gained(3, 3, 3, gain=1.0), nn.ReLU()).eval()
    assert [type(layer) for layer in explicit(model)] == [nn.Conv2d, Gained, nn.ReLU]


def test_a_network_with_computed_weights_is_taken_apart_once(counted):
    torch.manual_seed(0)
    model = nn.Sequential(Standardised(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()
    again = counted(recipe, "explicit")
    session = wb.Session(model, [torch.randn(4, 3, 9, 9)])
    assert not again
    assert any(group.prunable for group in session.groups)
    assert recipe.fingerprint(session.original) == recipe.fingerprint(model)


class Writing(nn.Module):
    """A pass writes into the weight of a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Standardised(3, 6, 3), nn.Conv2d(6, 2, 3)

    def forward(self, x):
        with torch.no_grad():
            self.first.weight.mul_(1.5)
        return self.second(self.first(x).relu())


def test_a_pass_that_writes_into_a_computed_weight_is_noticed():
    torch.manual_seed(0)
    model = Writing().eval()
    given = recipe.fingerprint(model)
    session = wb.Session(model, [torch.randn(4, 3, 9, 9)])
    assert session._fingerprint == given


class Dropping(nn.Module):
    """Training drops whole examples at random."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x).relu()
        if self.training:
            x = x * torch.rand(len(x), 1).gt(0.5)
        return self.last(x)


def test_random_training_mode_is_not_compared_with_a_silenced_network(counted):
    torch.manual_seed(0)
    copies = counted(training_proof, "sharing_copy")
    groups = find_groups(Dropping(), torch.randn(4, 5))
    assert groups[0].prunable
    assert not copies


def test_the_root_of_a_lone_label_is_a_lone_label():
    labels = Labels()
    labels.fresh(3)
    labels.union(np.array([1]), np.array([2]))
    assert labels.roots(torch.tensor(2)).tolist() == 1
    assert labels.roots(torch.tensor([2, 0, -7])).tolist() == [1, 0, -7]
    assert labels.roots(torch.tensor([2, 0])).tolist() == [1, 0]
    assert not labels.roots(torch.tensor([], dtype=torch.int64)).numel()

"""What a network does in training mode alone belongs to its groups: pruned networks go on training."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.cost import count_cost
from workbench.network.cost_model import CostModel
from workbench.network.finding.assembly import discover
from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units
from workbench.network.training import training_at_rest

KEPT = [0, 2, 3, 7, 8]


class Net(nn.Module):
    """Two hidden layers, what comes out of each passing through `points`; `aux(h)` in training mode alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(7, 11), nn.Linear(11, 13), nn.Linear(13, 5)
        self.points = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, x):
        h = self.points[0](functional.relu(self.a(x)))
        g = self.points[1](functional.relu(self.b(h)))
        y = self.o(g)
        return (y, *self.train_only(x, h, g)) if self.training else y


class Head(Net):
    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h)]


class TwoHeads(Net):
    """A head of two layers on both stages at once, one used twice: the units of its own are not measured."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(24, 9), nn.Linear(9, 3)
        self.drop = nn.Dropout(0.5)

    def train_only(self, x, h, g):
        return [self.second(self.drop(self.first(torch.cat([h, g], 1)).relu()))]


class Doubled(Net):
    def __init__(self):
        super().__init__()
        self.aux, self.norm = nn.Linear(11, 3), nn.BatchNorm1d(11)

    def train_only(self, x, h, g):
        return [self.aux(h) + self.aux(self.norm(h))]


class Writer(Net):
    """Training mode alone adds to the units."""

    def __init__(self):
        super().__init__()
        self.more, self.aux = nn.Linear(7, 11), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h * self.more(x))]


class Met(Net):
    """Training mode alone adds the stages to one another, so that they must go together."""

    def __init__(self):
        super().__init__()
        self.b, self.o, self.aux = nn.Linear(11, 11), nn.Linear(11, 5), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h + g)]


class Bare(Net):
    """Training mode alone multiplies the units by a scale of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.aux = nn.Parameter(torch.rand(11)), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h * self.scale)]


class Images(nn.Module):
    """As GoogLeNet: a convolution, a pool, two linear layers, and a depthwise one before them."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, 11, 3), nn.BatchNorm2d(11), nn.Conv2d(11, 5, 1)
        self.points = nn.ModuleList([nn.Identity()])
        self.deep, self.flat, self.out = (
            nn.Conv2d(11, 11, 3, groups=11, bias=False),
            nn.Linear(44, 9),
            nn.Linear(9, 3),
        )

    def forward(self, x):
        h = self.points[0](self.n(self.a(x)).relu())
        y = self.b(h).mean((2, 3))
        if not self.training:
            return y
        pooled = functional.adaptive_avg_pool2d(self.deep(h), 2).flatten(1)
        return {"out": y, "aux": self.out(functional.dropout(self.flat(pooled).relu(), 0.5, self.training))}


def example(model):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((6, 3, 9, 9) if isinstance(model, Images) else (6, 7), generator=generator)


def built(kind):
    torch.manual_seed(0)
    return kind().eval()


def losses(output):
    parts = output.values() if isinstance(output, dict) else output
    return sum(part.square().mean() for part in parts)


def silence(units, _module, _args, output):
    return output.index_fill(1, torch.tensor(units), 0)


@pytest.mark.parametrize("kind", [Head, TwoHeads, Doubled, Writer, Met, Bare, Images])
def test_a_pruned_network_trains_and_equals_the_silenced_one(kind):
    model = built(kind)
    groups = find_groups(model, example(model))
    prunable = [group for group in groups if group.prunable]
    assert prunable[0].name == "a"
    for group in prunable:
        pruned, _ = remove_units(model, groups, group.name, KEPT)
        lost = [unit for unit in range(group.width) if unit not in KEPT]
        names = {writer.module for writer in group.writers}
        points = [point for layer, point in zip("ab", model.points, strict=False) if layer in names]
        handles = [point.register_forward_hook(partial(silence, lost)) for point in points]
        for networks_mode in (False, True):
            outputs = []
            for network in (pruned, model):
                network.train(networks_mode)
                for module in network.modules():
                    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout)):
                        module.eval()
                torch.manual_seed(3)  # the dropout of the head is on what both have
                outputs.append(network(example(model)))
            torch.testing.assert_close(*outputs)
        for handle in handles:
            handle.remove()
        optimiser = torch.optim.SGD(pruned.parameters(), 0.01)
        losses(pruned.train()(example(model))).backward()
        assert all(p.grad.abs().sum() > 0 for n, p in pruned.named_parameters() if n.endswith("weight"))
        optimiser.step()


@pytest.mark.parametrize("kind", [Head, TwoHeads, Doubled, Writer, Met, Bare, Images])
def test_costs_of_what_trains_only_are_exact(kind):
    model = built(kind)
    groups = find_groups(model, example(model))
    whole = CostModel.of(model, groups, count_cost(model, example(model)))
    for group in groups:
        if group.prunable:
            cost = count_cost(remove_units(model, groups, group.name, KEPT)[0], example(model))
            assert whole.total({group.name: len(KEPT)}) == (cost.parameters, cost.macs)


class Stream(Net):
    """Layers of training mode alone read the units and write into them."""

    def __init__(self):
        super().__init__()
        self.again, self.aux = nn.Linear(11, 11), nn.Linear(11, 3)

    def train_only(self, x, h, g):
        return [self.aux(h + self.again(h))]


def test_a_layer_of_training_mode_that_loses_rows_and_columns_is_counted_once():
    model = built(Stream)
    groups = find_groups(model, example(model))
    cost = CostModel.of(model, groups, count_cost(model, example(model)))
    left = count_cost(remove_units(model, groups, "a", KEPT)[0], example(model))
    assert cost.total({"a": len(KEPT)}) == (left.parameters, left.macs)


class Halves(nn.Module):
    """Training mode alone takes the units apart in two equal parts."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.first, self.second = (nn.Linear(*n) for n in ((7, 10), (10, 5), (5, 3), (5, 2)))

    def forward(self, x):
        h = self.a(x).relu()
        if not self.training:
            return self.o(h)
        first, second = h.chunk(2, 1)
        return self.o(h), self.first(first), self.second(second)


@pytest.mark.parametrize("kept", [[0], [1, 2, 4], [0, 1, 2, 4]])
def test_parts_that_training_mode_asks_to_be_equal_go_in_step(kept):
    model = built(Halves)
    groups = find_groups(model, example(model))
    group = next(g for g in groups if g.prunable)
    assert (group.width, len(group.writers[0].rows[0])) == (5, 2)
    pruned, _ = remove_units(model, groups, group.name, kept)
    rows = group.writers[0].rows[[unit for unit in range(5) if unit not in kept]].flatten()
    with torch.no_grad():
        model.a.weight[rows], model.a.bias[rows] = 0, 0
        for mode in (False, True):
            torch.testing.assert_close(pruned.train(mode)(example(model)), model.train(mode)(example(model)))


class Noisy(Head):
    """Training mode draws numbers, and its code counts on eleven units."""

    def train_only(self, x, h, g):
        return [self.aux(h + torch.rand(11))]


def test_units_that_meet_in_training_mode_alone_go_together():
    model = built(Met)
    group = find_groups(model, example(model))[0]
    assert [writer.module for writer in group.writers] == ["a", "b"]


class Features(Net):
    def train_only(self, x, h, g):
        return [h]


class Read(nn.Module):
    """Layer `a` is read in training mode alone, and layers of the head run then alone."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.aux, self.last = (nn.Linear(7, n) for n in (11, 5, 9, 3))
        self.aux, self.last = nn.Linear(11, 9), nn.Linear(9, 3)

    def forward(self, x):
        h, y = self.a(x).relu(), self.o(x)
        return (y, self.last(self.aux(h).relu())) if self.training else y


class FixedSize(Head):
    """The code of training mode counts on eleven units."""

    def train_only(self, x, h, g):
        return [self.aux(h + torch.zeros(11))]


class Average(Head):
    """Training mode takes a constant share of the units, whatever their number."""

    def train_only(self, x, h, g):
        return [self.aux(h) * h.shape[1]]


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Noisy, "a", "breaks the network in training mode"),
        (FixedSize, "a", "breaks the network in training mode"),
        (Average, "a", "not the same as silencing them in training mode"),
        (Features, "a", "returned by the network in training mode"),
        (Read, "a", "only training mode reads its units, in aux"),
        (Read, "aux", "the layer runs in training mode alone"),
        (Head, "aux", "the layer runs in training mode alone"),
    ],
)
def test_units_that_training_mode_holds_are_refused_with_the_reason(kind, name, reason):
    model = built(kind)
    group = wb.find_groups(model, example(model))
    found = next(g for g in group if g.name == name)
    assert not found.prunable
    assert reason in found.why_not


@pytest.mark.parametrize("kind", [Head, TwoHeads, Images])
def test_fine_tuning_runs_after_a_commit(kind):
    class First(kind):  # a loss on the main output, as fine-tuning asks for
        def forward(self, x):
            out = super().forward(x)
            out = out.values() if isinstance(out, dict) else out
            return tuple(out) if self.training else out

    model = built(First)
    x = example(model).repeat(4, *[1] * (example(model).dim() - 1))
    batches = [(x, torch.arange(24) % 5)]
    session = wb.Session(model, x, batches)
    session.measure()
    session.commit(session.preview("a", width=6))
    assert session.finetune(batches, wb.Tuning(steps=2)).steps == 2


class Moody(nn.Module):
    """Draws from every generator and counts its calls in training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.o = nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Linear(11, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        h = functional.dropout(self.n(self.a(x)), 0.2, self.training)
        if self.training:
            self.calls += 1
            h = h + 0 * (torch.rand(()) + random.random() + np.random.rand())
        return self.o(h)


def test_looking_at_training_mode_leaves_no_trace():
    model = built(Moody).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = [torch.rand(3), random.random(), np.random.rand()]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    groups = find_groups(model, example(model))
    drawn = [torch.rand(3), random.random(), np.random.rand()]
    assert torch.equal(drawn[0], expected[0])
    assert drawn[1:] == expected[1:]
    assert groups[0].prunable
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


class Targets(Net):
    def train_only(self, x, h, g):
        raise ValueError("in training mode targets are needed")


def test_a_network_that_needs_targets_in_training_mode_is_taken_as_it_evaluates():
    groups = find_groups(built(Targets), example(None))
    assert [group.prunable for group in groups] == [True, True, False]


class Dropping(nn.Module):
    """Drops by function what it computes, as transformers do; `heads` in training mode says so."""

    def __init__(self, heads=False):
        super().__init__()
        self.a, self.b, self.c, self.heads = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3), heads

    def forward(self, x):
        kept = 0.3 if self.training else 0.0
        hidden = functional.dropout(self.a(x).relu(), 0.5, self.training)
        hidden = functional.scaled_dot_product_attention(hidden, hidden, hidden, None, kept)
        hidden = functional.scaled_dot_product_attention(hidden, hidden, hidden, dropout_p=kept)
        return self.c(self.b(hidden).relu() if self.training or not self.heads else hidden)


@pytest.mark.parametrize("heads", [False, True])
def test_dropout_called_as_a_function_is_nothing_that_training_mode_does_to_units(heads):
    model, x = Dropping(heads).eval(), torch.randn(2, 5, 8)
    assert discover(model, x).alike is not heads
    assert not model.training


class Averaging(nn.Module):
    """Writes averages into its own weights while it trains, past torch's count of versions."""

    def __init__(self):
        super().__init__()
        self.codes, self.first, self.last = nn.Embedding(7, 5), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x):
        if self.training:
            self.codes.weight.data.mul_(0.5)
            self.first.weight.data.copy_(torch.zeros_like(self.first.weight))
            self.last.bias.data = self.last.bias.data + 1
        return self.last(self.first(self.codes(x)).relu())


def test_what_training_writes_into_weights_stays_in_its_copy():
    torch.manual_seed(0)
    model, x = Averaging().eval(), torch.randint(0, 7, (4, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = training_at_rest(model)
    assert not torch.equal(trained(x), model(x))
    groups = find_groups(model, x)
    assert any(group.prunable for group in groups)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    session = wb.Session(model, [x])
    assert all(torch.equal(tensor, before[name]) for name, tensor in session.model.state_dict().items())

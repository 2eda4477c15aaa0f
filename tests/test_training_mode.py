"""What a network does in training mode alone belongs to its groups: pruned networks go on training."""

from functools import partial

import pytest
import torch
from torch import nn
from training_heads import KEPT, Bare, Doubled, Head, Images, Met, Net, TwoHeads, Writer, built, example

import workbench as wb
from workbench.network.cost import count_cost
from workbench.network.cost_model import CostModel
from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units


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


def test_units_that_meet_in_training_mode_alone_go_together():
    model = built(Met)
    group = find_groups(model, example(model))[0]
    assert [writer.module for writer in group.writers] == ["a", "b"]


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

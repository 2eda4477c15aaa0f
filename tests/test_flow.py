"""The network as a graph: its edges are what hooks see, and torch.fx where it can look."""

from functools import cache

import pytest
import torch
from families import FAMILIES
from networks import ConvNet, Residual, images
from torch import fx, nn

from workbench.network.flow import ADD, CONCAT, GATE, INPUT, JOINTS, LAYER, OUTPUT, PRODUCT, flow_of
from workbench.network.running import call
from workbench.session.looking import running_network
from workbench.session.session import Session

NETWORKS = (
    "lenet",
    "resnet-projection",
    "densenet",
    "efficientnet",
    "gqa",
    "unet",
    "inception",
    "lstm",
)


@cache
def opened(name):
    family = FAMILIES[name]
    return Session(family.build(), family.inputs(8))


def layers_of(groups):
    return {part.module for group in groups for part in (*group.writers, *group.readers)}


def flow_in(session):
    return flow_of(running_network(session), layers_of(session.groups), session.example_input)


def received_by(model, layers, example, disturbed="", frozen=None):
    """What each layer receives and gives at each call, the outputs of all but one held as they were.

    The output of `disturbed` is zeroed in its first half of channels or features.
    """
    given, made, handles = {}, {}, []

    def hook(name):
        def run(_module, args, output):
            calls = made.setdefault(name, [])
            given.setdefault(name, []).append(args[0].detach().clone())
            calls.append(output.detach().clone())
            if frozen is None:
                return None
            before = frozen[name][len(calls) - 1].clone()
            return before * 0 if name == disturbed else before

        return run

    for name, module in model.named_modules():
        if name in layers:
            handles.append(module.register_forward_hook(hook(name)))
    with torch.no_grad():
        output = call(model, example)
    for handle in handles:
        handle.remove()
    return given, made, output


@pytest.mark.parametrize("name", NETWORKS)
def test_silencing_a_layer_changes_what_the_layers_after_it_receive_and_no_other(name):
    session = opened(name)
    model, layers = running_network(session), layers_of(session.groups)
    flow = flow_in(session)
    before, made, _ = received_by(model, layers, session.example_input)
    assert {node.module for node in flow.nodes if node.kind == LAYER} == set(before)
    for layer in before:
        now, _, _ = received_by(model, layers, session.example_input, layer, made)
        changed = {
            other
            for other, calls in now.items()
            if any(not torch.equal(*pair) for pair in zip(calls, before[other], strict=True))
        }
        assert flow.layers_after(layer) == changed, layer


@pytest.mark.parametrize("name", NETWORKS)
def test_the_readers_of_a_group_come_right_after_its_writers(name):
    session = opened(name)
    flow = flow_in(session)
    for group in session.groups:
        after = set().union(*(flow.layers_after(writer.module) for writer in group.writers))
        assert {reader.module for reader in group.readers} <= after, group.name


def edges_by_fx(model, layers):
    """(layer, the next layer) pairs, by following the names of a symbolic trace."""
    graph = fx.symbolic_trace(model).graph
    behind = {}
    pairs = set()
    for node in graph.nodes:
        come = (
            frozenset().union(*(behind[one] for one in node.all_input_nodes))
            if node.all_input_nodes
            else frozenset()
        )
        if node.op == "call_module" and node.target in layers:
            pairs |= {(one, node.target) for one in come}
            come = frozenset([node.target])
        behind[node] = come
    return pairs


@pytest.mark.parametrize("make", [ConvNet, Residual])
def test_the_edges_are_those_of_torch_fx(make):
    torch.manual_seed(0)
    model = make().eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    flow = flow_of(model, layers, images(4))
    assert {(a, b) for a in layers for b in flow.layers_after(a)} == edges_by_fx(model, layers)


JOINTS_OF = {
    "lenet": set(),
    "resnet-projection": {ADD},
    "densenet": {CONCAT},
    "efficientnet": {GATE, ADD},
    "gqa": {ADD, GATE, PRODUCT},
    "unet": {CONCAT},
}


@pytest.mark.parametrize("name", JOINTS_OF)
def test_joints_are_of_the_kinds_that_the_network_has(name):
    flow = flow_in(opened(name))
    assert {node.kind for node in flow.nodes} & set(JOINTS) == JOINTS_OF[name]
    assert [flow.nodes[0].kind, flow.nodes[-1].kind] == [INPUT, OUTPUT]
    assert not {end for _, end in flow.edges} & {0}
    assert not {start for start, _ in flow.edges} & {len(flow.nodes) - 1}


class Recurring(nn.Module):
    """One layer, again and again."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.first, self.again, self.last = nn.Linear(3, 7), nn.Linear(7, 7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.first(x)
        for _ in range(self.times):
            x = x + torch.tanh(self.again(x)) * torch.sigmoid(x)
        return self.last(x)


def test_a_loop_is_a_circle_however_often_it_turns():
    layers = ("first", "again", "last")
    flows = [flow_of(Recurring(times), layers, torch.randn(4, 3)) for times in (3, 30)]
    assert [len(flow.nodes) for flow in flows] == [7, 7]
    assert flows[0].layers_after("again") == {"again", "last"}


class Masked(nn.Module):
    """A mask of the inputs' own stands at an attention: no numbers come from there."""

    def __init__(self):
        super().__init__()
        self.words, self.query, self.value = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, ids):
        x = self.words(ids)
        scores = self.query(x) @ x.transpose(1, 2)
        scores = scores + (ids == 0)[:, None].float() * -1e4
        return scores.softmax(-1) @ self.value(x)


def test_masks_are_no_numbers_that_run_through_the_network():
    flow = flow_of(Masked(), ("words", "query", "value"), torch.randint(11, (3, 5)))
    assert [end for start, end in flow.edges if start == 0] == [1]


def test_the_network_is_left_as_it_was():
    model = ConvNet().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flow_of(model, ("conv1", "fc2"), images(4))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

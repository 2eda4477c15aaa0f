"""Copies of networks are those of `copy.deepcopy`, made faster."""

import copy
import copyreg

import pytest
import torch
from families import EACH, FAMILIES
from torch import nn

from workbench.network.duplicating import duplicate


def described(value, seen=None):
    """All that stands in a value, as plain data; what is met again is named by where it was met first."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return ("again", seen[id(value)])
    if isinstance(value, (torch.Tensor, nn.Module, dict, list, set)):
        seen[id(value)] = len(seen)
    if isinstance(value, torch.Tensor):
        kept = described(vars(value), seen)
        laid = (value.dtype, tuple(value.shape), value.stride(), value.storage_offset(), value.requires_grad)
        return (type(value), *laid, value.is_leaf, value.detach().flatten().tolist(), kept)
    if isinstance(value, nn.Module):
        return (type(value), described(vars(value), seen))
    if isinstance(value, dict):
        return (type(value), [(key, described(part, seen)) for key, part in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [described(part, seen) for part in value])
    return (type(value), repr(value) if isinstance(value, (int, float, str, set, frozenset)) else "")


@pytest.mark.parametrize("name", EACH)
def test_it_is_the_copy_of_deepcopy(name):
    model = FAMILIES[name].build()
    made, expected = duplicate(model), copy.deepcopy(model)
    assert described(made) == described(expected)
    mine = {t.data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}
    assert not mine & {t.data_ptr() for t in (*made.parameters(), *made.buffers()) if t.numel()}


class Odd(nn.Module):
    """What networks keep beside weights: views of one memory, itself, its parts, lists, a hook of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.same = self.layer
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.layer.weight
        whole = torch.arange(6.0)
        self.register_buffer("whole", whole)
        self.register_buffer("shaped", whole.view(2, 3))
        self.register_buffer("middle", whole[2:4])
        self.register_buffer("wide", torch.zeros(1, 3).expand(2, 3))
        self.register_buffer("last", torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last))
        self.me, self.parts, self.empty = [self], {"layer": [self.layer]}, set()
        self.sizes, self.names = (1, (2, 3)), {"a", "b"}
        self.marked = torch.ones(2)
        self.marked.note = ["kept"]
        self.layer.register_forward_hook(self.seen)

    def seen(self, _module, _args, _output):
        self.parts["seen"] = True

    def forward(self, x):
        return self.layer(x)


def test_what_is_shared_in_a_network_is_shared_in_its_copy():
    model = Odd()
    made, expected = duplicate(model), copy.deepcopy(model)
    assert described(made) == described(expected)
    assert made.same is made.layer
    assert made.tied.weight is made.layer.weight
    assert made.me[0] is made
    made.whole[3] = 70
    assert made.shaped[1, 0] == 70
    assert made.middle[1] == 70
    assert model.whole[3] == 3
    made(torch.ones(1, 3))
    assert made.parts["seen"]
    assert "seen" not in model.parts


def test_what_is_given_stands_in_the_copy():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other = nn.Parameter(torch.zeros(2, 2))
    assert duplicate(model, {id(model[1].weight): other})[1].weight is other


class Deep(nn.Linear):
    def __deepcopy__(self, memo):
        return "deep"


class Reduced(nn.Linear):
    def __reduce__(self):
        return str, ("reduced",)


class Stateful(nn.Linear):
    def __getstate__(self):
        return {**vars(self), "told": True}


class Restored(nn.Linear):
    def __setstate__(self, state):
        super().__setstate__(state)
        self.restored = True


def test_modules_that_say_how_they_are_copied_are_asked():
    assert duplicate(Deep(1, 1)) == "deep"
    assert duplicate(Reduced(1, 1)) == "reduced"
    assert duplicate(Stateful(1, 1)).told
    assert duplicate(Restored(1, 1)).restored


def test_a_way_that_was_registered_is_taken(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, nn.Linear, lambda _layer: (str, ("registered",)))
    assert duplicate(nn.Linear(1, 1)) == "registered"


def test_a_tensor_with_a_history_is_refused_as_by_deepcopy():
    layer = nn.Linear(2, 2)
    layer.kept = layer.weight * 2
    with pytest.raises(RuntimeError, match="created explicitly by the user"):
        duplicate(layer)

"""Matrices that a module keeps as bare parameters, in two axes or three, are pruned as layers."""

import copy
import pickle
import re

import pytest
import torch
from exports import apart, other_weights, outputs
from mentions import unmentioned
from silencing import each_alone, lively, worst_together
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.copying import copied
from workbench.network.rebuilt.bare_matrices import bare_matrices
from workbench.network.rebuilt.explicit import explicit, is_explicit
from workbench.session.recipe import fingerprint


def random(*shape):
    return nn.Parameter(torch.randn(shape) / shape[0] ** 0.5)


class Matrices(nn.Module):
    """Products in the ways in which people write them, one after the other."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1, self.w2, self.b2 = random(6, 10), random(10), random(10, 9), random(9)
        self.w3, self.w4, self.w5, self.w6 = random(8, 9), random(7, 8), random(7, 5), random(3, 5)

    def forward(self, x):
        x = torch.relu(x @ self.w1 + self.b1)
        x = torch.relu(torch.addmm(self.b2, x.flatten(0, 1), self.w2)).unflatten(0, x.shape[:2])
        x = torch.tanh(torch.einsum("bti,oi->bto", x, self.w3))
        turned = self.w4
        x = torch.tanh((turned @ x.transpose(1, 2)).transpose(1, 2))
        x = torch.tanh(self.last(x))
        return functional.linear(x, self.w6)

    def last(self, x):
        return x.matmul(self.w5.to(x.dtype))


class Heads(nn.Module):
    """Attention of matrices in three axes, as in XLNet, and a feed-forward part with two contracted axes."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(12, 3)
        self.q, self.k, self.v, self.o = (
            random(12, 4, 5),
            random(12, 4, 5),
            random(12, 4, 5),
            random(12, 4, 5),
        )
        self.place = random(4, 5)

    def forward(self, x):
        x = torch.tanh(self.enter(x))
        q, k, v = (torch.einsum("bti,ihd->bhtd", x, w) for w in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bhtd,bhsd->bhts", q + self.place[:, None], k), -1)
        mixed = torch.einsum("bhts,bhsd->bthd", weights, v)
        return self.leave(torch.tanh(x + torch.einsum("bthd,ohd->bto", mixed, self.o)))


class BlockDiagonal(nn.Module):
    """Each block has a matrix of its own, as in gated linear recurrences."""

    def __init__(self):
        super().__init__()
        self.blocks = 4
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(20, 3)
        self.weight, self.bias = random(4, 3, 5), random(4, 5)

    def forward(self, x):
        x = torch.tanh(self.enter(x)).reshape(-1, self.blocks, 3).transpose(0, 1)
        x = torch.baddbmm(self.bias[:, None], x, self.weight)
        return self.leave(torch.tanh(x.transpose(0, 1).reshape(-1, self.blocks * 5)))


class Tokens(nn.Module):
    """A module that hands on something else too, as code for quantized networks does."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.bias = random(outputs, inputs), random(outputs)

    def forward(self, x, scale=None):
        return functional.linear(x, weight=self.weight, bias=self.bias), scale


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Tokens(6, 10), Tokens(10, 8), Tokens(8, 3)

    def forward(self, x):
        x, scale = self.a(x)
        x, scale = self.b(torch.relu(x), scale)
        return self.c(torch.relu(x), scale)[0]


KINDS = {  # how to build it, shape of an example, prunable widths
    "matrices": (Matrices, (4, 6), [10, 9, 8, 7, 5]),
    "heads": (Heads, (4, 6), [12, 4]),
    "blocks": (BlockDiagonal, (6,), [4]),
    "pairs": (Pairs, (6,), [10, 8]),
}


def made(name):
    torch.manual_seed(0)
    build, shape, _ = KINDS[name]
    return build().eval(), torch.randn(5, *shape)


@pytest.mark.parametrize("name", KINDS)
class TestEach:
    def test_groups_are_those_of_layers_and_removal_is_silencing(self, name):
        model, x = made(name)
        x = x.double()
        lively(model)
        session = wb.Session(model, [x])
        assert [g.width for g in session.groups if g.prunable] == KINDS[name][2]
        assert unmentioned(session) == set()
        assert session.stays == ()
        with torch.no_grad():
            torch.testing.assert_close(session.model(x), model(x))
        alone = each_alone(session.model, session.groups, x, times=3)
        assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())
        assert worst_together(session.model, session.groups, x, times=3) <= 1e-9

    def test_the_export_comes_back_and_a_session_knows_its_network(self, name, tmp_path):
        model, x = made(name)
        session = wb.Session(model, [x])
        session.measure()
        for group in session.groups:
            if group.prunable:
                session.commit(session.preview(group.name, width=group.width // 2, reconstruction="original"))
        session.export(tmp_path, formats=("safetensors", "pt2"))
        loaded = wb.load_pruned(other_weights(made(name)[0]), tmp_path)
        expected = outputs(session.model, x)
        assert all(torch.equal(a, b) for a, b in zip(outputs(loaded, x), expected, strict=True))
        program = torch.export.load(tmp_path / "model.pt2").module()
        assert apart(outputs(program, x), expected) <= 1e-5
        assert fingerprint(model) == fingerprint(explicit(copied(model)))

    def test_copies_have_layers_of_their_own_and_a_second_call_changes_nothing(self, name):
        model, x = made(name)
        assert not is_explicit(model)
        model = explicit(model)
        assert is_explicit(model)
        names = [key for key, _ in explicit(model).named_parameters()]
        with torch.no_grad():
            expected = model(x)
            for other in (copy.deepcopy(model), copied(model), pickle.loads(pickle.dumps(model))):
                assert [key for key, _ in other.named_parameters()] == names
                assert torch.equal(other(x), expected)
                for parameter in other.parameters():
                    parameter.zero_()
                assert not other(x).any()
            assert torch.equal(model(x), expected)


def test_code_goes_on_reading_the_parameter():
    class Reading(Matrices):
        def forward(self, x):
            return super().forward(x) * self.w1.shape[0] / self.w5.mean().detach()

    torch.manual_seed(0)
    model, x = Reading().eval(), torch.randn(5, 4, 6)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    same = explicit(copied(model))
    torch.testing.assert_close(same(x), model(x))
    for name, value in before.items():
        assert torch.equal(getattr(same, name), value)
    same(x).sum().backward()
    model(x).sum().backward()
    gradients = {name.removesuffix("_layer.weight"): p.grad for name, p in same.named_parameters()}
    for name in ("w1", "w2"):
        torch.testing.assert_close(gradients[name], getattr(model, name).grad.t(), rtol=1e-4, atol=1e-5)


class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = random(6, 10)

    def forward(self, x):
        return torch.relu(x @ self.w) @ self.w.t()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Tokens(6, 6), Tokens(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x)[0]))[0]


class Places(nn.Module):
    """What is added is no matrix of a product, whatever it is added to."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.place = nn.Linear(6, 10), nn.Linear(10, 3), random(4, 10)

    def forward(self, x):
        return self.b(torch.relu(self.a(x) + self.place) @ torch.eye(10))


@pytest.mark.parametrize(("kind", "shape"), [(TwoWays, (6,)), (Shared, (6,)), (Places, (4, 6))])
def test_what_is_no_weight_of_one_layer_is_left(kind, shape):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(5, *shape)
    session = wb.Session(model, [x])
    assert not any(name.endswith("_layer.weight") for name, _ in session.model.named_parameters())
    assert unmentioned(session) == set()
    with torch.no_grad():
        assert torch.equal(session.model(x), model(x))


def test_code_without_a_source_is_left():
    space = {"nn": nn, "torch": torch}
    exec(
        "class Typed(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = nn.Parameter(torch.ones(6, 4))\n"
        "    def forward(self, x):\n"
        "        return x @ self.w\n",
        space,
    )
    assert bare_matrices(space["Typed"]()) == {}


def einsum(first, second, pattern):
    """With axes in words behind the operands, as einops has it."""
    words = dict.fromkeys(pattern.replace("->", " ").replace(",", " ").split())
    letters = {word: chr(ord("a") + at) for at, word in enumerate(words)}
    equation = "".join(letters.get(part, part) for part in pattern.replace(",", " , ").split())
    return torch.einsum(equation, first, second)


class Products(nn.Module):
    """Of one bare matrix, in a form that is given."""

    def __init__(self):
        super().__init__()
        self.enter, self.w, self.leave = nn.Linear(6, 10), random(10, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.leave(torch.tanh(self.product(torch.tanh(self.enter(x)))))


class InWords(Products):
    def product(self, x):
        return einsum(x, self.w, "batch time channel, channel out -> batch time out")


class ByVectors(Products):
    def product(self, x):
        rows = [torch.mv(self.w.t(), row) for row in x.flatten(0, 1)]
        return torch.stack(rows).unflatten(0, x.shape[:2])


class Clamped(Products):
    def product(self, x):
        with torch.no_grad():
            self.w.clamp_(-5, 5)
        return x @ self.w


class Sliced(Products):
    def product(self, x):
        return torch.cat([x @ self.w[:, :4], x @ self.w[:, 4:]], -1)


class Penalised(Products):
    def product(self, x):
        return x @ self.w + 0 * self.w.sum()


class ByName(Products):
    def product(self, x):
        return x @ self.w + 0 * dict(self.named_parameters(recurse=False))["w"].sum()


class Final(Products):
    def __init_subclass__(cls, **_options):
        raise TypeError("nobody makes a class of this one")

    def product(self, x):
        return x @ self.w


class Making(type):
    """A class of classes, which would take note of another one."""


class Made(Products, metaclass=Making):
    def product(self, x):
        return x @ self.w


@pytest.mark.parametrize("kind", [InWords, ByVectors, Clamped, Sliced, Penalised, ByName, Final, Made])
def test_products_in_other_forms_are_right_or_refused_in_words(kind):
    torch.manual_seed(0)
    model, x = lively(kind()), torch.randn(4, 5, 6).double()
    session = wb.Session(model, [x])
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), model(x))
    assert unmentioned(session) == set()
    widths = {g.name: g.width for g in session.groups if g.prunable}
    if kind in (InWords, ByVectors, Clamped, Final):
        assert widths == {"enter": 10, "w_layer": 8}
    else:
        assert widths == {}
        reasons = [g.why_not for g in session.groups] + [one.why_not for one in session.stays]
        assert any(re.search(r"bare parameter|multiplies by it|outside of its layer", why) for why in reasons)
    alone = each_alone(session.model, session.groups, x, times=3)
    assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())

"""Code that looks at its own parameters, modules or class sees none of the layers made of bare matrices."""

import copy

import pytest
import torch
from exports import other_weights, outputs
from mentions import unmentioned
from silencing import each_alone, lively
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.finding.looking_up import looked_up
from workbench.network.rebuilt.explicit import explicit


def random(*shape):
    return nn.Parameter(torch.randn(shape) / shape[0] ** 0.5)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.scales = random(10, 8), nn.Parameter(torch.full((3,), 0.4))

    def forward(self, x):
        return torch.tanh(x @ self.w) * self.scales.sum()


class Around(nn.Module):
    """A module that multiplies by a bare matrix, with code around that is given."""

    def __init__(self):
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(6, 10), Inner(), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.enter(x))
        return self.leave(torch.tanh(self.look(x, self.inner)))


class ByItsName(Around):
    def look(self, x, inner):
        return inner(x) + dict(inner.named_parameters())["w"].sum()


class ByState(Around):
    def look(self, x, inner):
        return inner(x) + inner.state_dict()["w"].sum()


class ByKind(Around):
    def look(self, x, inner):
        return inner(x) * (2 if isinstance(inner.w, nn.Parameter) else 1)


class ByClass(Around):
    def look(self, x, inner):
        return inner(x) * (2 if type(inner) is Inner else 1)


class ByCount(Around):
    def look(self, x, inner):
        return inner(x) * len(list(self.modules()))


class ByRows(Around):
    def look(self, x, inner):
        return inner(x) + sum(parameter[0].sum() for parameter in inner.parameters())


class ByHook(Around):
    def __init__(self):
        super().__init__()
        self.inner.register_forward_hook(lambda m, _args, out: out + m._parameters["w"].sum())

    def look(self, x, inner):
        return inner(x)


class Own(nn.Module):
    """Its own bare matrix, multiplied by in a form that is given."""

    def __init__(self, *shape):
        super().__init__()
        self.enter, self.w, self.leave = nn.Linear(6, 10), random(*shape or (10, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.leave(torch.tanh(self.product(torch.tanh(self.enter(x)))))

    def product(self, x):
        return x @ self.w


class ByProperty(Own):
    @property
    def all_of_them(self):
        return dict(self.named_parameters())

    def product(self, x):
        return x @ self.w + self.all_of_them["w"].sum()


class BySuper(Own):
    def product(self, x):
        return super(self.__class__, self).product(x)


class Put(Own):
    def product(self, x):
        self.w.data = self.w.data.clamp(-0.1, 0.1)
        return x @ self.w


class Repeated(Own):
    """One block for every example."""

    def __init__(self):
        super().__init__(1, 10, 8)


class RepeatedInLetters(Repeated):
    def product(self, x):
        return torch.einsum("bti,bio->bto", x, self.w)


class CopiesItself(Own):
    def __deepcopy__(self, _memo):
        new = type(self)().to(self.w.dtype).train(self.training)
        new.load_state_dict(self.state_dict())
        return new


class MadeOfSizes(Own):
    sizes = (10, 8)

    def __new__(cls, rows, columns):
        return super().__new__(cls)

    def __getnewargs__(self):
        return self.sizes


class Layers(nn.Sequential):
    """A container with a matrix of its own, before what it contains."""

    def __init__(self):
        super().__init__(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 3))
        self.w = random(6, 8)

    def forward(self, x):
        return super().forward(torch.tanh(x @ self.w))


LOOKING = [ByItsName, ByState, ByKind, ByClass, ByCount, ByRows, ByHook, ByProperty, BySuper, Repeated,
           RepeatedInLetters, CopiesItself, MadeOfSizes, Layers]  # fmt: skip


def marks(model):
    modules = [(name, type(m), sorted(vars(m)), m.training) for name, m in model.named_modules()]
    return modules, [(name, id(p), p._version, p.requires_grad) for name, p in model.named_parameters()]


@pytest.mark.parametrize("kind", LOOKING)
def test_a_network_that_looks_is_right_and_comes_back(kind, tmp_path):
    torch.manual_seed(0)
    model, x = lively(kind(*getattr(kind, "sizes", ()))), torch.randn(4, 5, 6).double()
    with torch.no_grad():
        expected = copy.deepcopy(model)(x)
    before = marks(model)
    session = wb.Session(model, [x])
    assert marks(model) == before
    assert session.parameters == sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), expected)
    assert unmentioned(session) == set()
    alone = each_alone(session.model, session.groups, x, times=2)
    assert all(off <= 1e-9 for off, _ in alone.values())
    session.measure()
    for group in session.groups:
        if group.prunable:
            session.commit(session.preview(group.name, width=group.width // 2, reconstruction="original"))
    session.export(tmp_path / "export", formats=("safetensors",))
    session.save(tmp_path / "session")
    pruned = outputs(session.model, x)
    loaded = wb.load_pruned(other_weights(copy.deepcopy(model)), tmp_path / "export")
    opened = wb.Session.open(tmp_path / "session", model=model, calibration=[x])
    for other in (loaded, opened.model):
        assert all(torch.equal(a, b) for a, b in zip(outputs(other, x), pruned, strict=True))


def test_what_is_put_into_a_parameter_is_there():
    torch.manual_seed(0)
    model, x = Put().eval(), torch.randn(4, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(wb.Session(model, [x]).model(x), model(x))


def test_two_names_of_one_matrix_stay_one():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(6, 10), nn.Linear(10, 3)
            self.v = self.w = random(10, 10)

        def forward(self, x):
            return self.leave(torch.tanh(torch.tanh(torch.tanh(self.enter(x)) @ self.w) @ self.v))

    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(4, 6)
    session = wb.Session(model, [x])
    assert session.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert unmentioned(session) == set()


def test_classes_are_not_told_of_classes_made_of_them():
    register, made = [], []

    class Registered(Own):
        def __init_subclass__(cls, **_options):
            register.append(cls)

    class Making(type):
        def __new__(cls, *parts):
            new = super().__new__(cls, *parts)
            made.append(new)
            return new

    class Made(Own, metaclass=Making):
        pass

    torch.manual_seed(0)
    x = torch.randn(4, 6)
    for kind in (Registered, Made):
        session = wb.Session(kind(), [x])
        assert unmentioned(session) == set()
    assert register == []
    assert made == [Made]
    assert looked_up(Made(), x) is None
    assert looked_up(Registered(), x) is not None
    assert register == []


@pytest.mark.parametrize("wide", [1, 10])
def test_a_weight_that_is_repeated_to_fit_is_no_product_of_a_layer(wide):
    class Summed(Own):
        def __init__(self):
            super().__init__()
            del self.w
            self.mid = nn.Linear(wide, 8, bias=False)

        def product(self, x):
            return torch.einsum("bti,oi->bto", x, self.mid.weight)

    torch.manual_seed(0)
    model, x = Summed().eval(), torch.randn(4, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(explicit(copy.deepcopy(model))(x), model(x))


@pytest.mark.parametrize("cut", [True, False])
def test_a_weight_taken_out_of_the_gradient_gets_none(cut):
    class Cut(Own):
        def __init__(self):
            super().__init__()
            del self.w
            self.mid = nn.Linear(10, 8)

        def product(self, x):
            weight = self.mid.weight.detach() if cut else self.mid.weight
            return functional.linear(x, weight, self.mid.bias)

    torch.manual_seed(0)
    model, x = Cut(), torch.randn(4, 6)
    session = wb.Session(model, [x])
    assert {group.name: group.width for group in session.groups if group.prunable} == {"enter": 10, "mid": 8}
    for network in (model, session.model):
        network(x).sum().backward()
        assert (network.mid.weight.grad is None) is cut
        assert network.mid.bias.grad is not None


def test_a_fitted_bias_of_a_layer_under_two_names_comes_back(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.first, self.leave = nn.Linear(6, 10), Inside(), nn.Linear(10, 3)
            self.second = self.first

        def forward(self, x):
            return self.leave(self.second(self.first(self.enter(x))))

    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(10, 10, bias=False)

        def forward(self, x):
            return torch.tanh(self.layer(x))

    torch.manual_seed(0)
    model, x = Shared().double(), torch.randn(40, 6).double()
    session = wb.Session(model, [x])
    session.measure()
    session.commit(session.preview("enter", width=5, reconstruction="original"))
    assert session.model.first.layer.bias is not None
    session.save(tmp_path)
    opened = wb.Session.open(tmp_path, model=model, calibration=[x])
    assert torch.equal(opened.model(x), session.model(x))


class Masked(nn.Linear):
    """As the layers of a network that predicts one number after the other: the weight itself is masked."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("mask", torch.ones(outputs, inputs).tril())

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class Clamped(Own):
    def product(self, x):
        with torch.no_grad():
            self.w.clamp_(-0.1, 0.1)
        return x @ self.w


@pytest.mark.parametrize(
    "kind", [Put, Clamped, lambda: nn.Sequential(Masked(6, 10), nn.Tanh(), nn.Linear(10, 3))]
)
def test_a_session_of_a_network_that_writes_into_its_weights_is_opened_again(kind, tmp_path):
    torch.manual_seed(0)
    model, x = kind().double().eval(), torch.randn(4, 5, 6).double()
    session = wb.Session(model, [x])
    session.save(tmp_path)
    opened = wb.Session.open(tmp_path, model=model, calibration=[x])
    assert torch.equal(opened.model(x), session.model(x))

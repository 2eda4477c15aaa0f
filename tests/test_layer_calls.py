"""Code that multiplies by a layer's weight itself: the layer is pruned as if it had been called."""

import copy
import pickle
import re

import pytest
import torch
from exports import apart, other_weights, outputs
from silencing import each_alone, worst_together
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.rebuilt.explicit import explicit
from workbench.network.surgery import remove_units


class Using(nn.Module):
    """a → what `use` makes of the layer b → c."""

    def __init__(self, use, bias=True, conv=False):
        super().__init__()
        self.use = use
        if conv:
            self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 9, 3, padding=1, bias=bias)
            self.c = nn.Conv2d(9, 3, 1)
        else:
            self.a, self.b, self.c = nn.Linear(5, 12), nn.Linear(12, 9, bias=bias), nn.Linear(9, 3)

    def forward(self, x):
        return self.c(self.product(torch.relu(self.a(x))).tanh())

    def product(self, x):
        return self.use(x, self.b.weight, self.b.bias)


def named(x, weight, bias):
    return functional.linear(bias=bias, weight=weight, input=x)


def squeezed(x, weight, bias):
    """As Mamba does: the weight of a convolution is taken apart on the way."""
    return functional.conv2d(x, weight.flatten(1).view(weight.shape), bias, padding=1)


USES = {
    "linear": (lambda x, w, b: functional.linear(x, w, b), {}),
    "linear by names": (named, {}),
    "linear without a bias": (lambda x, w, b: functional.linear(x, w), {"bias": False}),
    "a product": (lambda x, w, b: x @ w.t(), {"bias": False}),
    "a product by name": (lambda x, w, b: torch.matmul(x, w.T), {"bias": False}),
    "a sum by letters": (lambda x, w, b: torch.einsum("ni, oi -> no", x, w), {"bias": False}),
    "a sum by letters and dots": (lambda x, w, b: torch.einsum("...c,dc->...d", x, w), {"bias": False}),
    "a product and the bias": (lambda x, w, b: x @ w.t() + b, {}),
    "no bias": (lambda x, w, b: functional.linear(x, w), {}),
    "a part of the bias": (lambda x, w, b: functional.linear(x, w, b * 0), {}),
    "another bias": (lambda x, w, b: functional.linear(x, w, x.new_ones(len(w))), {"bias": False}),
    "from the left": (lambda x, w, b: (w @ x.t() + b[:, None]).t(), {}),
    "from the left in a batch": (lambda x, w, b: (w @ x[None].transpose(1, 2))[0].t() + b, {}),
    "added to the bias": (lambda x, w, b: torch.addmm(b, x, w.t()), {}),
    "letters in any order": (lambda x, w, b: torch.einsum("oi,ni->on", w, x).t() + b, {}),
    "letters without a result": (lambda x, w, b: torch.einsum("ni,oi", x, w) + b, {}),
    "a convolution": (lambda x, w, b: functional.conv2d(x, w, b, 1, 1), {"conv": True}),
    "a convolution by a view": (squeezed, {"conv": True}),
}


def inputs_of(model):
    generator = torch.Generator().manual_seed(2)
    shape = (6, 3, 9, 9) if isinstance(model.a, nn.Conv2d) else (6, 5)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", USES)
class TestEach:
    def model(self, name):
        torch.manual_seed(0)
        use, options = USES[name]
        return Using(use, **options).eval()

    def test_it_is_pruned_as_a_layer(self, name):
        model = self.model(name)
        x = inputs_of(model)
        session = wb.Session(model, [x])
        assert [g.prunable for g in session.groups] == [True, True, False]
        assert session.stays == ()
        with torch.no_grad():
            torch.testing.assert_close(session.model(x), model(x), rtol=1e-5, atol=1e-6)
        double = session.model.double()
        assert worst_together(double, session.groups, x.double(), times=3) <= 1e-9
        alone = each_alone(double, session.groups, x.double(), times=3)
        assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())

    def test_what_is_removed_is_right_in_the_class_itself(self, name):
        """Layers cut by the groups found, put into a network whose code is as it was."""
        model = self.model(name)
        x = inputs_of(model)
        groups = wb.Session(model, [x]).groups
        pruned, _ = remove_units(model, groups, "a", [0, 3, 4, 9])
        silent = copy.deepcopy(model)
        with torch.no_grad():
            silent.b.weight[:, [u for u in range(12) if u not in (0, 3, 4, 9)]] = 0
            torch.testing.assert_close(pruned(x), silent(x))

    @pytest.mark.parametrize("reconstruction", ["channel", "original"])
    def test_reconstruction_works_and_the_export_comes_back(self, name, reconstruction, tmp_path):
        model = self.model(name)
        x = inputs_of(model)
        session = wb.Session(model, [x])
        session.measure()
        session.commit(session.preview("a", width=6, reconstruction=reconstruction))
        session.commit(session.preview("b", width=5, reconstruction=reconstruction))
        session.export(tmp_path, formats=("safetensors", "pt2"))
        loaded = wb.load_pruned(other_weights(self.model(name)), tmp_path)
        program = torch.export.load(tmp_path / "model.pt2").module()
        expected = outputs(session.model, x)
        assert apart(outputs(loaded, x), expected) <= 1e-6
        assert apart(outputs(program, x), expected) <= 1e-5


def test_moments_are_those_of_what_the_layer_would_have_received():
    torch.manual_seed(0)
    model = Using(USES["linear"][0]).eval()
    x = inputs_of(model)
    session = wb.Session(model, [x])
    session.measure()
    with torch.no_grad():
        hidden = torch.relu(model.a(x)).double()
    found = torch.as_tensor(session.spectrum("a").eigenvalues)
    expected = torch.linalg.eigvalsh(hidden.T @ hidden / len(x)).flip(0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_called_is_not_called_twice():
    class Both(Using):
        def forward(self, x):
            x = torch.relu(self.a(x))
            return self.c((self.b(x) + self.product(x)).tanh())

    torch.manual_seed(0)
    model = explicit(Both(USES["linear"][0]).eval())
    calls = []
    for name in "abc":
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model(torch.randn(4, 5))
    assert calls == ["a", "b", "b", "c"]


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w, b: functional.linear(x, w, 2 * b),
        lambda x, w, b: functional.linear(x, 2 * w, b),
        lambda x, w, b: torch.addmm(b, x, w.t(), alpha=0.5),
        lambda x, w, b: torch.einsum("ni,oi->no", x, w.cos()) + b,
    ],
)
def test_another_product_is_refused_with_the_reason(use):
    torch.manual_seed(0)
    model = Using(use).eval()
    x = inputs_of(model)
    session = wb.Session(model, [x])
    with torch.no_grad():
        assert torch.equal(session.model(x), model(x))
    (group,) = [g for g in session.groups if "b" in [writer.module for writer in g.writers]]
    assert not group.prunable
    assert re.search("the weight of b .*outside of", group.why_not)


def test_what_no_forward_names_is_left_and_a_second_call_changes_nothing():
    model = nn.Sequential(nn.Linear(5, 6), Using(USES["linear"][0]))
    assert "forward" not in vars(explicit(model))
    inside = vars(model[1])["forward"]
    assert vars(explicit(model)[1])["forward"] is inside


def test_a_copy_calls_its_own_layers_and_can_be_pickled():
    model = explicit(Using(functional.linear).eval())
    x = inputs_of(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            other.b.weight.zero_()
        seen = []
        other.b.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        other(x)
        assert seen == [1]
        assert model.b.weight.any()


class Doubled(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Padded(nn.Conv2d):
    def forward(self, x):
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


def hooked(*sizes):
    layer = nn.Linear(*sizes)
    layer.register_forward_hook(lambda _m, _args, output: output + 1)
    return layer


def patched(*sizes):
    layer = nn.Linear(*sizes)
    layer.forward = lambda x: functional.linear(x, layer.weight, layer.bias) - 1
    return layer


@pytest.mark.parametrize("made", [lambda: Doubled(12, 9), lambda: hooked(12, 9), lambda: patched(12, 9)])
def test_a_layer_that_does_more_than_multiply_is_not_called_instead(made):
    torch.manual_seed(0)
    model = Using(USES["linear"][0]).eval()
    model.b = made()
    x = inputs_of(model)
    session = wb.Session(model, [x])
    with torch.no_grad():
        assert torch.equal(session.model(x), model(x))
    assert not any(g.prunable for g in session.groups if "b" in [writer.module for writer in g.writers])


def test_a_convolution_that_pads_for_itself_is_not_called_instead():
    torch.manual_seed(0)
    model = Using(lambda x, w, b: functional.conv2d(x, w, b, padding=1), conv=True).eval()
    model.b = Padded(12, 9, 3, padding=1)
    x = inputs_of(model)
    with torch.no_grad():
        assert torch.equal(explicit(copy.deepcopy(model))(x), model(x))


def written(x, weight, bias):
    out = x.new_zeros(len(x), len(weight))
    torch.mm(x, weight.t(), out=out)
    return out


def diagonal(x, weight, bias):
    return torch.einsum("ii,oi->io", x[:12, :12], weight)


@pytest.mark.parametrize("use", [written, diagonal])
def test_products_that_write_elsewhere_or_take_a_diagonal_stay_what_they_are(use):
    torch.manual_seed(0)
    model = Using(use, bias=False).eval()
    x = torch.randn(12, 5)
    with torch.no_grad():
        assert torch.equal(explicit(copy.deepcopy(model))(x), model(x))


class Pool(nn.Module):
    """Pooling by attention, its layers handed to torch's own function, as CLIP's image encoder does."""

    def __init__(self, biases=True, swapped=False):
        super().__init__()
        self.swapped, self.num_heads = swapped, 4
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(8, 3)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(12, 12, bias=biases) for _ in range(3))
        self.c_proj = nn.Linear(12, 8, bias=biases)

    def forward(self, x):
        x = torch.tanh(self.enter(x)).transpose(0, 1)
        layers = [self.q_proj, self.k_proj, self.v_proj]
        biases = [layer.bias for layer in (layers[::-1] if self.swapped else layers)]
        out, _ = functional.multi_head_attention_forward(
            x[:1], x, x, x.shape[-1], self.num_heads, None, None if None in biases else torch.cat(biases),
            None, None, False, 0.0, self.c_proj.weight, self.c_proj.bias, self.training, need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight, v_proj_weight=self.v_proj.weight,
        )  # fmt: skip
        return self.leave(torch.relu(out[0]))


@pytest.mark.parametrize("biases", [True, False])
def test_heads_of_attention_by_torchs_function_go(biases, tmp_path):
    torch.manual_seed(0)
    model, x = Pool(biases).double().eval(), torch.randn(4, 5, 6).double()
    session = wb.Session(model, [x])
    assert {g.name: g.width for g in session.groups if g.prunable} == {"enter": 12, "q_proj": 4, "c_proj": 8}
    with torch.no_grad():
        torch.testing.assert_close(session.model(x), model(x))
    alone = each_alone(session.model, session.groups, x, times=3)
    assert all(off <= 1e-9 and effect > 1e-6 for off, effect in alone.values())
    session.measure()
    session.commit(session.preview("q_proj", width=2, reconstruction="original"))
    session.export(tmp_path, formats=("safetensors", "pt2"))
    expected = outputs(session.model, x)
    assert apart(outputs(wb.load_pruned(Pool(biases).double(), tmp_path), x), expected) == 0
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert apart(outputs(program, x), expected) <= 1e-9


def test_attention_with_biases_of_others_is_left():
    torch.manual_seed(0)
    model, x = Pool(swapped=True).eval(), torch.randn(4, 5, 6)
    session = wb.Session(model, [x])
    with torch.no_grad():
        assert torch.equal(session.model(x), model(x))
    assert not any(g.prunable for g in session.groups if g.name in ("enter", "q_proj"))

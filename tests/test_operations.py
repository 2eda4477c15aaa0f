"""What operations between two layers do to units: passed on, and then removal is silencing, or refused."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import workbench as wb
from workbench.network.finding.dependence import settle_by_trying
from workbench.network.finding.labels import Labels
from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units

KEPT = [0, 3, 4, 9, 11]
ROWS = torch.tensor([2, 0, 1, 1, 3, 0])


class Between(nn.Module):
    def __init__(self, function, conv):
        super().__init__()
        self.function = function
        self.a = nn.Conv2d(3, 12, 3, padding=1) if conv else nn.Linear(8, 12)
        self.b = nn.Conv2d(12, 4, 1) if conv else nn.Linear(12, 4)

    def forward(self, x):
        return self.b(self.function(self.a(x)))


FLAT = {
    "hardswish": functional.hardswish,
    "hardswish in place": lambda x: functional.hardswish(x, inplace=True),
    "logsigmoid": functional.logsigmoid,
    "rrelu": functional.rrelu,
    "floor_divide": lambda x: x // 0.5,
    "bucketize": lambda x: torch.bucketize(x, torch.linspace(-1, 1, 5)).float(),
    "fake quantize": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
    "index_fill": lambda x: x.index_fill(0, torch.tensor([1]), 0.5),
    "fft": lambda x: torch.fft.fft(x, dim=0).real,
    "rfft and back": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=0), dim=0),
    "scatter": lambda x: torch.zeros_like(x).scatter(0, ROWS[:, None].expand_as(x), x),
    "scatter_add": lambda x: x.scatter_add(0, ROWS[:, None].expand_as(x), x),
    "scatter_reduce": lambda x: torch.zeros_like(x).scatter_reduce(0, ROWS[:, None].expand_as(x), x, "amax"),
    "index_add": lambda x: torch.zeros_like(x).index_add(0, ROWS, x),
    "index_add in place": lambda x: torch.zeros_like(x).index_add_(0, ROWS, x),
    "index_copy": lambda x: torch.zeros_like(x).index_copy(0, ROWS.unique(), x[:4]),
    "index_reduce": lambda x: torch.ones_like(x).index_reduce(0, ROWS, x, "mean"),
}
IMAGES = {
    "max_unpool": lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
    "fold": lambda x: functional.fold(functional.unfold(x, 2, stride=2), x.shape[-2:], 2, stride=2),
    "blur": lambda x: functional.conv2d(x, torch.ones(x.shape[1], 1, 3, 3) / 9, padding=1, groups=x.shape[1]),
    "rfft2": lambda x: torch.fft.irfft2(torch.fft.rfft2(x)),
    "a norm group a channel": lambda x: functional.group_norm(x, x.shape[1]),
}


LIBRARY = torch.library.Library("workbench_tests", "DEF")
for schema in (
    "snake(Tensor x) -> Tensor",
    "shifted(Tensor x, int dim) -> Tensor",
    "noisy(Tensor x) -> Tensor",
):
    LIBRARY.define(schema)
LIBRARY.impl("snake", lambda x: x + torch.sin(3 * x) ** 2 / 3, "CPU")
LIBRARY.impl("shifted", lambda x, dim: x + torch.cat([x, x], dim).narrow(dim, 1, x.shape[dim]), "CPU")
LIBRARY.impl("noisy", lambda x: x + torch.randn_like(x), "CPU")
SNAKE, SHIFTED, NOISY = (getattr(torch.ops.workbench_tests, name) for name in ("snake", "shifted", "noisy"))
# In no family at all: what they depend on is tried.
FLAT |= {
    "an operator of one's own": SNAKE,
    "neighbours among the examples": lambda x: SHIFTED(x, 0),
    "index_put that adds": lambda x: torch.zeros_like(x).index_put((ROWS,), x, accumulate=True),
    "index_put_ that adds": lambda x: torch.zeros_like(x).index_put_((ROWS,), x, accumulate=True),
    "renorm of a unit": lambda x: x.renorm(2, 1, 0.5),
    "renorm_ of a unit": lambda x: x.clone().renorm_(2, 1, 0.5),
    "cummax": lambda x: x.cummax(0).values,
    "searchsorted": lambda x: torch.searchsorted(torch.linspace(-1, 1, 5), x).float(),
    "quantized in place": lambda x: torch.fake_quantize_per_tensor_affine(
        x, torch.tensor(0.1), torch.tensor(0), -9, 9
    ),
    "rrelu in place": lambda x: functional.rrelu(x, inplace=True),
    "leaky_relu with out": lambda x: torch.ops.aten.leaky_relu.out(x, 0.1, out=torch.empty_like(x)),
    "hardswish with out": lambda x: torch.ops.aten.hardswish.out(x, out=torch.empty_like(x)),
    "turned and own": lambda x: SNAKE(x.t()).t().contiguous(),
    "the largest of the examples": lambda x: x - x.max(0).values,
    "the larger of two": lambda x: torch.max(x, x.tanh()),
    "masked by a tensor": lambda x: x.clone().masked_fill_(x > 1, torch.tensor(0.5)),
    "of a unit alone": lambda x: SHIFTED(x.t().unsqueeze(-1), 1).squeeze(-1).t().contiguous(),
}


@pytest.mark.parametrize("conv", [False, True])
def test_what_is_random_is_not_taken_for_what_it_depends_on(conv):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8) if conv else torch.randn(6, 8)
    (first, _) = find_groups(Between(NOISY, conv).eval(), x)
    assert not first.prunable
    assert "noisy" in first.why_not


def test_an_operator_with_a_bare_parameter_is_named():
    weight = torch.nn.Parameter(torch.rand(6, 12))

    class Bare(Between):
        def __init__(self):
            super().__init__(None, conv=False)
            self.bare = weight

        def forward(self, x):
            return self.b(torch.cdist(self.a(x), self.bare) @ self.a(x)[:, :12])

    (first, _) = find_groups(Bare(), torch.randn(6, 8))
    assert not first.prunable
    assert "they reach the operation '_cdist_forward'" in first.why_not


@pytest.mark.parametrize("units", [5, 40])
def test_many_units_are_told_apart_by_few_tries(units):
    calls = []

    def own(x):
        calls.append(1)
        return SHIFTED(x, 0)

    LIBRARY.define(f"counted{units}(Tensor x) -> Tensor")
    LIBRARY.impl(f"counted{units}", own, "CPU")
    labels = Labels()
    x = torch.randn(4, units)
    labels.write(x, labels.fresh(units).expand(4, units))
    counted = getattr(torch.ops.workbench_tests, f"counted{units}").default
    out = counted(x)
    assert settle_by_trying(labels, counted, (x,), {}, [out], "")
    assert torch.equal(labels.of(out), labels.of(x))
    assert len(calls) <= 3 + 2 * 2 + 2 * (units if units <= 16 else 2 * units.bit_length())


def test_neighbours_among_units_are_joined_with_each_other_alone():
    labels = Labels()
    x = torch.randn(3, 40)
    labels.write(x, labels.fresh(40).expand(3, 40))
    LIBRARY.define("coupled(Tensor x) -> Tensor")
    LIBRARY.impl("coupled", lambda x: x.unflatten(-1, (-1, 2)).prod(-1), "CPU")
    coupled = torch.ops.workbench_tests.coupled.default
    out = coupled(x)
    assert settle_by_trying(labels, coupled, (x,), {}, [out], "coupled")
    found = labels.of(out)
    assert len(found.unique()) == 20
    assert torch.equal(labels.of(x)[:, ::2], found)
    assert torch.equal(labels.of(x)[:, 1::2], found)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", [*FLAT, *IMAGES])
def test_units_pass_and_removal_is_silencing(name):
    torch.manual_seed(0)
    conv = name in IMAGES
    model = Between((FLAT | IMAGES)[name], conv).eval()
    x = torch.randn(6, 3, 8, 8) if conv else torch.randn(6, 8)
    groups = find_groups(model, x)
    assert groups[0].prunable, groups[0].why_not
    pruned, _ = remove_units(model, groups, "a", KEPT)
    silenced = copy.deepcopy(model)
    with torch.no_grad():
        for unit in set(range(12)) - set(KEPT):
            silenced.b.weight[:, unit] = 0
        torch.testing.assert_close(pruned(x), silenced(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda x: torch.zeros_like(x).index_add(1, torch.arange(12), x),
            r"mixed by the network \(index_add\)",
        ),
        (lambda x: torch.fft.fft(x).real, "mixed by the network .fft"),
        (
            lambda x: x.scatter(1, torch.zeros(6, 12, dtype=torch.long), x),
            r"mixed by the network \(scatter\)",
        ),
        (lambda x: torch.cdist(x, x) @ x[:, :12], r"mixed by the network \(cdist_forward\)"),
        (lambda x: x / x.max(), r"mixed by the network \(max\)"),
        (lambda x: x / x.max(1, keepdim=True).values, r"mixed by the network \(max\)"),
        (lambda x: x.renorm(2, 0, 1.0), r"mixed by the network \(renorm\)"),
        (lambda x: x.clone().renorm_(2, 0, 1.0), r"mixed by the network \(renorm\)"),
        (lambda x: x.renorm(2, 0, 1000.0), r"mixed by the network \(renorm\)"),
        (lambda x: SHIFTED(x, 1), r"mixed by the network \(shifted"),
    ],
)
def test_what_goes_across_units_is_refused(function, reason):
    torch.manual_seed(0)
    (first, _) = find_groups(Between(function, conv=False), torch.randn(6, 8))
    assert not first.prunable
    assert re.search(reason, first.why_not), first.why_not


class Outside(nn.Module):
    """`b` is called, or its weight is used by the network itself, once or twice."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.a, self.b, self.c = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        h = self.a(x).relu()
        if self.how == "instead":
            h = functional.linear(h, self.b.weight, self.b.bias)
        elif self.how == "beside":
            h = self.b(h) + h @ self.b.weight
        elif self.how == "transposed":
            h = self.b(h) + (self.b.weight.t() @ h.t()).t()
        else:
            h = self.b(h) * (1 + 0 * self.b.weight.abs().sum())
        return self.c(h.relu())


@pytest.mark.parametrize("how", ["instead", "beside", "transposed", "measured"])
def test_a_weight_used_outside_of_its_layer_is_said(how):
    groups = find_groups(Outside(how), torch.randn(6, 8))
    said = "the weight of b .*outside of (its|that) layer, in the network"
    for name in "ab":
        (group,) = [g for g in groups if name in [writer.module for writer in g.writers]]
        assert re.search(said, group.why_not)
    assert not any("not run" in group.why_not for group in groups)


class Penalty(Outside):
    def forward(self, x):
        out = self.c(self.b(self.a(x).relu()).relu())
        return (out, self.b.weight.square().sum()) if self.training else out


def test_a_penalty_in_training_mode_refuses_nothing():
    groups = find_groups(Penalty(""), torch.randn(6, 8))
    assert [group.prunable for group in groups] == [True, True, False]


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.q = nn.Linear(6, 13), nn.Linear(13, 8)
        self.a, self.b = (nn.Linear(8, n, dtype=torch.cfloat) for n in (8, 4))

    def forward(self, x):
        return self.b(self.a(self.q(self.r(x).relu()).to(torch.cfloat))).abs()


def test_complex_layers_are_refused_when_opening_and_the_others_measured():
    session = wb.Session(Complex(), torch.randn(40, 6))
    reasons = {group.name: group.why_not for group in session.groups}
    assert reasons["r"] == ""
    assert reasons["q"] == reasons["a"] == "a has complex weights: only real ones can be measured and fitted"
    session.measure()
    session.commit(session.preview("r", width=5))
    assert session.model.q.in_features == 5


@pytest.mark.filterwarnings("ignore")
def test_quantized_layers_are_listed_with_the_reason():
    import torch.ao.quantization as quantization

    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    groups = wb.Session(quantization.quantize_dynamic(model, {nn.Linear}), torch.randn(40, 6)).groups
    assert [(group.name, group.width) for group in groups] == [("0", 16), ("2", 4)]
    assert all("prune first and quantize afterwards" in group.why_not for group in groups)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_single_number_for_all_changes_nothing(shape):
    class Scaled(Outside):
        def __init__(self):
            super().__init__("")
            self.scale = nn.Parameter(torch.full(shape, 2.0))
            self.register_buffer("shift", torch.full(shape, 0.5))

        def forward(self, x):
            h = (self.a(x) * self.scale + self.shift).relu()
            return self.c(self.b(h).clamp(max=self.scale).relu()) * self.scale

    groups = find_groups(Scaled(), torch.randn(6, 8))
    assert [group.prunable for group in groups] == [True, True, False]


class Heads(nn.Module):
    """Attention whose averaged weights are thrown away, returned, or used by `use`."""

    def __init__(self, use=None, **options):
        super().__init__()
        self.use, self.options = use, options
        self.t, self.o = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 3)

    def forward(self, x):
        out, weights = self.t(x, x, x, **self.options)
        return self.o(out) if self.use is None else self.use(self.o(out), weights)


@pytest.mark.parametrize("options", [{}, {"need_weights": False}, {"average_attn_weights": False}])
def test_heads_are_units_with_and_without_weights(options):
    session = wb.Session(Heads(**options), torch.randn(9, 5, 16))
    group = session.groups[0]
    assert (group.name, group.width, group.prunable) == ("t.q_proj", 4, True)
    session.measure()
    session.commit(session.preview("t.q_proj", width=3))
    assert session.model.t.num_heads == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda y, weights: (y, weights),
        lambda y, weights: y + weights.sum(),
        lambda y, weights: weights @ y,
        lambda y, weights: {"y": y, "entropy": torch.special.entr(weights).sum(-1)},
    ],
)
def test_heads_whose_average_counts_do_not_go_alone(use):
    groups = wb.Session(Heads(use), torch.randn(9, 5, 16)).groups
    (heads,) = [group for group in groups if group.name == "t.q_proj"]
    assert not heads.prunable
    assert heads.why_not


@pytest.mark.parametrize("use", ["thrown away", "returned", "added", "gating", "read"])
def test_an_average_over_units_mixes_them_only_where_it_counts(use):
    class Averaged(Outside):
        def forward(self, x):
            h = self.b(self.a(x).relu()).relu()
            mean = h.mean(1, keepdim=True).tanh()
            if use in ("added", "gating"):
                h = h + mean if use == "added" else h * mean
            y = self.c(h)
            return (y, mean) if use == "returned" else y + mean if use == "read" else y

    groups = find_groups(Averaged(""), torch.randn(6, 8))
    (group,) = [g for g in groups if "b" in [writer.module for writer in g.writers]]
    assert group.prunable == (use == "thrown away")


def test_one_unit_makes_one_unit_of_whatever_shape():
    labels = Labels()
    x = torch.randn(3)
    labels.write(x, labels.fresh(1).expand(3))
    total = torch.ops.aten.histc.default
    for out in (torch.tensor(1.0), torch.zeros(5, 2)):
        assert settle_by_trying(labels, total, (x,), {}, [out], "")
        assert labels.of(out).unique().tolist() == [1]

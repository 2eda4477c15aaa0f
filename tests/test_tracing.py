"""What the tracer makes of one operation after another: which units go together, and which cannot go."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from workbench.network.cost import count_cost
from workbench.network.cost_model import cost_saved
from workbench.network.finding.labels import Labels
from workbench.network.finding.proof import find_groups
from workbench.network.surgery import remove_units


class Between(nn.Module):
    """first (5 → 12) → something → second (→ 3)."""

    def __init__(self, between, width=12, reads=12, **parts):
        super().__init__()
        self.first, self.second = nn.Linear(5, width), nn.Linear(reads, 3)
        self.between = between
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.second(self.between(self, self.first(x)))


def parameter(*shape):
    return nn.Parameter(torch.rand(*shape) + 0.5)


def groups_of(model, x=None):
    torch.manual_seed(0)
    x = torch.randn(4, 7, 5) if x is None else x
    return {g.name: g for g in find_groups(model.eval(), x)}


def first(between, **options):
    torch.manual_seed(0)
    return groups_of(Between(between, **options))["first"]


PASSED = {
    "a bare scale a unit": (lambda m, x: x * m.scale, {"scale": parameter(12)}),
    "a position embedding": (lambda m, x: x + m.place, {"place": parameter(1, 7, 12)}),
    "a part of a longer embedding": (lambda m, x: x + m.place[:, :7], {"place": parameter(1, 31, 12)}),
    "a stretched embedding": (
        lambda m, x: x + functional.interpolate(m.place, size=7, mode="nearest").transpose(1, 2),
        {"place": parameter(1, 12, 3)},
    ),
    "a class token in front": (
        lambda m, x: torch.cat([m.token.expand(len(x), -1, -1), x], 1),
        {"token": parameter(1, 1, 12)},
    ),
    "a shift in time, written in place": (lambda m, x: shifted(x), {}),
    "a depthwise convolution": (
        lambda m, x: m.depthwise(x.transpose(1, 2)).transpose(1, 2),
        {"depthwise": nn.Conv1d(12, 12, 3, padding=1, groups=12)},
    ),
    "a mean over positions, given back to them": (lambda m, x: x - x.mean(1, keepdim=True), {}),
    "a softmax over positions": (lambda m, x: x.softmax(1) * x, {}),
    "a norm over positions": (
        lambda m, x: functional.layer_norm(x.transpose(1, 2), (7,)).transpose(1, 2),
        {},
    ),
    "a matrix over positions": (
        lambda m, x: m.tokens(x.transpose(1, 2)).transpose(1, 2),
        {"tokens": nn.Linear(7, 7)},
    ),
    "a bare matrix over positions": (
        lambda m, x: torch.einsum("tu,buc->btc", m.matrix, x),
        {"matrix": parameter(7, 7)},
    ),
    "a fixed filter over positions": (
        lambda m, x: functional.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2),
        {},
    ),
    "a permutation of positions": (lambda m, x: x.flip(1).roll(2, 1), {}),
    "a mask": (lambda m, x: x.masked_fill(torch.arange(7)[None, :, None] > 3, 0.0), {}),
    "a clamp, a power, a gate of its own": (lambda m, x: x.clamp(-1, 2) ** 2 * torch.sigmoid(x), {}),
}


def shifted(x):
    out = torch.zeros_like(x)
    out[:, 1:] = x[:, :-1]
    return out


@pytest.mark.parametrize("what", PASSED)
def test_units_stay_apart_through(what):
    between, parts = PASSED[what]
    group = first(between, **parts)
    assert group.prunable, group.why_not
    assert group.width == 12


MIXED = {
    "a softmax over units": lambda m, x: x.softmax(-1),
    "a layer norm": lambda m, x: functional.layer_norm(x, (12,)),
    "a norm by hand": lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "the largest unit": lambda m, x: x - x.amax(-1, keepdim=True),
    "neighbouring units": lambda m, x: functional.avg_pool1d(x, 3, 1, 1),
    "a sum along units": lambda m, x: x.cumsum(-1),
    "a matrix of other units": lambda m, x: x @ (x.transpose(1, 2) @ x),
}


@pytest.mark.parametrize("what", MIXED)
def test_units_that_are_mixed_are_not_prunable_and_it_is_said_where(what):
    group = first(MIXED[what])
    assert not group.prunable
    assert "mixed by" in group.why_not


def test_a_bare_matrix_of_units_is_refused_by_name_of_its_module():
    group = first(lambda m, x: x @ m.matrix, matrix=parameter(12, 12))
    assert not group.prunable
    assert "bare parameter" in group.why_not


def test_an_operation_that_is_not_known_is_named():
    group = first(lambda m, x: x + torch.cdist(x, m.places).mean(), places=parameter(7, 12))
    assert not group.prunable
    assert "not known" in group.why_not


def test_what_an_operation_in_no_family_mixes_is_found_by_trying():
    group = first(lambda m, x: x + torch.cdist(x, x).mean())
    assert not group.prunable
    assert "mixed by the network (cdist" in group.why_not


def test_a_gated_half_goes_with_its_gate():
    for between in (
        lambda m, x: functional.glu(x),
        lambda m, x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1].sigmoid(),
    ):
        group = first(between, reads=6)
        assert group.prunable, group.why_not
        assert group.writers[0].rows.tolist() == [[j, j + 6] for j in range(6)]


def test_halves_of_one_layer_that_part_are_two_groups():
    groups = groups_of(
        Between(
            lambda m, x: torch.cat([x[..., :5].relu(), m.other(x[..., 5:])], -1),
            reads=8,
            other=nn.Linear(7, 3),
        )
    )
    assert [n for n in groups if n.startswith("first")] == ["first[0:5]", "first[5:12]"]
    assert groups["first[0:5]"].width == 5
    assert groups["first[0:5]"].readers[0].columns.tolist() == [[j] for j in range(5)]
    assert groups["other"].readers[0].columns.tolist() == [[j] for j in range(5, 8)]


def test_a_fixed_split_is_refused_with_what_broke():
    groups = groups_of(Between(lambda m, x: torch.cat(x.split([5, 7], -1), -1)))
    assert not groups["first"].prunable or groups["first"].width == 12


def test_a_module_that_runs_twice_is_one_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.head = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 3)

        def forward(self, x):
            x = self.first(x).relu()
            return self.head(self.again(self.again(x).relu()))

    groups = groups_of(Twice())
    assert groups["first"].prunable
    assert [w.module for w in groups["first"].writers] == ["first", "again"]
    assert [r.module for r in groups["first"].readers] == ["again", "head"]


def test_units_that_one_layer_reads_at_several_places_are_one():
    # Windows of three neighbouring positions, units within a window: columns are place · 12 + unit.
    def windows(m, x):
        return x.unfold(1, 3, 2).permute(0, 1, 3, 2).flatten(2)

    group = first(windows, reads=36)
    assert group.prunable
    assert group.readers[0].columns[4].tolist() == [4, 16, 28]


def test_numbers_that_fall_with_the_units_are_found():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.num_heads, self.size = 3, 4
            self.inner = 12
            self.qkv, self.out = nn.Linear(5, 36), nn.Linear(12, 3)

        def forward(self, x):
            b, t, _ = x.shape
            q, k, v = self.qkv(x).split(self.inner, -1)
            q, k, v = (p.view(b, t, self.num_heads, self.size).transpose(1, 2) for p in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).reshape(b, t, self.inner))

    torch.manual_seed(0)
    model, x = Heads().eval(), torch.randn(4, 7, 5)
    group = groups_of(model, x)["qkv"]
    assert group.prunable
    assert group.width == 3
    assert {(a.name, a.per_unit) for a in group.attributes} == {("num_heads", 1), ("inner", 4)}
    pruned, (left, *_) = remove_units(model, [group], "qkv", [0, 2])
    assert (pruned.num_heads, pruned.inner, pruned.qkv.out_features, left.width) == (2, 8, 24, 2)
    assert pruned(x).shape == (4, 7, 3)


def test_a_norm_group_is_one_unit():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Conv1d(5, 12, 3), nn.GroupNorm(4, 12), nn.Conv1d(12, 3, 3)

        def forward(self, x):
            return self.second(self.norm(self.first(x)).relu())

    torch.manual_seed(0)
    model, x = Normed(), torch.randn(3, 5, 11)
    group = groups_of(model, x)["first"]
    assert (group.prunable, group.width, group.readers[0].positions) == (True, 4, 3)
    pruned, _ = remove_units(model, [group], "first", [0, 3])
    assert (pruned.norm.num_groups, pruned.norm.num_channels) == (2, 6)


def test_a_tied_head_keeps_its_stream_whole():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.inner, self.head = (
                nn.Embedding(13, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 13, bias=False),
            )
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            x = self.embedding(tokens)
            return self.head(x + self.inner(x).relu())

    groups = groups_of(Tied(), torch.randint(13, (4, 7)))
    assert not groups["embedding"].prunable
    assert "shared with" in groups["embedding"].why_not


def test_an_embedding_is_a_writer():
    model = nn.Sequential(nn.Embedding(13, 8), nn.ReLU(), nn.Linear(8, 3))
    tokens = torch.randint(13, (4, 7))
    group = groups_of(model, tokens)["0"]
    assert group.prunable
    pruned, _ = remove_units(model, [group], "0", [1, 4])
    assert pruned[0].weight.shape == (13, 2)
    assert pruned[0].embedding_dim == 2
    assert pruned(tokens).shape == (4, 7, 3)


def test_a_network_deeper_than_calls_may_be_is_traced():
    layers = [layer for _ in range(300) for layer in (nn.Linear(5, 5), nn.ReLU())]
    network = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), *layers, nn.Linear(5, 3))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(350)  # of which pytest takes some 80, so that layers cannot call each other in turn
    try:
        groups = groups_of(network, torch.randn(2, 5))
    finally:
        sys.setrecursionlimit(before)
    assert len(groups) == 302


def test_one_unit_that_gates_all_others_stays_and_they_do_not():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate, self.head = nn.Linear(5, 12), nn.Linear(12, 1), nn.Linear(12, 3)

        def forward(self, x):
            hidden = self.first(x).relu()
            return self.head((self.gate(hidden).softmax(1) * hidden).sum(1))

    groups = groups_of(Gated())
    assert groups["first"].prunable, groups["first"].why_not
    assert "spread over all units" in groups["gate"].why_not


def test_channels_last_changes_nothing():
    model = nn.Sequential(
        nn.Conv2d(5, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)
    ).to(memory_format=torch.channels_last)
    x = torch.randn(4, 5, 7, 7).to(memory_format=torch.channels_last)
    assert groups_of(model, x)["0"].prunable


def test_a_reader_called_with_more_than_its_input_is_proved_with_it():
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.up = nn.Conv2d(5, 12, 3), nn.ConvTranspose2d(12, 3, 3, stride=2)

        def forward(self, x):
            return self.up(self.first(x).relu(), output_size=(12, 12))

    assert groups_of(Up(), torch.randn(3, 5, 7, 7))["first"].prunable


def test_infinite_outputs_of_a_mask_are_no_difference():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.first(x).relu()).masked_fill(torch.tensor([True, False, False]), -torch.inf)

    assert groups_of(Masked())["first"].prunable


def test_numbers_written_into_places_keep_their_units():
    def between(m, x):
        out = torch.zeros_like(x)
        place = torch.tensor([0, 2, 3])
        out[:, place] = x[:, place]
        return out

    assert first(between).prunable


def test_turning_pairs_as_complex_numbers_keeps_heads_apart():
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = (
                nn.Linear(5, 12),
                nn.Linear(5, 12),
                nn.Linear(5, 12),
                nn.Linear(12, 3),
            )

        def turned(self, x):
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2, 2)).contiguous())
            turn = torch.polar(torch.ones(7, 1, 2), torch.arange(14.0).view(7, 1, 2))
            return torch.view_as_real(pairs * turn).flatten(-2).transpose(1, 2)

        def forward(self, x):
            value = self.v(x).unflatten(-1, (-1, 4)).transpose(1, 2)
            mixed = functional.scaled_dot_product_attention(
                self.turned(self.q(x)), self.turned(self.k(x)), value
            )
            return self.out(mixed.transpose(1, 2).flatten(-2))

    group = groups_of(Rotary())["v"]  # the first of the three to run
    assert (group.prunable, group.width) == (True, 3), group.why_not


def test_products_that_fall_with_the_units_are_counted():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 12), nn.Linear(12, 3)
            self.register_buffer("links", torch.rand(7, 7))

        def forward(self, x):
            return self.second(self.links @ self.first(x).relu())

    torch.manual_seed(0)
    model, x = Products().eval(), torch.randn(2, 7, 5)
    groups = find_groups(model, x)
    pruned, _ = remove_units(model, groups, "first", [1, 4, 7])
    whole, left = count_cost(model, x), count_cost(pruned, x)
    saved = cost_saved(whole, groups[0], 3, model)
    assert saved == (whole.parameters - left.parameters, whole.macs - left.macs)


def test_weights_made_at_every_call_are_named():
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[0])
    with torch.no_grad():
        model(torch.randn(2, 5))  # as after loading: a weight without a graph can be copied
    assert "made anew at every call" in groups_of(model)["0"].why_not


def test_labels_beyond_four_bytes_are_kept_whole():
    labels, tensor = Labels(), torch.zeros(3, 5)
    labels.write(tensor, labels.fresh(5).expand(3, 5))
    labels._held = 2**31
    held = torch.zeros(2, 7)
    assert labels.hold(held) == 2**31 + 1
    assert labels.of(held).flatten().tolist() == [-(2**31) - 1 - i for i in range(14)]
    labels.write(tensor[1], -torch.arange(2**31, 2**31 + 5))
    assert labels.of(tensor).tolist()[0] == [1, 2, 3, 4, 5]
    assert labels.of(tensor).tolist()[1] == [-(2**31) - i for i in range(5)]
    assert labels.units_in(tensor).tolist() == [0, 1, 2, 3, 4, 5]

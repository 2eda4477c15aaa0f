"""Whatever a network takes and returns: nothing in it is overlooked; batches are cut where they may be."""

import collections
import dataclasses
import types

import pytest
import small_transformers
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import workbench as wb
from workbench.export.signature import names_of
from workbench.network.cost import count_cost
from workbench.network.fewer import few_examples
from workbench.network.running import batch_length, mapped, tensors_of

Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass(frozen=True)
class Data:
    first: torch.Tensor
    second: object = None


class Slotted:
    __slots__ = ("__hidden", "open")

    def __init__(self, first, second):
        self.open, self.__hidden = first, second


class Plain:
    def __init__(self, first, second):
        self.first, self.inner, self.me = first, {"deep": [second]}, self


WRAPPERS = {
    "tuple": lambda a, b: (a, b),
    "list in dictionary": lambda a, b: {3: [a], None: (b,)},
    "named tuple": Pair,
    "dataclass": Data,
    "namespace": lambda a, b: types.SimpleNamespace(a=a, b={"deep": b}),
    "object": Plain,
    "slots": Slotted,
    "deque": lambda a, b: collections.deque([a, b]),
    "values": lambda a, b: {"a": a, "b": b}.values(),
    "object in a list": lambda a, b: [1, "text", None, torch.float32, Plain(a, b), len],
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_tensors_are_found_in_every_object(name):
    a, b = torch.zeros(2), torch.ones(3)
    value = WRAPPERS[name](a, b)
    assert {id(tensor) for tensor in tensors_of(value)} == {id(a), id(b)}
    assert len(names_of(value)) == 2


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_is_returned_in_any_object_is_an_output(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.o = nn.Linear(6, 11), nn.Linear(11, 4)

        def forward(self, x):
            h = self.a(x).relu()
            return WRAPPERS[name](self.o(h), h)

    groups = wb.find_groups(Net(), torch.randn(5, 6))
    assert [group.why_not for group in groups] == [
        "its units are also returned by the network",
        "its units are the network's outputs: no linear layer reads them",
    ]


def test_a_generator_is_refused_by_its_type():
    class Net(nn.Linear):
        def forward(self, x):
            return (row for row in super().forward(x))

    with pytest.raises(TypeError, match="a generator stands among what the network takes or returns"):
        wb.find_groups(Net(6, 4), torch.randn(5, 6))


def test_caches_of_transformers_do_not_count_as_outputs():
    model = small_transformers.build("LlamaForCausalLM")
    model.config.use_cache = True
    groups = wb.find_groups(model, small_transformers.tokens(3))
    assert model(**small_transformers.tokens(1)).past_key_values is not None
    assert any(group.prunable and "gate_proj" in group.name for group in groups)


@pytest.mark.parametrize("name", ["tuple", "list in dictionary", "named tuple", "dataclass", "namespace"])
def test_structures_are_changed_as_they_are(name):
    a, b = torch.zeros(2), torch.ones(3)
    value = WRAPPERS[name](a, b)
    changed = mapped(value, lambda tensor: tensor + 1)
    assert type(changed) is type(value)
    assert [float(tensor[0]) for tensor in tensors_of(changed)] == [1, 2]
    assert [float(tensor[0]) for tensor in tensors_of(value)] == [0, 1]


def test_packed_sequences_stay_packed():
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    changed = mapped(packed, lambda tensor: tensor * 2)
    assert isinstance(changed, PackedSequence)
    assert torch.equal(changed.data, 2 * packed.data)
    assert torch.equal(changed.batch_sizes, packed.batch_sizes)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.t, self.o = (
            nn.Linear(4, 16),
            nn.MultiheadAttention(16, 4, batch_first=True),
            nn.Linear(16, 3),
        )

    def forward(self, x, mask, positions=None):
        h = self.a(x)
        h = h if positions is None else h + positions[:, None]
        return self.o(self.t(h, h, h, attn_mask=mask)[0])


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x, edges):
        h = self.a(x).relu()
        if edges.shape[0] == edges.shape[1]:
            return self.o(edges.to(h) @ h)
        return self.o(torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, images):
        return [self.o(self.a(image[None]).relu()) for image in images]


class Rows(nn.Module):
    """Two inputs with a row an example each, as a list."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(4, 8), nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.o((self.a(inputs[0]) + self.b(inputs[1])).relu())


class Fixed(nn.Module):
    """Takes batches of twelve alone."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.o(self.a(x.reshape(12, -1)).relu())


CAUSAL = torch.tril(torch.ones(16, 16))
PICTURES = [torch.randn(3, 9, n) for n in (7, 8, 9, 10)]


def nodes(count):
    return torch.randn(count, 4)


CUTS = {  # inputs, and the shapes that are left of 3 examples
    "mask": (Masked, {"x": torch.randn(12, 16, 4), "mask": CAUSAL}, [(3, 16, 4), (16, 16)]),
    "mask as long as the batch": (
        Masked, {"x": torch.randn(16, 16, 4), "mask": CAUSAL}, [(3, 16, 4), (16, 16)],
    ),
    "mask first": (
        Masked, {"mask": CAUSAL, "x": torch.randn(16, 16, 4)}, [(16, 16), (3, 16, 4)],
    ),
    "another size first": (
        Masked, {"mask": CAUSAL, "x": torch.randn(12, 16, 4)}, [(16, 16), (3, 16, 4)],
    ),
    "a mask an example": (
        Masked,
        {"x": torch.randn(16, 16, 4), "mask": CAUSAL, "positions": torch.randn(16, 16)},
        [(3, 16, 4), (16, 16), (3, 16)],
    ),
    "edges": (Graph, {"x": nodes(30), "edges": torch.randint(0, 30, (2, 80))}, [(30, 4), (2, 80)]),
    "edges as a matrix": (Graph, {"x": nodes(30), "edges": torch.rand(30, 30) > 0.5}, [(30, 4), (30, 30)]),
    "images": (Images, {"images": PICTURES}, [(3, 9, n) for n in (7, 8, 9)]),
    "few images": (Images, {"images": [torch.randn(3, 9, 7), torch.randn(3, 8, 8)]}, [(3, 9, 7), (3, 8, 8)]),
    "a list of inputs": (Rows, {"inputs": [torch.randn(7, 4), torch.randn(7, 5)]}, [(3, 4), (3, 5)]),
    "three rows of inputs": (Rows, {"inputs": [torch.randn(3, 4), torch.randn(3, 5)]}, [(3, 4), (3, 5)]),
    "a fixed batch": (Fixed, torch.randn(12, 4), [(12, 4)]),
    "plain": (lambda: nn.Linear(4, 2), torch.randn(12, 4), [(3, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_a_batch_is_cut_where_the_network_says(name):
    kind, inputs, shapes = CUTS[name]
    torch.manual_seed(0)
    model = kind()
    few = few_examples(model, inputs, 3)
    assert [tuple(tensor.shape) for tensor in tensors_of(few)] == shapes
    assert model.training


@pytest.mark.parametrize("name", CUTS)
def test_every_kind_of_batch_opens_and_is_pruned(name):
    kind, inputs, _ = CUTS[name]
    torch.manual_seed(0)
    session = wb.Session(kind(), [inputs])
    session.measure()
    for group in [group for group in session.groups if group.prunable]:
        session.commit(session.preview(group.name, width=group.width // 2))
        assert count_cost(session.model, session.example_input).macs == session.macs
    assert (name == "plain") == (not any(group.prunable for group in session.groups))


def test_cutting_draws_no_random_number_and_leaves_the_batch():
    kind, inputs, _ = CUTS["mask as long as the batch"]
    state = torch.get_rng_state()
    before = mapped(inputs, torch.clone)
    model = kind()
    torch.set_rng_state(state)
    few_examples(model, inputs, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(inputs), tensors_of(before), strict=True))


def test_examples_are_counted():
    assert batch_length({"mask": torch.ones(5, 5), "x": torch.ones(7, 5, 2)}) == 7
    assert batch_length({"x": torch.ones(5, 5)}) == 5
    assert batch_length({"images": [torch.ones(3, 8, 8), torch.ones(3, 9, 8)]}) == 2
    assert batch_length([torch.ones(5, 2), torch.ones(4, 2), torch.ones(9, 2)]) == 3
    assert batch_length([torch.ones(5, 2), torch.ones(5, 3)]) == 5
    assert batch_length((torch.ones(()), torch.ones(4, 2))) == 4


@pytest.mark.parametrize(
    "lazy",
    [
        lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LazyBatchNorm1d(), nn.Linear(8, 2)),
        lambda: nn.LazyLinear(3),
    ],
)
def test_lazy_layers_are_refused_until_they_have_run(lazy):
    x = torch.randn(5, 6)
    for use in (lambda m: wb.Session(m, x), lambda m: wb.find_groups(m, x), lambda m: count_cost(m, x)):
        model = lazy()
        with pytest.raises(ValueError, match=r"\(Lazy\w+\) ha(s|ve) no weights yet. Run the model once"):
            use(model)
        model(x)
        use(model)


class Steps(nn.Module):
    """A recurrent layer with steps before examples, behind an axis of examples first where `swapped`."""

    def __init__(self, swapped):
        super().__init__()
        self.swapped, self.cells, self.head = swapped, nn.LSTM(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        if self.swapped:
            return self.head(self.cells(x.transpose(0, 1))[0].transpose(0, 1))
        return self.head(self.cells(x)[0])


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("kind", "length"), [(lambda: Steps(False), 12), (lambda: Steps(True), 3), (Mixing, 12)]
)
def test_steps_are_not_cut_for_examples(kind, length):
    torch.manual_seed(0)
    x = torch.randn(12, 5, 4)
    assert few_examples(kind(), x, 3).shape == (length, 5, 4)
    session = wb.Session(kind(), [x])
    assert len(session.example_input) == (12 if length == 12 else 8)


class Dense(nn.Module):
    """A graph of one's own: every node takes the mean of its neighbours, by a matrix of edges or a list."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x, edges):
        h = self.a(x).relu()
        if edges.is_floating_point():
            return self.o(edges @ h)
        return self.o(torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))


@pytest.mark.parametrize(
    "edges", [torch.rand(20, 20), torch.randint(0, 20, (2, 50)), torch.randint(0, 20, (2, 20))]
)
def test_graphs_are_left_whole_and_counted_a_node(edges):
    inputs = {"x": torch.randn(20, 4), "edges": edges}
    assert [tuple(t.shape) for t in tensors_of(few_examples(Dense(), inputs, 3))] == [
        (20, 4),
        tuple(edges.shape),
    ]
    between = 20 * 16 if edges.is_floating_point() else 0
    assert count_cost(Dense(), inputs).macs == 4 * 16 + between + 16 * 3


@pytest.mark.parametrize(
    ("model", "x", "macs"),
    [
        (nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), torch.randn(4), 4 * 6 + 6 * 2),
        (nn.Conv2d(3, 5, 1), torch.randn(3, 8, 8), 3 * 5 * 64),
        (nn.Conv2d(3, 5, 1), torch.randn(7, 3, 8, 8), 3 * 5 * 64),
        (Fixed(), torch.randn(12, 4), 4 * 8 + 8 * 2),
    ],
)
def test_inputs_without_an_axis_of_examples_are_one(model, x, macs):
    assert count_cost(model, x).macs == macs

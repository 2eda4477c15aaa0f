"""Inputs in every form that people bring: opened, measured and exported, or refused with what to write."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.network.running import shape_of

NODES, EDGES = torch.randn(30, 4), torch.randint(0, 30, (2, 80))
IMAGES = [torch.randn(3, 12, 10), torch.randn(3, 8, 14), torch.randn(3, 9, 9)]
A, B = torch.randn(20, 4), torch.randn(20, 5)
Graph = namedtuple("Graph", "x edge_index")
Pair = namedtuple("Pair", "x other")
Labelled = namedtuple("Labelled", "x label")


@dataclass
class Data:
    """As a graph library hands a graph over."""

    x: Tensor
    edge_index: Tensor
    y: Tensor | None = None


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.o(self.a(x).relu())


class Convolved(Perceptron):
    """Graph convolution of one's own: every node adds its neighbours."""

    def forward(self, x, edge_index):
        h = self.a(x).relu()
        return self.o(torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]]))


class OfGraph(Convolved):
    def forward(self, data):
        return super().forward(data.x, data.edge_index)


class OfField(Perceptron):
    def forward(self, batch):
        return super().forward(batch.x)


class Detector(nn.Module):
    """Takes a list of images of any sizes, as torchvision's detectors do, with targets in training."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, images, targets=None):
        return [self.o(self.a(image[None]).relu()) for image in images]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(4, 16), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x, other):
        return self.o((self.a(x) + self.b(other)).relu())


class Loader:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


PIXELS = sum(image[0].numel() for image in IMAGES)
TAKEN = {  # the network, the data, samples at the group's reader
    "a graph by name": (Convolved, [{"x": NODES, "edge_index": EDGES}], 30),
    "a graph by place": (Convolved, [((NODES, EDGES), None)], 30),
    "a graph with labels": (Convolved, [((NODES, EDGES), torch.zeros(30, dtype=torch.long))], 30),
    "two graphs": (Convolved, [((NODES, EDGES), None), ((NODES[:25], EDGES % 25), None)], 55),
    "as many edges as nodes": (Convolved, [((NODES, EDGES[:, :30]), None)], 30),
    "two nodes": (Convolved, [((NODES[:2], EDGES % 2), None)], 2),
    "a graph in a named tuple": (OfGraph, [Graph(NODES, EDGES)], 30),
    "a graph in a named tuple, by name": (OfGraph, [{"data": Graph(NODES, EDGES)}], 30),
    "a graph in a named tuple by its fields": (Convolved, [Graph(NODES, EDGES)], 30),
    "a graph of a library": (OfGraph, [Data(NODES, EDGES), Data(NODES[:9], EDGES % 9)], 39),
    "a named tuple with its label": (OfField, [Labelled(A, torch.zeros(20, dtype=torch.long))], 20),
    "a named tuple of two inputs": (Two, [Pair(A, B)], 20),
    "a named tuple in a pair": (OfField, [(Labelled(A, B), torch.zeros(20, dtype=torch.long))], 20),
    "images by name": (Detector, [{"images": IMAGES}], PIXELS),
    "images as the batch": (Detector, [IMAGES], PIXELS),
    "images in a pair": (Detector, [(IMAGES, None)], PIXELS),
    "images in a pair of their own": (Detector, [((IMAGES,), None)], PIXELS),
    "images from a loader of one's own": (Detector, Loader([IMAGES]), PIXELS),
    "two images": (Detector, [IMAGES[:2]], PIXELS - 81),
    "two inputs in a list": (Two, [([A, B], None)], 20),
    "one example without an axis of its own": (Perceptron, [A[0]], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_every_form_is_opened_measured_and_pruned(name):
    kind, data, samples = TAKEN[name]
    torch.manual_seed(0)
    session = wb.Session(kind(), data)
    session.measure()
    assert session.moment("a").count == samples
    session.commit(session.preview("a", width=5, reconstruction="kernel"))
    assert session.model.a.weight.shape[0] == 5
    assert session.groups[0].width == 5


EXAMPLES = {
    "a tensor": (Perceptron, A[:13], "(13, 4) float32"),
    "two inputs": (Two, (A[:13], B[:13]), "(13, 4) float32 and (13, 5) float32"),
    "two inputs in a list": (Two, [A[:13], B[:13]], "(13, 4) float32 and (13, 5) float32"),
    "by name": (Two, {"x": A[:13], "other": B[:13]}, "x (13, 4) float32, other (13, 5) float32"),
    "a named tuple of two inputs": (Two, Pair(A[:13], B[:13]), "(13, 4) float32 and (13, 5) float32"),
    "a named tuple": (OfField, Labelled(A[:13], B[:13]), "(13, 4) float32 and (13, 5) float32"),
    "a graph": (OfGraph, Graph(NODES[:13], EDGES % 13), "(13, 4) float32 and (2, 80) int64"),
    "images": (Detector, IMAGES, " and ".join(f"{tuple(image.shape)} float32" for image in IMAGES)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_inputs_alone_and_taken_whole(name):
    kind, example, shapes = EXAMPLES[name]
    data = {Perceptron: [A], Two: [((A, B), None)], OfField: [((Labelled(A, B),), None)],
            OfGraph: [((Graph(NODES, EDGES),), None)], Detector: [{"images": IMAGES[:1]}]}[kind]  # fmt: skip
    session = wb.Session(kind(), data, example_input=example)
    assert shape_of(session.example_input) == shapes
    assert session.groups[0].prunable


REFUSED = {
    "two inputs as a pair": (Two, [(A, B)], None, "or ((a, b), None), or {'x': a, 'other': b}"),
    "a graph as a pair": (Convolved, [(NODES, EDGES)], None, "Convolved takes x and edge_index"),
    "a graph as all data": (Convolved, (NODES, EDGES), None, "of one batch are [((a, b), None)]"),
    "a graph as a dictionary": (Convolved, {"x": NODES, "edge_index": EDGES}, None, "of a graph, is [{…}]"),
    "three inputs": (Two, [(A, B, B)], None, "tuple of 3 parts; expected a tensor"),
    "an example with targets": (
        Perceptron, [A], (A, torch.zeros(20)), "example_input= takes inputs, without targets",
    ),
    "an example of nothing": (Perceptron, [A], [], "does not go through the model"),
    "a text": (Perceptron, [A], "abc", "'abc' does not go through the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_taken_in_no_form_says_what_to_write(name):
    kind, data, example, words = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        wb.Session(kind(), data, example_input=example)
    assert words in str(caught.value)


@pytest.mark.parametrize("form", ["a named tuple", "an object"])
def test_what_is_scored_and_learned_from_has_the_same_forms(form):
    torch.manual_seed(0)
    model = OfGraph()
    graph = Graph(NODES, EDGES) if form == "a named tuple" else Data(NODES, EDGES)
    labels = model(graph).argmax(-1)
    data = [(graph, labels)]
    session = wb.Session(model, [graph], data, training=data)
    session.measure()
    assert session.history[0].score == 1.0
    session.measure_gradients()
    session.commit(session.preview("a", width=8, selection="taylor"))
    session.finetune(tuning=wb.Tuning(epochs=1))
    assert session.model.a.weight.shape[0] == 8

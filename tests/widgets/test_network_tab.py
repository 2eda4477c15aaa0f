"""The network tab in the kernel: boxes and lines by hand count, and the library that comes with it."""

import hashlib
import re

import pytest
import torch
from families import FAMILIES
from states import PATIENCE, idle, message
from torch import nn

from workbench.session.session import Session
from workbench.widgets.app import Workbench
from workbench.widgets.network_tab import VENDOR, layouter, network_values
from workbench.widgets.state import WorkbenchState

PUBLISHED = "b0ddaf4af1417bec9bd89373a3a3987f081727d6cc6d95fc40dbf85a19bdf3b0"  # @dagrejs/dagre 3.1.3


class Gated(nn.Module):
    """A stream of two writers, a gate, and two layers side by side."""

    def __init__(self):
        super().__init__()
        self.stem, self.up, self.gate = nn.Linear(5, 7), nn.Linear(7, 11), nn.Linear(7, 11)
        self.down, self.left, self.right = nn.Linear(11, 7), nn.Linear(7, 3), nn.Linear(7, 5)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.down(torch.relu(self.up(x)) * torch.sigmoid(self.gate(x)))
        return self.head(torch.cat([self.left(x).relu(), self.right(x).relu()], 1))


def session_of(model, inputs):
    torch.manual_seed(0)
    return Session(model.eval(), inputs)


def boxes(values):
    """The groups of the boxes, in order."""
    return [group for kind, _, group in values["nodes"] if kind == "group"]


def lines(values):
    """(from, to, kind) with layers by name, other nodes by kind."""
    names = [module or kind for kind, module, _ in values["nodes"]]
    return {(names[a], names[b], kind) for a, b, kind in values["edges"]}


def test_a_stream_a_gate_and_a_concatenation_by_hand():
    values = network_values(session_of(Gated(), torch.randn(32, 5)))
    assert lines(values) == {
        ("input", "stem", "read"),
        ("stem", "up", "read"),
        ("stem", "gate", "read"),
        ("up", "gate", "gate"),
        ("gate", "gate", "gate"),  # the layer of that name, into the joint
        ("gate", "down", "read"),
        ("stem", "add", "stream"),
        ("down", "add", "stream"),
        ("add", "left", "read"),
        ("add", "right", "read"),
        ("left", "concat", "concat"),
        ("right", "concat", "concat"),
        ("concat", "head", "read"),
        ("head", "output", "read"),
    }
    assert sorted(node for node in values["nodes"] if node[0] == "writer") == [
        ["writer", "down", "stem"],
        ["writer", "gate", "up"],
    ]


@pytest.mark.parametrize("name", ["resnet-projection", "gpt", "gqa", "densenet", "lstm"])
def test_every_group_has_one_box_and_every_other_writer_a_small_one(name):
    session = session_of(FAMILIES[name].build(), FAMILIES[name].inputs(8))
    values = network_values(session)
    assert [group for kind, _, group in values["nodes"] if kind == "group"] == [
        g.name for g in session.groups
    ]
    begun = {group.writers[0].module for group in session.groups}
    others = {w.module for group in session.groups for w in group.writers[1:]} - begun
    assert {module for kind, module, _ in values["nodes"] if kind == "writer"} == others
    shared = {g.name for g in session.groups if len(g.writers) > 1}
    if "stream" in {kind for _, _, kind in values["edges"]}:
        ends = [values["nodes"][a][2] for a, _, kind in values["edges"] if kind == "stream"]
        assert {end for end in ends if end} <= shared


def test_boxes_of_one_layer_lead_to_what_reads_them():
    """The rows of one layer in several groups: each box has the readers of its own group alone."""
    session = session_of(FAMILIES["gpt"].build(), FAMILIES["gpt"].inputs(8))
    values = network_values(session)
    read = {(group.name, reader.module) for group in session.groups for reader in group.readers}
    for a, b, kind in values["edges"]:
        start, end = values["nodes"][a], values["nodes"][b]
        others = [node for node in values["nodes"] if node[1] == start[1] and node[0] == "group"]
        if kind == "read" and len(others) > 1:
            assert (start[2], end[1]) in read


def test_the_picture_is_made_when_somebody_looks_and_once(session):
    state = idle(WorkbenchState(session))
    assert state.network == {}
    assert state.layouter == ""
    state.tab = "network"
    idle(state)
    assert [node[2] for node in state.network["nodes"] if node[0] == "group"] == [
        g.name for g in session.groups
    ]
    assert state.layouter == layouter()
    before = state.network
    first = session.groups[0]
    session.commit(session.preview(first.name, width=first.width // 2))
    assert state.wait(PATIENCE)
    assert state.network is before
    state.tab = "layer"


def test_another_session_has_another_picture(session):
    state = idle(WorkbenchState(session))
    state.tab = "network"
    idle(state)
    message(state, "load", name="digits-cnn")
    idle(state)
    assert boxes(state.network) == [group.name for group in state.session.groups]


def test_the_library_is_as_published_with_its_licence_and_not_in_the_page_from_the_start():
    code = VENDOR / "dagre.esm.js"
    assert hashlib.sha256(code.read_bytes()).hexdigest() == PUBLISHED
    licence = (VENDOR / "dagre.esm.js.LEGAL.txt").read_text()
    assert "Permission is hereby granted, free of charge" in licence
    assert "Chris Pettitt" in licence
    assert layouter().startswith(licence)
    assert re.search(r"export\{[^}]*as Graph,[^}]*as layout,", layouter())
    assert not re.search(r"sourceMappingURL", layouter())
    assert "Chris Pettitt" not in Workbench._esm
    assert len(layouter()) < 60_000

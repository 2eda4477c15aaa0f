"""Small sessions to export, and what comes back of them."""

import json

import pytest
import torch
from networks import conv_net, images
from torch import nn

import workbench as wb
from workbench.export.programs import distance
from workbench.network.running import call, tensors_of

ONNX = ("lenet", "vit", "bert", "gru", "bidirectional-rnn", "dataclass-output")


TO_ONNX = ("onnx", "onnxscript", "onnxruntime")


def needs_onnx():
    for package in TO_ONNX:
        pytest.importorskip(package)


def halved(model, inputs, **options):
    """A session in which half of every group that can be pruned is gone."""
    session = wb.Session(model, [(inputs, None)], **options)
    session.measure()
    for group in session.groups:
        if group.prunable and group.width > 1:
            choice = session.preview(
                group.name, width=group.width // 2, selection="magnitude-l1", reconstruction="none"
            )
            session.commit(choice)
    return session


def small_session():
    return halved(conv_net(), images(8), name="small")


def outputs(model, inputs):
    with torch.no_grad():
        return tensors_of(call(model, inputs))


def apart(found, expected):
    assert len(found) == len(expected)
    return max(map(distance, found, expected))


def other_weights(model):
    """The same class with numbers of its own, as someone has who builds it anew."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(0.25)
    return model


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Plain(nn.Module):
    """Without biases, and with a buffer that state dicts leave out."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 17, bias=False)
        self.register_buffer("scale", torch.linspace(0.5, 2, 17), persistent=False)
        self.register_buffer("shift", torch.zeros(5), persistent=False)
        self.fc2 = nn.Linear(17, 5, bias=False)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)) * self.scale) + self.shift


def as_earlier(folder):
    """What a version wrote that knew of no hashes: its reader finds what is wrong by itself."""
    path = folder / "architecture.json"
    architecture = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in architecture.items() if k not in ("hashes", "sha256")}))

"""What a session is of: its model and data, told from others."""

from __future__ import annotations

import hashlib

import torch

from workbench.network.running import tensors_of
from workbench.session.session import Session


def key_of(session: Session) -> str:
    """What tells a model and data from others: 16 hexadecimal digits."""
    shapes = [(tuple(tensor.shape[1:]), str(tensor.dtype)) for tensor in tensors_of(session.example_input)]
    text = f"{session.recipe['model']['fingerprint']}|{session.data_name}|{shapes}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def examples_of(session: Session) -> str:
    """A hash of the examples with which groups were found."""
    found = hashlib.sha256()
    for tensor in tensors_of(session.example_input):
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

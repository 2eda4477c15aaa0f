"""What a session is of: its model and data, told from others, and how they come back."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from workbench.network.running import tensors_of
from workbench.session.session import GIVEN, Session


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


def way_of(session: Session) -> dict[str, Any]:
    """How the network and the data of a session that was given come back by themselves, if they do."""
    own_data = session.example_name and session.data_name not in ("", GIVEN)
    return {"example": session.example_name} if own_data else {}

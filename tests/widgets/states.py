"""Sessions and states for the tests of the face without a browser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState

PATIENCE = 20.0


def small_session(batches=None, **options) -> Session:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(11, 23),
        nn.ReLU(),
        nn.Linear(23, 17),
        nn.ReLU(),
        nn.Linear(17, 13),
        nn.ReLU(),
        nn.Linear(13, 3),
    )
    inputs = torch.randn(311, 11) @ torch.diag(torch.logspace(0, -2, 11))
    data = [(inputs, model(inputs).argmax(1).detach())]
    return Session(model, inputs if batches is None else batches(inputs), data, name="small", **options)


def idle(state: WorkbenchState) -> WorkbenchState:
    if not state.wait(PATIENCE):
        pytest.fail(f"still busy with {state.progress}")
    return state


def message(state: WorkbenchState, command: str, **rest) -> WorkbenchState:
    state._handle_custom_msg({"command": command, **rest}, [])
    return state


def failing(words, kind=ValueError):
    def fail(*args, **options):
        raise kind(words)

    return fail

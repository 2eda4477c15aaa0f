"""A small session with branches, and all that a saved one holds, to the bit."""

import torch
from labelled import TARGETS, session_of, weights
from networks import conv_net, images

from workbench.session import store
from workbench.session.session import Session
from workbench.tuning.settings import Tuning


def first():
    session = session_of()
    session.commit(session.preview("conv2", width=6))
    return session


def further(session):
    session.fork("thin")
    session.finetune(tuning=Tuning(steps=2, rate=0.05))
    session.switch("main")
    session.commit(session.preview("fc1", width=7))
    return session


def values(folder):
    """All that is saved in a folder, to the bit; it is cleaned by this."""
    saved = store.read(folder)
    tensors = {f"moments {a}": one for a, one in saved.moments.items()}
    for branch in saved.branches:
        tensors |= {f"{branch.name} {index}": one for index, one in enumerate(branch.changed)}
    bits = {
        (where, name): (tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes())
        for where, one in tensors.items()
        for name, tensor in one.items()
    }
    lines = [(one.name, one.end, one.recipe["steps"], one.at) for one in saved.branches]
    return saved.start, lines, bits


def opened(folder):
    x = images(64)
    return Session.open(folder, conv_net(), [(x, TARGETS)], [(x, TARGETS)])


def steps_of(session):
    found = {}
    for branch in session.branches:
        session.switch(branch)
        for place in range(len(session.history)):
            session.goto(place)
            found[branch, place] = weights(session)
    return found


def equal(a, b):
    return a.keys() == b.keys() and all(
        a[key].keys() == b[key].keys() and all(torch.equal(a[key][name], b[key][name]) for name in a[key])
        for key in a
    )

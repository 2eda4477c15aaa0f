"""A small measured session with labels, and a look at its weights."""

import torch
from networks import conv_net, images

from workbench.session.session import Session

TARGETS = torch.arange(64) % 5
HALF = {"conv1": 4, "conv2": 6, "fc1": 7}


def session_of(**options):
    x = images(64)
    session = Session(conv_net(), [(x, TARGETS)], [(x, TARGETS)], **options)
    session.measure()
    return session


def weights(session):
    return {key: value.clone() for key, value in session.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

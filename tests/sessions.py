"""Sessions on a small network, and whether two states are the same."""

import torch
from networks import conv_net, images

from workbench.session.session import Session

TARGETS = torch.randint(0, 5, (64,), generator=torch.Generator().manual_seed(1))


def conv_session(**options) -> Session:
    x = images(64)
    session = Session(conv_net(), x, [(x, TARGETS)], **options)
    session.measure()
    return session


def state_of(session):
    """Everything that undo must bring back."""
    return (
        {k: v.clone() for k, v in session.model.state_dict().items()},
        [(g.name, g.width) for g in session.groups],
        {g.name: session.moment(g.name).matrix.clone() for g in session.groups if g.prunable},
        session.parameters,
        session.macs,
        session.stale,
    )


def same(a, b) -> bool:
    weights = all(torch.equal(a[0][k], b[0][k]) for k in a[0] | b[0])
    moments = all(torch.equal(a[2][k], b[2][k]) for k in a[2] | b[2])
    return weights and moments and a[1] == b[1] and a[3:] == b[3:]

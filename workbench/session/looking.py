"""The present network for who only looks at how it runs."""

from __future__ import annotations

from torch import nn

from workbench.session.core import Core


def running_network(session: Core) -> nn.Module:
    """A copy of the present network, whose weights lie in the same memory, to be run and watched.

    Args:
        session: not changed, whatever else runs in it.

    Returns:
        The copy, in evaluation mode: nobody else has hooks on it, and nobody writes into its weights.
    """
    return session._state.running().model

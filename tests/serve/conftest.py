"""One server of each kind for the tests of the door."""

import pytest
from hostile import HostileServer


@pytest.fixture(scope="session", params=["lab", "app"])
def server(request, tmp_path_factory):
    """A running `workbench lab` and then a `workbench app`, with every file there trying to open it."""
    running = HostileServer(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    running.stop()


@pytest.fixture
def let_in(server):
    """The headers of a browser that has opened the printed address."""
    return {"Cookie": server.cookie()}

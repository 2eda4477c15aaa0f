"""What the tests of the face without a browser share."""

from __future__ import annotations

import pytest
from states import idle, small_session

from workbench.session.session import Session
from workbench.widgets.state import WorkbenchState


@pytest.fixture
def session() -> Session:
    session = small_session()
    session.measure()
    return session


@pytest.fixture
def state(session) -> WorkbenchState:
    return idle(WorkbenchState(session))

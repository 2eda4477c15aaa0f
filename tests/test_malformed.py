"""Whatever is malformed is told in words to act on; nothing changes, and nothing in it runs."""

import hashlib
import pickle

import malformed_calls
import malformed_files
import pytest
import torch
from malformed import CASES, Bench, Trap
from networks import conv_net, images

from workbench.data.batches import Batches
from workbench.session.session import Session


@pytest.fixture(scope="module")
def session():
    session = Session(conv_net(5), Batches(images(29)))
    session.measure()
    session.commit(session.preview("conv2", width=5))
    return session


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def state(session):
    return session.position, len(session.history), session.measured, tuple(g.width for g in session.groups)


def weights(*models):
    return [value.clone() for model in models for value in model.state_dict().values()]


@pytest.mark.parametrize("name", CASES)
def test_it_is_told_and_nothing_changes(name, session, tmp_path):
    case, message, expected = CASES[name]
    at = Bench(tmp_path, conv_net(1).train(), session)
    call = case(at)
    before = content(tmp_path), state(session), weights(at.model, session.model, session.original)
    with pytest.raises(expected, match=message) as raised:
        call()
    assert not at.sprung.exists(), "code in a file was run"
    after = content(tmp_path), state(session), weights(at.model, session.model, session.original)
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(after[2], before[2], strict=True))
    assert all(module.training for module in at.model.modules())
    assert "Traceback" not in str(raised.value)
    assert len(str(raised.value)) < 900


def test_there_are_enough_of_them():
    cases = [getattr(module, name, None) for module in (malformed_calls, malformed_files) for name in CASES]
    assert len([case for case in cases if case]) == len(CASES) >= 90


def test_the_trap_would_spring(tmp_path):
    pickle.loads(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    assert (tmp_path / "sprung").exists()

"""What the original gave is stored for one fit after another, and gives the same fits."""

import pytest
import torch
from labelled import HALF
from networks import Residual, conv_net, images
from torch.utils.data import DataLoader, TensorDataset

from workbench.fitting.cached_calls import cache_calls
from workbench.fitting.watching import Watch
from workbench.pruning.transitions import Ground
from workbench.session.session import Session


def session_of(calibration):
    session = Session(conv_net(), calibration)
    session.measure()
    return session


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def passes_of(session, run, monkeypatch):
    """How many batches the original network, or a copy of it, is watched for in `run`."""
    seen, stock = [], Watch.run
    whole = session.history[0].parameters

    def counted(self, inputs, index):
        seen.append(sum(p.numel() for p in self.network.parameters()) == whole)
        return stock(self, inputs, index)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "run", counted)
        run()
    return sum(seen)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_plan_runs_the_original_once_and_fits_the_same(batches, monkeypatch):
    data = list(images(60).split(60 // batches))
    session = session_of(data)
    once = passes_of(session, lambda: session.commit_plan(HALF, reconstruction="original"), monkeypatch)
    found = weights(session.model)
    session.refit()
    refitted = weights(session.model)
    session.reset()
    monkeypatch.setattr(Ground, "caching", lambda self, *rest: self)
    apart = passes_of(session, lambda: session.commit_plan(HALF, reconstruction="original"), monkeypatch)
    session_found = weights(session.model)
    assert once == batches + 1  # two examples tell how much is to be stored
    assert apart == 3 * (batches + 1)
    assert all(torch.equal(found[key], session_found[key]) for key in found)
    session.refit()
    assert all(torch.equal(refitted[key], value) for key, value in weights(session.model).items())


def test_drift_of_a_stream_is_cached_too(monkeypatch):
    torch.manual_seed(3)
    session = Session(Residual().eval(), images(31))
    session.measure()
    name = next(group.name for group in session.groups if group.prunable and len(group.readers) > 1)
    choice = session.preview(name, width=4, reconstruction="original")
    session.commit(choice)
    found = weights(session.model)
    session.undo()
    monkeypatch.setattr(Ground, "caching", lambda self, *rest: self)
    session.commit(session.preview(name, width=4, reconstruction="original"))
    assert all(torch.equal(found[key], value) for key, value in weights(session.model).items())


def test_data_that_may_come_otherwise_the_next_time_is_not_cached():
    network, layers = conv_net().eval(), ["conv2", "fc1"]
    shuffled = DataLoader(TensorDataset(images(20)), batch_size=7, shuffle=True)
    assert cache_calls(network, layers, shuffled).of("conv2") is None
    found = cache_calls(network, layers, images(20))
    assert found.of("conv2") is not None
    assert found.of("fc2") is None
    session = session_of(DataLoader(images(20), batch_size=7, shuffle=True))
    session.commit_plan(HALF, reconstruction="original")
    assert torch.isfinite(session.model(images(2))).all()


def test_no_more_is_cached_than_allowed():
    network = conv_net().eval()
    with torch.no_grad():
        size = 4 * network.conv1(images(1)).numel()
    assert cache_calls(network, ["conv1"], images(20), limit=20 * size).of("conv1") is not None
    assert cache_calls(network, ["conv1"], images(20), limit=20 * size - 1).of("conv1") is None

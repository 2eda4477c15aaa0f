"""How far opening a session is, told in stages, and stopped between two forward passes."""

import threading

import pytest
import torch
from networks import mlp
from torch import nn

import workbench as wb
from workbench.data.progress import Cancelled
from workbench.network.finding.proof import PROVED_EXAMPLES, STAGES, TRACED_EXAMPLES, find_groups
from workbench.network.finding.tracing import trace


def test_opening_tells_what_it_does_and_how_far_it_is():
    told = []
    wb.Session(mlp(5, 9, 7, 3), [torch.randn(12, 5)], progress=lambda *one: told.append(one))
    done = [one[0] for one in told]
    assert done == sorted(done)
    assert {one[1] for one in told} == {STAGES + 3}
    assert done[0] == 0
    assert done[-1] == STAGES + 3
    words = " ".join(one[2] for one in told)
    for part in ("copying", "first forward pass", "following the units", "proving 2 groups", "round 5 of 5"):
        assert part in words


def test_a_built_in_example_and_a_saved_session_tell_it_too(tmp_path):
    told = []
    session = wb.Session.example("digits-mlp", progress=lambda *one: told.append(one[2]))
    assert any("proving" in what for what in told)
    session.measure()
    session.save(tmp_path / "saved")
    told.clear()
    wb.Session.open(tmp_path / "saved", progress=lambda *one: told.append(one[2]))
    assert any("proving" in what for what in told)


@pytest.mark.parametrize("stop", range(9))
def test_opening_is_stopped_at_any_stage_and_leaves_the_network_as_it_was(stop):
    model, cancel = mlp(5, 9, 7, 3), threading.Event()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ran = []
    model.register_forward_pre_hook(lambda *_: ran.append(cancel.is_set()))
    told = []

    def progress(done, _total, what):
        told.append(what)
        if len(told) > stop:
            cancel.set()

    with pytest.raises(Cancelled, match="opening"):
        wb.Session(model, [torch.randn(12, 5)], progress=progress, cancel=cancel)
    assert sum(ran) <= 4  # what stands between two words about it
    assert not model._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("places", "count"), [(4, PROVED_EXAMPLES), (20_000, TRACED_EXAMPLES)])
def test_as_many_examples_prove_as_their_work_allows(places, count, monkeypatch):
    monkeypatch.setattr("workbench.network.finding.proof.PROVED_WORK", 1 << 20)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    seen = []
    model.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    assert find_groups(model, torch.randn(32, places, 3))[0].prunable
    assert max(seen) == count


def test_labels_of_tensors_that_are_gone_are_dropped(monkeypatch):
    monkeypatch.setattr("workbench.network.finding.labels.SWEPT", 1 << 12)
    torch.manual_seed(0)
    layers = [part for _ in range(20) for part in (nn.Linear(16, 16), nn.Tanh(), nn.BatchNorm1d(16))]
    model = nn.Sequential(*layers).eval()
    found = trace(model, torch.randn(2, 16))
    assert len(found.labels._storages) == 0 < len(found.operations)
    # each batch norm goes with the layer before it, none with one whose memory was taken over
    assert found.normalised == {}
    plain = nn.Sequential(*[part for i in range(20) for part in (layers[3 * i], layers[3 * i + 2])])
    assert trace(plain, torch.randn(2, 16)).normalised == {str(2 * i): str(2 * i + 1) for i in range(20)}

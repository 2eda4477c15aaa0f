"""Copies of networks that keep more than weights, and what is said of what cannot be copied."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import workbench as wb
from workbench.network.copying import copied
from workbench.network.finding.proof import find_groups


class Keeping(nn.Module):
    """Keeps what it computed last, in an attribute, a list and an object."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.seen = nn.Linear(6, 11), nn.Linear(11, 4), {}
        self.helper = Helper()

    def forward(self, x):
        self.h = torch.relu(self.a(x))
        self.seen["h"] = [self.h]
        self.helper.last = self.h
        return self.o(self.h)


class Helper:
    def __init__(self):
        self.last = None


def plain():
    return nn.Sequential(nn.Linear(6, 11), nn.ReLU(), nn.Linear(11, 4))


X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_a_network_that_keeps_its_last_activation_opens_and_trains():
    model = Keeping()
    model(X)
    assert model.h.grad_fn is not None
    batches = [(X, torch.arange(40) % 4)]
    session = wb.Session(model, X, batches)
    session.measure()
    session.commit(session.preview("a", width=6))
    assert session.finetune(batches, wb.Tuning(steps=2)).steps == 2
    session.commit(session.preview("a", width=5))
    assert session.model(X).shape == (40, 4)
    assert model.h.shape == (40, 11)


def test_copies_share_nothing():
    model = Keeping()
    model(X)
    copy = copied(model)
    theirs = {t.untyped_storage().data_ptr() for t in (*model.parameters(), model.h, model.helper.last)}
    mine = {t.untyped_storage().data_ptr() for t in (*copy.parameters(), copy.h, copy.helper.last)}
    assert not theirs & mine
    assert copy.h is copy.helper.last is copy.seen["h"][0]
    torch.testing.assert_close(copy(X), model(X))


def test_weights_made_anew_are_refused_by_name_and_fixed_in_a_session():
    model = plain()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[0])
    spectral = plain()
    nn.utils.spectral_norm(spectral[0])
    masked = plain()
    prune.l1_unstructured(masked[0], "weight", 0.3)
    for network in (model, spectral, masked):
        network(X).sum().backward()
        (first, _) = find_groups(network, X)
        assert not first.prunable
        assert "remove that first" in first.why_not
        session = wb.Session(network, X)
        assert session.groups[0].prunable
        torch.testing.assert_close(session.model(X), network.eval()(X))


@pytest.mark.parametrize(
    ("place", "path", "kind"),
    [
        (lambda m, v: setattr(m, "lock", v), "lock", "lock"),
        (lambda m, v: setattr(m[0], "lock", v), "0.lock", "lock"),
        (lambda m, v: setattr(m, "parts", [1, {"k": v}]), "parts[1]['k']", "lock"),
        (lambda m, v: (setattr(m, "helper", Helper()), setattr(m.helper, "last", v)), "helper.last", "lock"),
    ],
)
def test_what_cannot_be_copied_is_named_with_its_type(place, path, kind):
    model = plain()
    place(model, threading.Lock())
    for open_it in (lambda: wb.Session(model, X), lambda: wb.find_groups(model, X), lambda: copied(model)):
        with pytest.raises(ValueError, match="cannot be copied") as caught:
            open_it()
        assert f"attribute {path!r} is a" in str(caught.value)
        assert kind in str(caught.value)
        assert "Set it to None" in str(caught.value)


def test_open_files_and_generators_are_named():
    for value in ((n for n in range(3)), open("/dev/null")):  # noqa: SIM115
        model = plain()
        model.source = value
        with pytest.raises(ValueError, match=r"attribute 'source' is a (generator|_io\.TextIO)"):
            copied(model)

"""Refitting after a plan: a step of its own, in the order of running, for the layers that can be fitted."""

import pytest
import torch
from labelled import HALF, TARGETS, same, session_of, weights
from networks import conv_net, images
from torch import nn

from workbench.pruning import transitions as applying
from workbench.session.replay import replay
from workbench.session.session import Session


def test_refitting_brings_the_outputs_nearer_and_is_a_step(tmp_path):
    x = images(64)
    data = [(x, TARGETS)]
    session = session_of()
    with pytest.raises(ValueError, match="nothing is pruned yet"):
        session.refit()
    session.commit_plan(HALF)

    def distance():
        with torch.no_grad():
            return float((session.model(x) - session.original(x)).square().mean())

    before = distance()
    step = session.refit()
    assert distance() < before
    assert (step.label, session.history[-1]) == ("refitted", step)
    again = weights(session)
    session.save(tmp_path)
    opened = Session.open(tmp_path, conv_net(), data, data)
    assert same(weights(opened), again)
    assert opened.history[-1].label == "refitted"
    assert replay(tmp_path / "recipe.json", conv_net(), data).history[-1].label == "refitted"
    session.undo()
    assert distance() == before


def decoder():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 7, 3, padding=1), nn.ReLU(), nn.Conv2d(7, 11, 3, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(11, 13, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(13, 3, 1),
    ).eval()  # fmt: skip


def test_refitting_passes_over_what_is_no_matrix_times_patches():
    session = Session(decoder(), images(16))
    session.measure()
    session.commit_plan({"0": 4, "2": 6, "4": 9})
    before = weights(session)
    session.refit()
    after = weights(session)
    assert torch.equal(after["4.weight"], before["4.weight"])  # its blocks overlap
    assert not any(torch.equal(after[name], before[name]) for name in ("0.weight", "2.weight", "6.weight"))


def test_refitting_where_no_layer_can_be_fitted_is_told():
    torch.manual_seed(3)
    upper = nn.ConvTranspose2d(11, 5, 4, stride=2, padding=1)
    session = Session(
        nn.Sequential(nn.ConvTranspose2d(2, 11, 3, padding=1), nn.ReLU(), upper).eval(), images(8)
    )
    session.measure()
    session.commit(session.preview("0", width=5))
    with pytest.raises(
        ValueError, match="no layer around a pruned group can be fitted on patches: 0, 2 stay"
    ):
        session.refit()
    assert session.position == 1


def test_refitting_goes_in_the_order_of_running(monkeypatch):
    class Backwards(nn.Module):
        """Registered the other way round than it runs."""

        def __init__(self):
            super().__init__()
            self.last, self.middle, self.first = nn.Linear(7, 3), nn.Linear(11, 7), nn.Linear(5, 11)

        def forward(self, x):
            return self.last(self.middle(self.first(x).relu()).relu())

    torch.manual_seed(2)
    session = Session(Backwards().eval(), torch.randn(64, 5))
    session.measure()
    session.commit_plan({"first": 6, "middle": 4})
    fitted = []
    stock = applying.fit_original

    def noted(original, pruned, module, *rest, **options):
        fitted.append(module)
        return stock(original, pruned, module, *rest, **options)

    monkeypatch.setattr(applying, "fit_original", noted)
    session.refit()
    assert fitted == ["first", "middle", "last"]

"""A session scores, learns and is opened again by one reading of its targets."""

import pytest
import torch
from target_kinds import EXAMPLES, bce, cross, hits, many, normal, whole
from torch import nn
from torch.nn import functional

from workbench.measure.reading import TaskLoss
from workbench.session.session import Session
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning
from workbench.widgets.page_values import with_procedure


def test_a_session_says_what_it_scores_and_learns_by_the_same_reading():
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 6)), normal(EXAMPLES, 4)
    session = Session(model, (x, many.float()), (x, many.float()))
    assert session.metric == "label accuracy"
    session.measure()
    session.measure_gradients()
    with torch.no_grad():
        outputs = model(x)
    assert session.history[0].score == pytest.approx(hits(outputs > 0, many))
    leaf = torch.nn.functional.relu(model[0](x)).detach().requires_grad_()
    bce(model[2](leaf), many.float()).backward()
    expected = (leaf * leaf.grad).sum(0).abs()
    torch.testing.assert_close(session.original_statistics()["0"].taylor, expected.double().detach())
    done = session.finetune(tuning=Tuning(steps=60, rate=3e-2))
    assert done.reports[-1].loss < done.reports[0].loss
    with torch.no_grad():
        assert done.reports[0].loss == pytest.approx(float(bce(outputs, many.float())), rel=1e-4)


@pytest.mark.parametrize("classes", ["last", "second"])
def test_a_session_passes_on_where_the_classes_lie(classes):
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 5))
    x, y = normal(EXAMPLES, 5, 5), whole(5, EXAMPLES, 5)
    session = Session(model, (x, y), (x, y), classes=classes)
    axis = {"last": 2, "second": 1}[classes]
    with torch.no_grad():
        outputs = model(x)
    assert session.metric == "token accuracy"
    assert session.evaluate() == pytest.approx(hits(outputs.argmax(axis), y))
    done = session.finetune(tuning=Tuning(steps=1))
    assert done.reports[0].loss == pytest.approx(float(cross(outputs.movedim(axis, 1), y)), rel=1e-4)


def test_a_saved_session_is_opened_with_the_reading_that_is_given_again(tmp_path):
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 6))
    x = normal(EXAMPLES, 4)
    session = Session(model, x, (x, many.float()), metric="R²")
    session.measure()
    session.commit(session.preview("0", width=5))
    session.save(tmp_path / "saved")
    again = Session.open(tmp_path / "saved", model, x, (x, many.float()), metric="R²")
    assert again.metric == "R²"
    assert again.evaluate() == pytest.approx(session.history[-1].score)


def test_another_procedure_reads_the_targets_as_before():
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 6))
    x = normal(EXAMPLES, 4)
    session = Session(model, (x, many.float()), (x, many.float()), metric="R²")
    session.measure()
    other = with_procedure(session, "sequential")
    assert (other.metric, other.loss) == ("R²", TaskLoss("R²"))
    done = other.finetune(tuning=Tuning(steps=1))
    with torch.no_grad():
        expected = functional.mse_loss(model(x), many.float())
    assert done.reports[0].loss == pytest.approx(float(expected), rel=1e-4)


def test_distillation_follows_the_classes_of_as_many_tokens():
    torch.manual_seed(4)
    model, x = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 5)), normal(EXAMPLES, 5, 4)
    other = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 5))
    done = finetune(model, (x, whole(5, EXAMPLES, 5)), Tuning(steps=1, distill=1.0), original=other)
    with torch.no_grad():
        ours, theirs = (nn.functional.log_softmax(net(x) / 4.0, 2) for net in (model, other))
    divergence = (theirs.exp() * (theirs - ours)).sum(2).mean()
    assert done.reports[0].loss == pytest.approx(16 * float(divergence), rel=1e-4)

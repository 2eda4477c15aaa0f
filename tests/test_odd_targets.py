"""Targets and outputs that are easily misread: small types, void masks, NaN, probabilities, empty batches."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from workbench.data.batches import IGNORED
from workbench.fitting.norms import reestimate_norms
from workbench.measure.asking import AmbiguousError
from workbench.measure.evaluation import evaluate, reading_for
from workbench.measure.gradients import measure_taylor
from workbench.measure.moments import measure_moments
from workbench.measure.reading import TaskLoss, loss_for
from workbench.network.finding.proof import find_groups
from workbench.session.session import Session
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning

SAME = nn.Identity()


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(high, *shape, seed=4):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64, np.uint8, np.uint16])
def test_no_class_of_a_small_type_is_taken_for_the_mark_of_what_does_not_count(kind):
    """−100 is 156 in bytes."""
    classes = torch.arange(200)
    outputs = functional.one_hot(classes, 200).float()
    outputs[150:] = 0  # answers 0 there
    targets = classes.to(kind) if isinstance(kind, torch.dtype) else classes.numpy().astype(kind)
    assert evaluate(SAME, [(outputs, targets)]) == accuracy_score(classes, outputs.argmax(1)) == 0.75
    loss = TaskLoss()(outputs, targets if isinstance(kind, torch.dtype) else torch.from_numpy(targets.copy()))
    assert float(loss) == pytest.approx(float(cross_entropy(outputs, classes)))


def test_minus_one_of_a_small_type_is_no_void():
    with pytest.raises(ValueError, match="targets from -1 to 2 are not classes of 3"):
        evaluate(SAME, [(normal(4, 5, 3), torch.tensor([[0, 1, 2, -1, 1]] * 4, dtype=torch.int8))])


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mask_of_0_and_255_is_not_scored_on_its_zeros_alone(channels):
    mask = torch.zeros(3, 8, 8, dtype=torch.uint8)
    mask[:, :4] = 255
    outputs = normal(3, channels, 8, 8)
    with pytest.raises(ValueError, match="divide the targets by 255"):
        evaluate(SAME, [(outputs, mask)])
    mask[:, 7] = 1
    counted = mask != 255
    answers = outputs[:, 0] > 0 if channels == 1 else outputs.argmax(1)
    assert evaluate(SAME, [(outputs, mask)]) == accuracy_score(mask[counted], answers[counted])


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (normal(9, 2), normal(9, 2).fill_(torch.nan)),
        (normal(9, 2), torch.where(normal(9, 2) > 1, torch.inf, 0.3)),
        (torch.full((9, 3), torch.nan), torch.zeros(9).long()),
        (torch.full((9, 1), torch.nan), torch.zeros(9).long()),
        (torch.full((9, 2), torch.nan), normal(9, 2)),
    ],
)
def test_nan_is_no_answer_and_no_target(outputs, targets):
    with pytest.raises(ValueError, match=r"batch 0: the (network gives NaN|targets have NaN or Inf)"):
        evaluate(SAME, [(outputs, targets)])


def test_scores_of_minus_infinity_forbid_a_class():
    outputs = normal(9, 3).index_fill(1, torch.tensor([1]), -torch.inf)
    targets = whole(3, 9)
    assert evaluate(SAME, [(outputs, targets)]) == accuracy_score(targets, outputs.argmax(1))


def test_what_the_first_batches_hide_is_told_later():
    hot = [(normal(1, 3), torch.tensor([[1.0, 0, 0]]))] * 17 + [(normal(1, 3), torch.tensor([[0.0, 1, 1]]))]
    with pytest.raises(ValueError, match=r"batch 17 .* metric='label accuracy'"):
        evaluate(SAME, hot)
    assert 0 <= evaluate(SAME, hot, metric="label accuracy") <= 1
    halves = [(normal(1, 2), torch.tensor([1.0]))] * 17 + [(normal(1, 2), torch.tensor([0.5]))]
    with pytest.raises(ValueError, match=r"batch 17 .* fractions are not classes"):
        evaluate(SAME, halves)
    with pytest.raises(ValueError, match="fractions are not classes"):
        evaluate(SAME, [(normal(4, 3), torch.tensor([0, 0.5, 1.7, 2]))], metric="accuracy")


def test_one_hot_targets_that_fit_along_both_axes_are_asked_for():
    outputs, targets = normal(4, 3, 3), torch.eye(3)[None].repeat(4, 1, 1)
    with pytest.raises(AmbiguousError, match="classes='second' or classes='last'"):
        evaluate(SAME, [(outputs, targets)])
    for classes, axis in (("second", 1), ("last", 2)):
        right = (outputs.argmax(axis) == targets.argmax(axis)).double().mean()
        assert evaluate(SAME, [(outputs, targets)], classes=classes) == pytest.approx(float(right))
    head, x = nn.Linear(3, 3), normal(4, 3, 3, seed=8)
    right = (head(x).argmax(2) == targets.argmax(2)).double().mean()
    assert evaluate(head, [(x, targets)]) == pytest.approx(float(right))


def two(z):
    return torch.cat([torch.zeros_like(z), z], 1)


PROBABILITIES = {
    "clamped": lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6),
    "in place": lambda z: (z * 1).sigmoid_(),
    "hard, in place": lambda z: functional.hardsigmoid(z * 1, inplace=True),
    "copied": lambda z: z.sigmoid().clone(),
    "of another type": lambda z: z.double().sigmoid().float(),
    "put together": lambda z: torch.cat([z.sigmoid(), z.sigmoid()], 1)[:, :1].contiguous(),
    "second of a softmax": lambda z: two(z).softmax(1)[:, 1:].contiguous(),
    "of logarithms": lambda z: two(z).log_softmax(1)[:, 1].exp(),
    "of a logarithm": lambda z: functional.logsigmoid(z).exp(),
    "mean of two": lambda z: torch.stack([z.sigmoid(), z.sigmoid()]).mean(0),
}
LOGITS = {
    "a gate": lambda z: z * z.sigmoid().clone() + z,
    "a copy of a sigmoid, changed": lambda z: z.sigmoid().clone().sub_(0.5),
    "the logit of a sigmoid": lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6).logit(),
    "logarithms": lambda z: two(z).log_softmax(1)[:, 1] - two(z).log_softmax(1)[:, 0],
}


class Ending(nn.Module):
    def __init__(self, behind):
        super().__init__()
        self.layer, self.behind = nn.Linear(3, 1), behind

    def forward(self, x):
        return self.behind(self.layer(x))


@pytest.mark.parametrize("name", [*PROBABILITIES, *LOGITS])
def test_probabilities_are_known_through_what_leaves_them_as_they_are(name):
    torch.manual_seed(2)
    model, x = Ending((PROBABILITIES | LOGITS)[name]), normal(60, 3)
    answers = (model.layer(x)[:, 0] > 0).long()
    assert evaluate(model, [(x, answers)]) == 1.0
    assert reading_for(model, [(x, answers)]).probabilities == (name in PROBABILITIES)


class Normed(nn.Module):
    """Outputs that differ by far between training and use."""

    def __init__(self):
        super().__init__()
        self.head, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)
        self.norm.running_mean.copy_(-50.0 * torch.arange(5))

    def forward(self, x):
        return self.norm(self.head(x).flatten(0, 1)).unflatten(0, x.shape[:2])


def test_where_the_classes_lie_is_asked_of_the_network_as_it_is_used():
    torch.manual_seed(1)
    model, x, y = Normed(), normal(16, 5, 4), whole(5, 16, 5)
    with torch.no_grad():
        expected = cross_entropy(copy.deepcopy(model).train()(x).transpose(1, 2), y)
    done = finetune(model, (x, y), Tuning(steps=1))
    assert done.reports[0].loss == pytest.approx(float(expected), rel=1e-4)


class Viewed(nn.Module):
    """Does not run on a batch of nothing; keeps what it computed last."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Linear(7, 2)

    def forward(self, x):
        self.last = self.norm(self.stem(x)).relu()
        return self.head(self.last.view(len(x), -1))


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_a_batch_of_nothing_changes_nothing(kind):
    torch.manual_seed(1)
    model, x = Viewed(), normal(24, 4)
    y = whole(2, 24) if kind == "classes" else normal(24, 2)
    plain = [(x[:16], y[:16]), (x[16:], y[16:])]
    data = [(x[:0], y[:0]), *plain, (x[:0], y[:0])]
    groups = find_groups(model.eval(), x)
    model.train()(x)  # keeps a tensor with a history
    assert evaluate(model, data) == evaluate(model, plain)
    measured, expected = (measure_moments(model, groups, one)["stem"] for one in (data, plain))
    torch.testing.assert_close(measured.moments[0].matrix, expected.moments[0].matrix)
    taylor, expected = (measure_taylor(model, groups, one)["stem"] for one in (data, plain))
    assert float(expected.max()) > 0
    torch.testing.assert_close(taylor, expected)
    again, expected = (reestimate_norms(model, one).norm.running_mean for one in (data, plain))
    torch.testing.assert_close(again, expected)
    done = finetune(model, data, Tuning(steps=4))
    assert np.isfinite([report.loss for report in done.reports]).all()
    assert done.steps == 4


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_whole_numbers_where_floating_ones_are_wanted_are_not_laid_on_their_shape(kind):
    x = np.ones((6, 4), kind)
    with pytest.raises(ValueError, match="It runs on floating numbers: convert these"):
        Session(nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)), x)
    with pytest.raises(ValueError, match="Give an example of the shape"):
        Session(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)), x)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["classes", "tokens", "one-hot"])
def test_a_network_that_ends_in_a_softmax_learns_as_its_logits_do(kind, share):
    torch.manual_seed(1)
    layer, x = nn.Linear(4, 3), normal(40, 7, 4) if kind == "tokens" else normal(40, 4)
    y = whole(3, *x.shape[:-1])
    targets = functional.one_hot(y, 3) if kind == "one-hot" else y
    original = nn.Linear(4, 3)
    tuning = Tuning(steps=30, rate=0.05, distill=share)

    def learned(*behind):
        model = nn.Sequential(copy.deepcopy(layer), *behind)
        followed = nn.Sequential(original, *behind)
        done = finetune(model, (x, targets), tuning, original=followed)
        return [report.loss for report in done.reports], done.model[0].weight

    losses, weight = learned()
    other, again = learned(nn.Softmax(-1))
    assert losses[-1] < losses[0]
    assert other == pytest.approx(losses, rel=1e-3)
    torch.testing.assert_close(again, weight, rtol=1e-3, atol=1e-4)
    loss, _ = loss_for(None, nn.Sequential(layer, nn.Softmax(-1)), (x, targets), "training")
    with torch.no_grad():
        found, expected = (
            loss(layer(x).softmax(-1), targets),
            cross_entropy(layer(x).flatten(0, -2), y.flatten()),
        )
    torch.testing.assert_close(found, expected)


class Returning(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.layer, self.made = nn.Linear(4, 3), made

    def forward(self, x):
        return self.made(self.layer(x))


RETURNED = {
    "an auxiliary head behind": lambda o: (o, -o),
    "a loss before": lambda o: (o.sum(), o),
    "by name, the auxiliary head first": lambda o: {"aux": -o, "out": o},
    "by name, features first": lambda o: {"features": o.new_zeros(len(o), 8), "output": o},
    "an object, features first": lambda o: SimpleNamespace(features=-o, prediction=o),
    "logits before all other names": lambda o: {"out": -o, "logits": o},
}


@pytest.mark.parametrize("kind", RETURNED)
def test_of_several_outputs_the_answer_is_scored(kind):
    torch.manual_seed(1)
    model, x = Returning(RETURNED[kind]), normal(40, 4)
    assert evaluate(model, [(x, model.layer(x).argmax(1))]) == 1.0


def test_targets_that_are_no_numbers_of_examples_are_told():
    for targets in (torch.tensor(3.0), normal(6).to(torch.complex64)):
        with pytest.raises(ValueError, match="expected whole or floating numbers, one or more for each"):
            evaluate(SAME, [(normal(6, 2), targets)])


def test_a_score_may_come_as_an_array_of_one_number():
    assert evaluate(SAME, lambda model: np.array([0.25])) == 0.25
    with pytest.raises(TypeError, match="must return one number"):
        evaluate(SAME, lambda model: np.array([0.25, 0.5]))


def gated(model, x, y, gate):
    """The loss over all tokens that count, every unit times its gate."""
    outputs = model[2](model[1](model[0](x)) * gate)
    return cross_entropy(outputs.transpose(1, 2), y, ignore_index=IGNORED)


@pytest.mark.parametrize("batch", [3, 12, 24])
def test_taylor_is_the_slope_of_the_loss_over_all_that_counts_however_it_is_cut(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    x, y = normal(24, 7, 4).double(), whole(5, 24, 7)
    y[:12, 1:] = IGNORED
    y[21:] = IGNORED  # a batch in which nothing counts
    data = [(x[i : i + batch], y[i : i + batch]) for i in range(0, 24, batch)]
    found = measure_taylor(model, find_groups(model, x), data)["0"]
    gate = torch.ones(6, dtype=torch.float64, requires_grad=True)
    gated(model, x, y, gate).backward()
    torch.testing.assert_close(found, gate.grad.abs())
    step = torch.zeros(6, dtype=torch.float64)
    step[2] = 1e-5
    slope = (gated(model, x, y, 1 + step) - gated(model, x, y, 1 - step)) / 2e-5
    assert float(found[2]) == pytest.approx(abs(float(slope.detach())), rel=1e-6)


def test_a_loss_that_is_not_finite_is_not_laid_on_the_learning_rate():
    x = normal(8, 4)
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="the targets of this batch have NaN"):
        finetune(model, (x, normal(8, 2).fill_(torch.nan)), Tuning(steps=1))
    with pytest.raises(ValueError, match="the inputs of this batch have NaN"):
        finetune(model, (x * torch.nan, normal(8, 2)), Tuning(steps=1))
    with pytest.raises(ValueError, match="before anything was learned"):
        finetune(model, (x, normal(8, 2)), Tuning(steps=1), loss=lambda out, _t: out.sum().abs() * torch.inf)

"""How targets are read: score, name and loss of every kind, against scikit-learn and torch by hand."""

import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from target_kinds import (
    EXAMPLES,
    TABLE,
    batched,
    cross,
    generator,
    hits,
    ignored,
    label,
    many,
    marks,
    normal,
    one,
    plain,
    several,
    token_labels,
    tokens,
    true,
    whole,
)
from torch import nn
from torch.nn import functional

from workbench.data.batches import IGNORED
from workbench.measure.asking import AmbiguousError
from workbench.measure.evaluation import evaluate, reading_for
from workbench.measure.reading import TaskLoss, loss_for
from workbench.measure.targets import VOID
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning


@pytest.mark.parametrize("kind", TABLE)
def test_score_name_and_loss_of_every_kind(kind):
    name, outputs, targets, score, loss = TABLE[kind]
    model, data = nn.Identity(), batched(outputs, targets)
    assert reading_for(model, data).name == name
    assert evaluate(model, data) == pytest.approx(float(score), abs=1e-6)
    found = loss_for(None, model, data, "training")[0](outputs, targets)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    assert float(TaskLoss()(outputs, targets)) == pytest.approx(float(loss), rel=1e-5)


class Tokens(nn.Module):
    """A head on the last axis, (n, length, classes), or the second, and what may stand behind it."""

    def __init__(self, head, behind=None):
        super().__init__()
        self.head, self.behind = head, behind or nn.Identity()

    def forward(self, x):
        return self.behind(self.head(x))


class Swapped(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


class Views(nn.Module):
    def forward(self, x):
        return x.flatten(0, 1).unflatten(0, x.shape[:2])


SQUARE = {
    "linear": (lambda: Tokens(nn.Linear(4, 5)), 2),
    "linear, log-softmax": (lambda: Tokens(nn.Linear(4, 5), nn.LogSoftmax(2)), 2),
    "linear, softmax": (lambda: Tokens(nn.Linear(4, 5), nn.Softmax(2)), 2),
    "linear, a view": (lambda: Tokens(nn.Linear(4, 5), Views()), 2),
    "linear, swapped": (lambda: Tokens(nn.Linear(4, 5), Swapped()), 1),
    "linear, swapped, log-softmax": (
        lambda: Tokens(nn.Linear(4, 5), nn.Sequential(Swapped(), nn.LogSoftmax(1))), 1,
    ),
    "deep": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 5)), 2,
    ),
    "convolution": (lambda: Tokens(nn.Sequential(Swapped(), nn.Conv1d(4, 5, 3, padding=1))), 1),
    "convolution, swapped": (
        lambda: Tokens(nn.Sequential(Swapped(), nn.Conv1d(4, 5, 3, padding=1)), Swapped()), 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("length", [5, 7])
@pytest.mark.parametrize("kind", SQUARE)
def test_as_many_tokens_as_classes_are_told_apart_by_the_network_itself(kind, length):
    torch.manual_seed(1)
    build, axis = SQUARE[kind]
    model, x = build().eval(), normal(EXAMPLES, length, 4)
    with torch.no_grad():
        answers = model(x).argmax(axis)
    assert evaluate(model, batched(x, answers)) == 1.0
    wrong = (answers + 1) % 5
    assert evaluate(model, batched(x, wrong)) == 0.0


def test_where_nothing_tells_the_axis_of_the_classes_it_is_asked_for():
    outputs, targets = normal(EXAMPLES, 5, 5), whole(5, EXAMPLES, 5)
    model, data = nn.Identity(), batched(outputs, targets)
    for work in (
        lambda: evaluate(model, data),
        lambda: reading_for(model, data),
        lambda: finetune(nn.Sequential(nn.Flatten(), nn.Linear(25, 25), nn.Unflatten(1, (5, 5))), data,
                         Tuning(steps=1)),
    ):  # fmt: skip
        with pytest.raises(AmbiguousError, match="classes='second' or classes='last'"):
            work()
    for classes, axis in (("last", 2), ("second", 1)):
        assert evaluate(model, data, classes=classes) == pytest.approx(hits(outputs.argmax(axis), targets))
        loss = loss_for(TaskLoss(classes=classes), model, data, "training")[0](outputs, targets)
        assert float(loss) == pytest.approx(float(cross(outputs.movedim(axis, 1), targets)), rel=1e-5)


def test_an_axis_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"classes='second', but outputs \(13, 7, 5\)"):
        evaluate(nn.Identity(), batched(tokens, token_labels), classes="second")
    for options in ({"classes": "first"}, {"metric": "F1"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            evaluate(nn.Identity(), batched(tokens, token_labels), **options)


def test_a_reading_that_is_not_as_it_seems_can_be_asked_for():
    numbers = marks.float()
    assert evaluate(nn.Identity(), batched(one, numbers), metric="R²") == pytest.approx(
        r2_score(numbers, one[:, 0]), abs=1e-6
    )
    hot = functional.one_hot(label, 5).float()
    assert evaluate(nn.Identity(), batched(plain, hot), metric="label accuracy") == pytest.approx(
        accuracy_score(hot.ravel(), (plain > 0).ravel())
    )
    counts = whole(9, EXAMPLES, 6)
    assert evaluate(nn.Identity(), batched(several, counts), metric="R²") == pytest.approx(
        r2_score(counts, several), abs=1e-6
    )
    with pytest.raises(ValueError, match="metric='label accuracy'"):
        evaluate(nn.Identity(), batched(several, many.float()), metric="accuracy")


@pytest.mark.parametrize("behind", [nn.Sigmoid(), nn.Sequential(nn.Sigmoid(), nn.Flatten(0))])
def test_probabilities_are_cut_at_a_half_and_logits_at_zero(behind):
    torch.manual_seed(2)
    model, x = nn.Sequential(nn.Linear(4, 1), behind), normal(EXAMPLES, 4) * 3
    with torch.no_grad():
        outputs = model(x)
    answers = (model[0](x)[:, 0] > 0).long()
    assert 0 < int(answers.sum()) < EXAMPLES
    assert evaluate(model, batched(x, answers)) == 1.0
    loss = loss_for(None, model, batched(x, answers), "training")[0](outputs, answers)
    expected = functional.binary_cross_entropy(outputs.flatten(), answers.float())
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_logits_that_happen_to_lie_between_zero_and_one_are_logits():
    outputs = torch.tensor([[0.2], [0.7], [0.4]])
    assert evaluate(nn.Identity(), [(outputs, torch.tensor([1, 1, 1]))]) == 1.0


def test_values_that_begin_like_labels_are_values():
    targets = torch.cat([marks[:13].float(), normal(EXAMPLES - 13)])
    data = batched(one, targets)
    assert reading_for(nn.Identity(), data).name == "R²"
    assert evaluate(nn.Identity(), data) == pytest.approx(r2_score(targets, one[:, 0]), abs=1e-6)


CONSTANT = {
    "met": (torch.ones(EXAMPLES, 1), torch.ones(EXAMPLES, 1), 1.0),
    "missed": (torch.zeros(EXAMPLES, 1), torch.full((EXAMPLES, 1), 0.5), 0.0),
    "zero, missed": (one, torch.zeros(EXAMPLES, 1), 0.0),
    "one of two": (
        torch.cat([true[:, :1] * 0.9, one], 1),
        torch.cat([true[:, :1], torch.full((EXAMPLES, 1), 0.5)], 1), None
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONSTANT)
def test_constant_targets_count_as_scikit_learn_has_it(kind):
    outputs, targets, expected = CONSTANT[kind]
    found = evaluate(nn.Identity(), batched(outputs, targets + 0.0), metric="R²")
    assert found == pytest.approx(r2_score(targets, outputs), abs=1e-6)
    assert expected is None or found == expected


@pytest.mark.parametrize("level", [1.0, -300.0, 1e6])
def test_targets_that_differ_by_rounding_alone_do_not_explode(level):
    rounding = torch.randint(-2, 3, (EXAMPLES, 1), generator=generator()) * abs(level) * 2.0**-23
    targets = level + rounding
    missed = targets + 0.01 * abs(level)
    assert evaluate(nn.Identity(), batched(missed, targets), metric="R²") == 0.0
    assert evaluate(nn.Identity(), batched(targets, targets), metric="R²") == 1.0
    two = torch.cat([targets, true[:, :1]], 1)
    assert evaluate(nn.Identity(), batched(torch.cat([missed, true[:, :1]], 1), two)) == 0.5


def test_small_variation_far_from_zero_is_measured_exactly():
    targets = 1e4 + normal(EXAMPLES, 1).double()
    outputs = targets + 0.5 * normal(EXAMPLES, 1, seed=9).double()
    assert evaluate(nn.Identity(), batched(outputs, targets)) == pytest.approx(
        r2_score(targets, outputs), rel=1e-9
    )


def test_data_in_which_nothing_counts_is_told_and_a_batch_of_it_costs_nothing():
    nothing = torch.full((EXAMPLES, 7), IGNORED)
    with pytest.raises(ValueError, match="no target"):
        evaluate(nn.Identity(), batched(tokens, nothing))
    leaf = tokens.clone().requires_grad_()
    loss = TaskLoss()(leaf, nothing)
    loss.backward()
    assert float(loss.detach()) == float(leaf.grad.abs().sum()) == 0.0


REFUSED = {
    "classes out of range": (plain, label + 3, "not classes of 5"),
    "below zero": (plain, label - 1, "mark what is not to count with -100"),
    "void of one class an example": (plain, ignored(label, VOID), "not classes of 5"),
    "counts for one output": (one, label, "expected"),
    "another length": (tokens, whole(5, EXAMPLES, 6), "do not go with"),
    "values for classes": (plain, normal(EXAMPLES), "do not go with"),
    "labels of another number": (several, whole(2, EXAMPLES, 5), "do not go with"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_what_was_expected(kind):
    outputs, targets, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        evaluate(nn.Identity(), [(outputs, targets)])


NAMED = {name: (kind, one) for kind, (name, *one) in TABLE.items() if name != "accuracy"}


@pytest.mark.parametrize("name", NAMED)
def test_every_name_of_a_score_can_be_asked_for(name):
    outputs, targets, score = NAMED[name][1][:3]
    data = batched(outputs, targets)
    assert reading_for(nn.Identity(), data, metric=name).name == name
    assert evaluate(nn.Identity(), data, metric=name) == pytest.approx(float(score), abs=1e-6)
    if name in ("token accuracy", "pixel accuracy"):
        assert evaluate(nn.Identity(), data, metric="accuracy") == pytest.approx(float(score), abs=1e-6)
        with pytest.raises(ValueError, match=rf"metric='{name}', but .* give metric='accuracy'"):
            evaluate(nn.Identity(), batched(plain, label), metric=name)

"""How targets are read: score, name and loss of every kind, against scikit-learn and torch by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from torch import nn
from torch.nn import functional

from workbench.data.batches import IGNORED
from workbench.measure.asking import AmbiguousError
from workbench.measure.evaluation import evaluate, reading_for
from workbench.measure.reading import TaskLoss, loss_for
from workbench.measure.targets import VOID
from workbench.session.session import Session
from workbench.tuning.finetuning import finetune
from workbench.tuning.settings import Tuning
from workbench.widgets.page_values import with_procedure

EXAMPLES = 31


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=generator(seed))


def whole(high, *shape, seed=4):
    return torch.randint(high, shape, generator=generator(seed))


def ignored(targets, mark, share=0.3):
    return targets.masked_fill(torch.rand(targets.shape, generator=generator(9)) < share, mark)


def batched(outputs, targets):
    return [(outputs[:13], targets[:13]), (outputs[13:], targets[13:])]


def hits(answers, targets, *marks):
    """accuracy_score over what counts."""
    counted = ~np.isin(np.asarray(targets), marks)
    return accuracy_score(np.asarray(targets)[counted], np.asarray(answers)[counted])


def cross(outputs, targets, mark=IGNORED):
    """Cross-entropy with the classes second."""
    return functional.cross_entropy(outputs, targets.long(), ignore_index=mark)


def rights(outputs, axis, targets, *marks):
    return hits(outputs.argmax(axis), targets, *marks)


plain, tokens, second = normal(EXAMPLES, 5), normal(EXAMPLES, 7, 5), normal(EXAMPLES, 5, 7)
pixels, one, several = normal(EXAMPLES, 3, 4, 6), normal(EXAMPLES, 1), normal(EXAMPLES, 6)
masks = normal(EXAMPLES, 1, 4, 6)
label, token_labels, pixel_labels = whole(5, EXAMPLES), whole(5, EXAMPLES, 7), whole(3, EXAMPLES, 4, 6)
marks, many, mask = whole(2, EXAMPLES), whole(2, EXAMPLES, 6), whole(2, EXAMPLES, 4, 6)
true = normal(EXAMPLES, 6, seed=8) * torch.arange(1, 7) + 3
bce = functional.binary_cross_entropy_with_logits

TABLE = {
    "classes": ("accuracy", plain, label, hits(plain.argmax(1), label), cross(plain, label)),
    "classes in a column": ("accuracy", plain, label[:, None], rights(plain, 1, label), cross(plain, label)),
    "classes of small numbers": (
        "accuracy", plain, label.to(torch.uint8), hits(plain.argmax(1), label), cross(plain, label)
    ),
    "classes, some ignored": (
        "accuracy", plain, ignored(label, IGNORED), hits(plain.argmax(1), ignored(label, IGNORED), IGNORED),
        cross(plain, ignored(label, IGNORED)),
    ),
    "classes as floats of 0 and 1": (
        "accuracy", plain[:, :2], marks.float(), rights(plain[:, :2], 1, marks), cross(plain[:, :2], marks)
    ),
    "tokens": (
        "token accuracy", tokens, token_labels, hits(tokens.argmax(2), token_labels),
        cross(tokens.transpose(1, 2), token_labels),
    ),
    "tokens, classes second": (
        "token accuracy", second, token_labels, rights(second, 1, token_labels), cross(second, token_labels)
    ),
    "tokens, padding ignored": (
        "token accuracy", tokens, ignored(token_labels, IGNORED),
        hits(tokens.argmax(2), ignored(token_labels, IGNORED), IGNORED),
        cross(tokens.transpose(1, 2), ignored(token_labels, IGNORED)),
    ),
    "pixels": (
        "pixel accuracy", pixels, pixel_labels, rights(pixels, 1, pixel_labels), cross(pixels, pixel_labels)
    ),
    "pixels, classes last": (
        "pixel accuracy", pixels.permute(0, 2, 3, 1), pixel_labels, hits(pixels.argmax(1), pixel_labels),
        cross(pixels, pixel_labels),
    ),
    "pixels of bytes, void ignored": (
        "pixel accuracy", pixels, ignored(pixel_labels, VOID).to(torch.uint8),
        rights(pixels, 1, ignored(pixel_labels, VOID), VOID),
        cross(pixels, ignored(pixel_labels, VOID), VOID),
    ),
    "pixels with an axis of one": (
        "pixel accuracy", pixels, pixel_labels[:, None], hits(pixels.argmax(1), pixel_labels),
        cross(pixels, pixel_labels),
    ),
    "a logit": ("accuracy", one, marks, hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())),
    "a logit, floats": (
        "accuracy", one, marks.float(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit, a column": (
        "accuracy", one, marks[:, None].double(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit without an axis": (
        "accuracy", one[:, 0], marks.bool(), hits(one[:, 0] > 0, marks), bce(one[:, 0], marks.float())
    ),
    "a logit a pixel": (
        "pixel accuracy", masks, mask, hits(masks[:, 0] > 0, mask), bce(masks[:, 0], mask.float())
    ),
    "a logit a pixel, floats": (
        "pixel accuracy", masks, mask[:, None].float(), hits(masks[:, 0] > 0, mask),
        bce(masks[:, 0], mask.float()),
    ),
    "a logit a token": (
        "token accuracy", several[..., None], many, hits(several > 0, many), bce(several, many.float())
    ),
    "labels": ("label accuracy", several, many.float(), hits(several > 0, many), bce(several, many.float())),
    "labels, whole": ("label accuracy", several, many, hits(several > 0, many), bce(several, many.float())),
    "one-hot": (
        "accuracy", plain, functional.one_hot(label, 5).float(), rights(plain, 1, label), cross(plain, label)
    ),
    "values": ("R²", several, true, r2_score(true, several), functional.mse_loss(several, true)),
    "a value": (
        "R²", one, true[:, 0], r2_score(true[:, 0], one[:, 0]), functional.mse_loss(one, true[:, :1])
    ),
    "a value, doubles": (
        "R²", one, true[:, :1].double(), r2_score(true[:, 0], one[:, 0]),
        functional.mse_loss(one, true[:, :1]),
    ),
}  # fmt: skip


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

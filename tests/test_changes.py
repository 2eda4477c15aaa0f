"""Which answers change from one network to another, against plain forward passes and scikit-learn."""

import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import workbench.measure.answers as answers_module
from workbench.data.batches import IGNORED
from workbench.data.progress import Cancelled
from workbench.measure.answers import examples_at
from workbench.session.session import Session

CLASSES = 5


class Counting(nn.Module):
    """Counts the forward passes of all its copies."""

    passes: ClassVar[list] = []

    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        Counting.passes.append(len(x))
        return self.body(x)


class Tokens(nn.Module):
    """(n, 7, 11) to (n, 7, 5), or the classes second."""

    def __init__(self, second=False):
        super().__init__()
        self.body, self.second = nn.Sequential(nn.Linear(11, 13), nn.ReLU(), nn.Linear(13, CLASSES)), second

    def forward(self, x):
        found = self.body(x)
        return found.transpose(1, 2) if self.second else found


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(high, *shape, seed=4):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def plain(outputs=CLASSES):
    torch.manual_seed(0)
    return Counting(nn.Linear(11, 17), nn.ReLU(), nn.Linear(17, outputs)).eval()


def opened(model, inputs, targets, batch=13, **options):
    data = DataLoader(TensorDataset(inputs, targets), batch)
    session = Session(model, inputs, data, **options)
    session.measure()
    return session


def half(session):
    group = next(one for one in session.groups if one.prunable)
    return session.preview(group.name, width=max(1, group.width // 3))


@torch.no_grad()
def both(session, choice, inputs):
    return session.original(inputs), session.pruned(choice)(inputs)


@pytest.fixture(scope="module")
def classified():
    inputs, targets = normal(101, 11), whole(CLASSES, 101)
    session = opened(plain(), inputs, targets)
    choice = half(session)
    return session, choice, inputs, targets, session.changes(choice)


class TestOfClasses:
    def test_counts_are_those_of_two_plain_forward_passes(self, classified):
        session, choice, inputs, targets, found = classified
        before, after = (one.argmax(1) for one in both(session, choice, inputs))
        right = before == targets, after == targets
        assert found.changed == int((before != after).sum()) > 10
        assert found.lost == int((right[0] & ~right[1]).sum()) > 0
        assert found.won == int((~right[0] & right[1]).sum()) > 0
        assert found.other == found.changed - found.lost - found.won
        assert (found.examples, found.answers, found.kind) == (101, 101, "classes")
        assert found.churn == found.changed / 101

    def test_classes_and_confusions_are_those_of_scikit_learn(self, classified):
        session, choice, inputs, targets, found = classified
        tables = [
            confusion_matrix(targets, one.argmax(1), labels=range(CLASSES))
            for one in both(session, choice, inputs)
        ]
        assert np.array_equal(found.by_class.before, tables[0].diagonal())
        assert np.array_equal(found.by_class.after, tables[1].diagonal())
        assert np.array_equal(found.by_class.total, tables[0].sum(1))
        assert found.by_class.lost.sum() == found.lost
        assert found.by_class.won.sum() == found.won
        growth = tables[1] - tables[0]
        np.fill_diagonal(growth, 0)
        wanted = {(t, p): growth[t, p] for t in range(CLASSES) for p in range(CLASSES) if growth[t, p]}
        assert {(one.true, one.predicted): one.growth for one in found.confusions} == wanted
        assert [one.growth for one in found.confusions] == sorted(wanted.values(), reverse=True)

    def test_those_that_flipped_come_by_their_change(self, classified):
        session, choice, inputs, targets, found = classified
        before, after = (one.softmax(1).numpy() for one in both(session, choice, inputs))
        flipped = np.flatnonzero(before.argmax(1) != after.argmax(1))
        assert sorted(found.order) == list(flipped)
        assert np.all(np.diff(found.change[found.order]) <= 0)
        margin = [np.sort(one)[:, -1] - np.sort(one)[:, -2] for one in (before, after)]
        assert found.change[flipped] == pytest.approx((margin[0] + margin[1])[flipped] / 2, abs=1e-5)
        total_variation = 0.5 * np.abs(before - after).sum(1)
        assert np.all(found.change <= total_variation + 1e-6)
        first = found.flip(found.order[0])
        assert first.before == before[first.example].argmax()
        assert first.after == after[first.example].argmax()
        assert first.target == targets[first.example]
        assert first.sure_before == pytest.approx(before[first.example].max(), abs=1e-5)
        assert first.sure_after == pytest.approx(after[first.example].max(), abs=1e-5)

    def test_the_line_says_it(self, classified):
        found = classified[-1]
        assert str(found).startswith(f"{found.changed} answers changed: {found.lost} right → wrong")

    def test_scores_are_the_sessions(self, classified):
        session, choice, _, _, found = classified
        assert found.scores == (session.history[0].score, session.try_choice(choice))
        assert found.metric == "accuracy"

    def test_a_try_is_one_pass_and_keeps_nothing(self, classified):
        session, choice, *_ = classified
        Counting.passes.clear()
        session.pruned(choice)
        cost = sum(Counting.passes)
        session.changes(choice)
        assert sum(Counting.passes) == 2 * cost + 101  # the original's answers came with its score
        assert session.position == 0
        assert len(session.history) == 1

    def test_what_is_not_kept_is_found_again(self, classified, monkeypatch):
        _, _, inputs, targets, found = classified
        monkeypatch.setattr(answers_module, "KEPT", 1000)
        session = opened(plain(), inputs, targets)
        again = session.changes(half(session))
        assert (again.lost, again.won, again.other) == (found.lost, found.won, found.other)
        assert np.array_equal(again.order, found.order)


class TestOfSteps:
    def test_against_the_step_before_the_original_and_any_other(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(11, 17), nn.ReLU(), nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, CLASSES)
        ).eval()
        session = opened(model, inputs, targets)
        answers = [session.model(inputs).argmax(1)]
        for name in ("0", "2"):
            tried = session.changes(session.preview(name, width=4))
            session.commit(session.preview(name, width=4))
            assert (tried.lost, tried.won, tried.other) == session.flip_counts(session.position)
            answers.append(session.model(inputs).argmax(1))
        for of, against, base in [(1, "before", 0), (2, "before", 1), (2, "original", 0), (0, 2, 2)]:
            found = session.changes(of, against)
            assert found.changed == int((answers[of] != answers[base]).sum()) > 0
            assert found.lost == int(((answers[base] == targets) & (answers[of] != targets)).sum())
            assert found.scores == (session.history[base].score, session.history[of].score)
        assert session.changes(1, "original").changed == session.changes(1).changed
        session.goto(0)
        session.goto(1)
        assert session.changes().changed == session.changes(1).changed
        with pytest.raises(ValueError, match="no step 3"):
            session.changes(3)
        with pytest.raises(ValueError, match="'before', 'original'"):
            session.changes(1, "start")

    def test_a_plan_is_one_step_and_tried_as_committed(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(11, 17), nn.ReLU(), nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, CLASSES)
        ).eval()
        session = opened(model, inputs, targets)
        widths = {"0": 5, "2": 4}
        tried = session.changes(widths, reestimate=False)
        assert tried.scores[1] == session.try_plan(widths)[0]
        session.commit_plan(widths)
        found = session.changes(2)
        assert (found.lost, found.won, found.other) == (tried.lost, tried.won, tried.other)
        assert session.flip_counts(2) == (tried.lost, tried.won, tried.other)
        assert session.flip_counts(1) is None  # was never scored
        assert session.changes(1).changed >= 0
        assert session.flip_counts(1) is not None

    def test_weights_changed_by_hand_are_other_answers(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)
        session = opened(plain(), inputs, targets)
        session.commit(half(session))
        with torch.no_grad():
            session.model.body[2].weight.mul_(-1)
        wanted = (session.model(inputs).argmax(1) != session.original(inputs).argmax(1)).sum()
        assert session.changes().changed == int(wanted)

    def test_any_network(self, classified):
        session = classified[0]
        same = session.changes(session.original)
        assert (same.changed, str(same), list(same.order)) == (0, "no answer changed", [])
        assert same.scores[0] == same.scores[1]

    def test_cancelled_it_changes_nothing(self, classified):
        session, choice, *_ = classified
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            session.changes(choice, cancel=cancel)
        assert session.position == 0

    def test_data_in_another_order_each_time_is_told(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)

        class Shuffled:
            turn = 0

            def __iter__(self):
                Shuffled.turn += 1
                order = torch.randperm(101, generator=torch.Generator().manual_seed(Shuffled.turn))
                yield inputs[order], targets[order]

        session = Session(plain(), inputs, Shuffled())
        session.measure()
        with pytest.raises(ValueError, match="other examples at its second pass"):
            session.changes(half(session))


class TestOfOtherTargets:
    @pytest.mark.parametrize("second", [False, True])
    def test_tokens_by_their_share_of_an_example(self, second):
        torch.manual_seed(1)
        inputs, targets = normal(31, 7, 11), whole(CLASSES, 31, 7)
        targets[:, 5:] = IGNORED
        session = opened(Tokens(second).eval(), inputs, targets)
        choice = half(session)
        found = session.changes(choice)
        axis = 1 if second else 2
        before, after = (one.argmax(axis) for one in both(session, choice, inputs))
        counted = targets != IGNORED
        flipped = (before != after) & counted
        assert (found.examples, found.answers) == (31, 31 * 5)
        assert found.changed == int(flipped.sum()) > 0
        table = [confusion_matrix(targets[counted], one[counted]) for one in (before, after)]
        assert np.array_equal(found.by_class.before, table[0].diagonal())
        assert np.array_equal(found.by_class.after, table[1].diagonal())
        one = found.flip(found.order[0])
        assert one.lost + one.won + one.other == int(flipped[one.example].sum())
        assert one.answers == 5
        assert flipped[one.example, one.position]
        assert one.after == after[one.example, one.position]

    def test_labels_are_classes_of_their_own(self):
        inputs, targets = normal(101, 11), whole(2, 101, 6)
        session = opened(plain(6), inputs, targets)
        choice = half(session)
        found = session.changes(choice)
        before, after = ((one > 0).long() for one in both(session, choice, inputs))
        assert found.kind == "labels"
        assert found.changed == int((before != after).sum()) > 0
        assert np.array_equal(found.by_class.before, (before == targets).sum(0))
        assert np.array_equal(found.by_class.after, (after == targets).sum(0))
        wrong = {
            (label, said): int(((after[:, label] == said) & (targets[:, label] != said)).sum())
            - int(((before[:, label] == said) & (targets[:, label] != said)).sum())
            for label in range(6)
            for said in (0, 1)
        }
        assert {(c.true, c.predicted): c.growth for c in found.confusions} == {
            key: growth for key, growth in wrong.items() if growth
        }

    def test_yes_or_no_is_the_total_variation(self):
        inputs, targets = normal(101, 11), whole(2, 101, 1)
        session = opened(plain(1), inputs, targets)
        choice = half(session)
        found = session.changes(choice)
        before, after = (one.double().sigmoid()[:, 0].numpy() for one in both(session, choice, inputs))
        flipped = np.flatnonzero((before > 0.5) != (after > 0.5))
        assert sorted(found.order) == list(flipped)
        assert len(flipped)
        assert found.change[flipped] == pytest.approx(np.abs(before - after)[flipped], abs=1e-5)

    def test_values_by_their_error(self):
        inputs, targets = normal(101, 11), normal(101, 3, seed=8) * 4 + 2
        session = opened(plain(3), inputs, targets)
        choice = half(session)
        found = session.changes(choice)
        before, after = (one.double() for one in both(session, choice, inputs))
        spread = (targets.double() - targets.double().mean(0)).square().sum(1).mean().sqrt()
        change = ((after - targets).norm(dim=1) - (before - targets).norm(dim=1)) / spread
        assert found.change == pytest.approx(change.numpy(), abs=1e-5)
        assert (found.lost, found.won) == (int((change > 0.01).sum()), int((change < -0.01).sum()))
        assert np.all(np.diff(np.abs(found.change[found.order])) <= 0)
        assert "errors changed" in str(found)
        assert found.by_class is None

    def test_without_targets_answers_change_on_the_calibration_data(self):
        inputs = normal(101, 11)
        session = Session(plain(), inputs)
        session.measure()
        choice = half(session)
        found = session.changes(choice)
        before, after = (one.argmax(1) for one in both(session, choice, inputs))
        assert (found.labelled, found.data, found.lost, found.won) == (False, "calibration", 0, 0)
        assert found.changed == found.other == int((before != after).sum()) > 0
        assert np.array_equal(found.by_class.before, np.bincount(before, minlength=CLASSES))
        assert np.array_equal(found.by_class.after, np.bincount(after, minlength=CLASSES))
        assert sum(one.growth for one in found.confusions) == found.changed
        assert str(found) == f"{found.changed} answers changed"

    def test_a_score_function_leaves_the_calibration_data(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)

        def share(model):
            return float((model(inputs).argmax(1) == targets).float().mean())

        session = Session(plain(), (inputs, targets), share)
        session.measure()
        choice = half(session)
        found = session.changes(choice)
        assert (found.data, found.labelled) == ("calibration", True)
        assert found.scores == (session.history[0].score, session.try_choice(choice))
        before, after = (one.argmax(1) == targets for one in both(session, choice, inputs))
        assert found.lost == int((before & ~after).sum())

    def test_probabilities_are_taken_as_such(self):
        inputs, targets = normal(101, 11), whole(CLASSES, 101)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(11, 17), nn.ReLU(), nn.Linear(17, CLASSES), nn.Softmax(1)).eval()
        session = opened(model, inputs, targets)
        choice = half(session)
        found = session.changes(choice)
        before, _ = both(session, choice, inputs)
        one = found.flip(found.order[0])
        assert one.sure_before == pytest.approx(float(before[one.example].max()), abs=1e-6)


class TestLooking:
    def test_examples_by_their_number(self):
        inputs, targets = normal(31, 1, 4, 4), whole(CLASSES, 31)
        data = DataLoader(TensorDataset(inputs, targets), 13)
        found = dict(examples_at(data, [20, 3, 30]))
        assert list(found) == [3, 20, 30]
        assert all(torch.equal(one, inputs[[index]]) for index, one in found.items())

    def test_of_several_inputs_each_is_cut(self):
        first, second = normal(31, 5), normal(31, 7)
        found = dict(examples_at([({"a": first, "b": second, "scale": torch.ones(3)}, None)], [4]))[4]
        assert torch.equal(found["a"], first[4:5])
        assert torch.equal(found["b"], second[4:5])
        assert found["scale"].shape == (3,)

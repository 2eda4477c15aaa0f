"""Notebook 08's ground: small networks trained in two ways, tables, and its counts against the session's."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from torch import nn

from workbench.course import networks, training_small
from workbench.course.checking import exercise_of
from workbench.course.tables import Table, score_table, scores_by_way
from workbench.course.training_small import gap, mean_and_spread, recorded, started_afresh, trained
from workbench.examples.catalogue import build_model, load_example
from workbench.pruning.comparing import Comparison, Row
from workbench.session.session import Session


@pytest.fixture(scope="module")
def small():
    """The digits network with two channels and units a layer, and 40 images to train and score on."""
    example = load_example("digits-cnn")
    inputs, targets = example.calibration.inputs[:40], example.calibration.targets[:40]
    session = Session(example.model, (inputs, targets), [(inputs, targets)])
    session.measure()
    session.commit_plan({group.name: 2 for group in session.groups if group.prunable})
    return session


class TestTrainingSmall:
    def test_both_ways_are_scored_and_the_session_stays(self, small):
        before, generator = small.model.state_dict(), torch.get_rng_state()
        trial = trained(small, epochs=1, seeds=(0, 1))
        assert trial == trained(small, epochs=1, seeds=(0, 1))
        assert (len(trial.tuned), len(trial.scratch)) == (2, 2)
        assert trial.parameters == small.parameters == sum(p.numel() for p in small.model.parameters())
        assert trial.pruned == small.evaluate()
        assert all(torch.equal(before[key], value) for key, value in small.model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), generator)

    def test_from_scratch_nothing_of_the_pruned_network_is_left(self, small):
        def training_of(model):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
            return model

        other = Session(training_of(small.model), small.calibration, small.evaluation)
        assert trained(other, 1, (3,)).scratch == trained(small, 1, (3,)).scratch

    def test_a_seed_gives_its_weights_of_the_same_shapes(self, small):
        one, same, other = (started_afresh(small.model, seed) for seed in (1, 1, 2))
        for a, b, old in zip(
            *(model.state_dict().items() for model in (one, same, small.model)), strict=True
        ):
            assert torch.equal(a[1], b[1])
            assert a[1].shape == old[1].shape
        assert not torch.equal(one.conv1.weight, other.conv1.weight)
        assert float(one.bn1.running_mean.abs().sum()) == 0

    def test_parameters_that_cannot_be_drawn_anew_are_named(self):
        with pytest.raises(ValueError, match=r"the network \(DigitsViT\) has parameters and no reset"):
            started_afresh(build_model("vit-digits"), 0)

    def test_without_scores_or_seeds_there_is_nothing_to_compare(self, small):
        blind = Session(small.model, small.calibration)
        for session, seeds in ((blind, (0,)), (small, ())):
            with pytest.raises(ValueError, match="evaluation data, and one seed"):
                trained(session, 1, seeds)

    def test_the_gap_is_scipys(self):
        for first, second in (([0.9, 0.95, 0.93], [0.8, 0.85]), ([0.5, 0.6], [0.9, 0.7, 0.8, 0.85])):
            expected = ttest_ind(first, second, equal_var=False).statistic
            assert gap(first, second) == pytest.approx(expected)
        assert mean_and_spread([0.5, 0.7]) == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1)))
        assert np.isnan(mean_and_spread([0.5])[1])

    def test_the_record_is_what_the_command_writes(self):
        found = recorded()
        assert tuple(found) == training_small.DIVISORS
        for trials in found.values():
            assert tuple(trial.epochs for trial in trials) == training_small.EPOCHS
            assert {len(way) for trial in trials for way in trial.ways} == {training_small.SEEDS}
            assert len({(trial.parameters, trial.pruned) for trial in trials}) == 1
            means, spreads = training_small.means_and_spreads(trials)
            assert means["from scratch"] == [np.mean(trial.scratch) for trial in trials]
            assert spreads["fine-tuned"] == [mean_and_spread(trial.tuned)[1] for trial in trials]

    def test_the_record_says_what_the_notebook_says(self):
        """Early the head start shows; at a quarter time makes up for it, at an eighth it does not."""
        quarter, eighth = ([gap(*trial.ways) for trial in recorded()[divisor]] for divisor in (4, 8))
        assert quarter[0] > 3
        assert max(quarter[1:]) < 2.1
        means, _ = training_small.means_and_spreads(recorded()[4][1:])
        ahead = np.subtract(means["fine-tuned"], means["from scratch"])
        assert 0 < ahead.min() <= ahead.max() < 0.005
        assert min(eighth) > 3
        for trials, far in ((recorded()[4], False), (recorded()[8], True)):
            tuned, long_trained = trials[2].tuned, trials[3].scratch  # 60 + 30 epochs, and 90
            assert (gap(tuned, long_trained) > 3) is far


class TestExercises:
    """The counts that students do by hand are what the session says goes with a unit."""

    def test_a_hidden_unit(self):
        session = Session(build_model("rnn-mnist").eval(), torch.randn(3, 1, 28, 28))
        session.measure()
        saved = session.preview("rnn.layers.0.input", width=127).parameters_saved
        assert exercise_of("08.3").truth() == saved == 28 + 2 * 128 - 1 + 2 + 10

    def test_a_head(self):
        session = Session(build_model("vit-digits").eval(), torch.randn(3, 1, 8, 8))
        session.measure()
        saved = session.preview("block1.attention.q_proj", width=7).parameters_saved
        assert exercise_of("08.4").truth() == saved == 3 * 8 * 65 + 8 * 64

    def test_the_moment_is_that_of_the_recurrent_matrix(self):
        """What it reads: the state before each row, the first of them 0."""
        model, images = build_model("rnn-mnist").eval(), torch.randn(5, 1, 28, 28)
        session = Session(model, images)
        session.measure()
        states, _ = model.rnn(images.squeeze(1))
        before = torch.cat([torch.zeros(5, 1, 128), states[:, :-1]], 1).detach().double().numpy()
        found = session.moment("rnn.layers.0.input", reader=0)
        assert found.count == 5 * 28
        np.testing.assert_allclose(found.matrix.numpy(), exercise_of("08.2").truth()(before), atol=1e-6)

    def test_checking_draws_no_random_numbers(self):
        generator = torch.get_rng_state()
        for key in ("08.1", "08.3", "08.4"):
            exercise = exercise_of(key)
            assert exercise.truth() is not None
            assert all(mistake.value() is not None for mistake in exercise.mistakes)
        assert torch.equal(torch.get_rng_state(), generator)


class TestTables:
    def test_a_table_is_markdown_and_text(self):
        table = score_table(["64", "32"], {"none": [0.5, 0.25], "channel": [1, 0.9]}, "reconstruction")
        lines = table._repr_markdown_().splitlines()
        assert lines == [
            "| reconstruction | 64 | 32 |",
            "| --- | ---: | ---: |",
            "| none | 0.500 | 0.250 |",
            "| channel | 1.000 | 0.900 |",
        ]
        assert repr(table).splitlines()[1] == "none            0.500  0.250"
        with pytest.raises(ValueError, match="1 entries under 2 heads"):
            Table(("a", "b"), (("1",),))

    def test_scores_way_by_way(self):
        def row(budget, selection, reconstruction, score):
            return Row(budget, selection, reconstruction, False, 0.3, score, 1, 1, 0.0)

        rows = (row(0, "greedy", "none", 0.5), row(0, "greedy", "channel", 0.9))
        rows += (row(1, "greedy", "none", 0.2), row(1, "greedy", "channel", None))
        found = scores_by_way(Comparison("accuracy", 1.0, rows))
        assert found["none"] == [0.5, 0.2]
        assert found["channel"][0] == 0.9
        assert np.isnan(found["channel"][1])
        with pytest.raises(ValueError, match="does not tell the rows"):
            scores_by_way(Comparison("accuracy", 1.0, rows), along="selection")


def test_enlarged_digits_are_in_mnists_form():
    images = networks.enlarged_digits("test")
    assert images.pixels.shape == (450, 1, 28, 28)
    assert images.pixels.dtype == torch.uint8
    assert int(images.pixels[..., :5, :].max()) == int(images.pixels[..., -5:].max()) == 0
    assert (int(images.pixels.min()), int(images.pixels.max())) == (0, 255)


def test_without_mnist_the_recurrent_network_sees_enlarged_digits(monkeypatch, capsys):
    monkeypatch.setattr(networks, "at_hand", lambda data_name: data_name != "MNIST")
    session = networks.example("rnn-mnist", fresh=True)
    assert "digits, enlarged (MNIST is not at hand)" in capsys.readouterr().out
    assert isinstance(session.model, nn.Module)
    assert 0.7 < session.history[0].score < 0.9  # measured: 0.807

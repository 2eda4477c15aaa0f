"""The face without a browser: the tab Fine-tune."""

from __future__ import annotations

import time

import pytest
import torch
from states import idle, message, small_session

from workbench.widgets.state import WorkbenchState
from workbench.widgets.tune_tab import SETTINGS, tuning_of


class TestTunings:
    @pytest.fixture
    def labelled(self):
        torch.manual_seed(5)
        data = (torch.randn(97, 11), torch.randint(0, 3, (97,)))
        session = small_session(batches=lambda inputs: data)
        session.measure()
        return idle(WorkbenchState(session))

    def test_the_best_becomes_a_step(self, labelled):
        form = {"amount": "13", "unit": "steps", "rate": "0.001", "distill": "0.5"}
        idle(message(labelled, "finetune", tuning=form))
        assert (labelled.error, labelled.position, labelled.tuned["how"]) == ("", 1, "done")
        assert labelled.tuned["reports"][-1][:2] == [13, 13]
        assert labelled.session.history[1].tuning.distill == 0.5

    def test_what_it_learns_from_and_a_refit(self):
        torch.manual_seed(5)
        inputs = torch.randn(97, 11)
        session = small_session(training=(inputs[:31], torch.randint(0, 3, (31,))))
        session.measure()
        state = idle(WorkbenchState(session))
        assert state.learns == {"targets": True, "size": 31, "own": True, "batches": False, "images": False}
        form = {"amount": "1", "unit": "epochs", "batch": "8", "match": "0.5", "flips": True}  # of no images
        idle(message(state, "finetune", tuning=form))
        assert state.error == ""
        assert state.tuned["reports"][-1][:2] == [4, 4]
        idle(message(state, "refit"))
        assert ("nothing is pruned" in state.error, state.error_at) == (True, "tune")
        session.commit(session.preview("0", width=5))
        idle(message(state, "refit"))
        assert (state.error, session.history[-1].label) == ("", "refitted")

    def test_taylor_in_the_layer_and_the_budget_measures_its_gradients(self, labelled):
        labelled.selection = "taylor"
        idle(idle(labelled))  # the preview asks for a job, whose end asks for a preview
        assert (labelled.error, labelled.session.has_gradients) == ("", True)
        assert labelled.preview["request"]["selection"] == "taylor"
        options = {"selection": "taylor"}
        idle(message(labelled, "commit_plan", widths={"0": 5}, options=options, revision=None))
        assert (labelled.error, labelled.session.history[-1].choice.selection) == ("", "taylor")

    def test_taylor_without_labels_says_so_once(self, state, session):
        state.selection = "taylor"
        idle(idle(state))
        assert ("no targets" in state.error, state.error_at) == (True, "choice")
        assert not session.has_gradients

    def test_without_labels_only_distilling_goes(self, state, session):
        idle(message(state, "finetune", tuning={"amount": "3", "unit": "steps"}))
        assert ("no labels" in state.error, state.error_at) == (True, "tune")
        idle(message(state, "finetune", tuning={"amount": "3", "unit": "steps", "distill": "1"}))
        assert (state.error, session.position) == ("", 1)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"amount": "few"}, "train for: the number of epochs must be a number"),
            ({"amount": "1.5", "unit": "steps"}, "number of steps must be a whole number"),
            ({"rate": ""}, "learning rate must be a number"),
            ({"rate": "-1"}, "learning rate must be a positive number"),
            ({"distill": "2"}, "the share of the original's outputs is a share"),
            ({"amount": "inf"}, "train for: epochs must be 100,000 or less"),
            ({"amount": "1e99"}, "train for: epochs must be 100,000 or less"),
            ({"amount": "1e99", "unit": "steps"}, "train for: the number of steps must be a whole number"),
            ({"rate": "1e99"}, "learning rate must be 1,000,000 or less, got 1e+99"),
            ({"batch": "1e99"}, "batch must be a whole number"),
            ({"unit": "weeks"}, "epochs or steps"),
        ],
    )
    def test_wrong_settings_are_said_in_the_tab(self, labelled, wrong, words):
        idle(message(labelled, "finetune", tuning=wrong))
        assert words in labelled.error
        assert (labelled.error_at, labelled.position) == ("tune", 0)

    def test_images_are_moved_by_whole_pixels(self):
        assert (tuning_of(SETTINGS).flips, tuning_of(SETTINGS).shifts) == (False, 0)
        with pytest.raises(ValueError, match="number of pixels must be a whole number, 0 or more; got '-1'"):
            tuning_of(SETTINGS | {"shifts": "-1"})

    def test_pause_means_nothing_where_nothing_runs(self, labelled):
        message(labelled, "pause_tuning")
        assert labelled.tuned == {}
        idle(message(labelled, "finetune", tuning={"amount": "2", "unit": "steps"}))
        message(labelled, "pause_tuning")
        assert labelled.tuned["how"] == "done"

    def test_a_malformed_message_is_an_error_in_words(self, labelled):
        idle(message(labelled, "finetune", tuning="fast"))
        assert (labelled.error != "", labelled.error_at) == (True, "tune")
        idle(message(labelled, "compare", ways="all", widths={}))
        assert labelled.error_at == "compare"
        assert labelled.session.position == 0

    def test_cancelled_before_its_first_step_it_says_so_and_changes_nothing(self, labelled, monkeypatch):
        evaluate = labelled.session._score

        def scoring(*args):
            labelled.cancel()
            return evaluate(*args)

        monkeypatch.setattr(labelled.session, "_score", scoring)
        idle(message(labelled, "finetune", tuning={"amount": "3", "unit": "steps"}))
        assert (labelled.tuned["how"], labelled.ended["how"]) == ("cancelled", "cancelled")
        assert (labelled.error, labelled.position) == ("", 0)

    @pytest.mark.parametrize("paused", [True, False])
    def test_cancel_keeps_the_best_even_in_a_pause(self, labelled, paused):
        form = {"amount": "100000", "unit": "steps", "rate": "0.001", "distill": "0"}
        message(labelled, "finetune", tuning=form)
        message(labelled, "pause_tuning")
        time.sleep(0.2)
        assert not labelled._jobs.wait(0.2)
        if not paused:
            message(labelled, "go_on_tuning")
        message(labelled, "cancel")
        idle(labelled)
        assert (labelled.tuned["how"], len(labelled.history), labelled.error) == ("stopped", 2, "")
        assert labelled.history[1]["score"] >= labelled.history[0]["score"]

"""The face without a browser: the tabs Budget and Compare, and the branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from states import idle, message, small_session

from workbench.pruning.problem import BUDGET_LAM
from workbench.widgets.budget_tab import as_read, target_of
from workbench.widgets.state import WorkbenchState


class TestBudget:
    def test_terms_give_the_sessions_cost(self, state, session):
        budget = state.budget
        assert budget["names"] == [group.name for group in session.groups if group.prunable]
        assert (budget["parameters"], budget["macs"]) == (session.parameters, session.macs)
        assert len(budget["terms"]) == len(session.cost_model.terms)

    def test_losses_come_when_they_are_looked_at(self, state, session):
        assert state.losses_of == -1
        state.tab = "budget"
        idle(state)
        assert state.losses_of == state.revision
        expected = np.concatenate([group.losses for group in session.budget_groups()])
        np.testing.assert_array_equal(np.frombuffer(state.losses), expected)

    def shown(self, state, name):
        """The losses of a group at its widths 0 to m, as the page draws them: over the first."""
        ends = np.cumsum([width + 1 for width in state.budget["widths"]])
        rows = np.split(np.frombuffer(state.losses), ends[:-1])
        row = rows[state.budget["names"].index(name)]
        return row / row[0]

    def previewed(self, session, name, width, **options):
        lam = BUDGET_LAM * session.spectrum(name).trace
        return session.preview(name, width=width, lam=lam, **options).output_loss

    def test_a_rows_loss_is_what_its_width_is_previewed_and_committed_with(self, state, session):
        state.tab = "budget"
        for theta, selection in ((0.3, "greedy"), (0.8, "magnitude-l2"), (0.8, "greedy")):
            state.theta, state.selection = theta, selection
            for widths in ({}, {"0": 9, "2": 7}, {"0": 13, "2": 3, "4": 10}):
                state.widths = widths
                idle(state)
                assert state.losses_of == state.revision
                for name in state.budget["names"]:
                    width = widths.get(name, session.group(name).width)
                    loss = self.previewed(session, name, width, theta=theta, selection=selection)
                    assert self.shown(state, name)[width] == loss
        options = {
            "theta": 0.8,
            "selection": "greedy",
            "reconstruction": "channel",
            "reestimate": False,
        }
        expected = [self.shown(state, name)[widths[name]] for name in state.budget["names"]]
        idle(message(state, "commit_plan", widths=widths, options=options, revision=state.revision))
        committed = [step.choice.output_loss for step in session.history[1:]]
        assert committed == pytest.approx(expected, rel=1e-9)

    def test_losses_of_another_choice_are_not_shown_as_those_of_this_one(self, state):
        state.tab = "budget"
        idle(state)
        state.tab = "layer"
        state.theta = 0.9
        idle(state)
        assert state.losses_of == -1
        state.tab = "budget"
        idle(state)
        assert state.losses_of == state.revision

    def test_losses_by_taylor_come_once_its_gradients_are_there(self, state, session):
        state.tab = "budget"
        session.training = [
            (session.example_input, torch.zeros(len(session.example_input), dtype=torch.long))
        ]
        state.selection = "taylor"
        for _ in range(3):
            idle(state)
        assert state.error == ""
        assert session.has_gradients
        assert state.losses_of == state.revision
        loss = self.previewed(session, "2", 8, selection="taylor")
        assert self.shown(state, "2")[8] == pytest.approx(loss, abs=1e-6)

    def test_a_share_of_the_time_is_one_of_what_it_was_measured_to_be(self, state, session, monkeypatch):
        asked = {}
        monkeypatch.setattr("workbench.widgets.budget_tab.measure_latency", lambda *_: 0.5)

        def plan(target, unit, rule, **options):
            asked.update(options, target=target, unit=unit)
            raise ValueError("enough")

        monkeypatch.setattr(session, "plan", plan)
        for text, target, reference in (("80 %", 0.4, 0.5), ("2x", 0.25, 0.5), ("12.5", 0.0125, None)):
            goal = {"target": text, "unit": "ms"}
            idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
            assert (asked["unit"], asked["reference"]) == ("seconds", reference)
            assert asked["target"] == pytest.approx(target)

    @pytest.mark.parametrize("rule", ["equal", "shared", "least"])
    def test_a_rule_gives_the_sessions_plan(self, state, session, rule):
        goal = {"target": "60 %", "unit": "macs", "minimum": "2", "multiple": "1"}
        idle(message(state, "plan", rule=rule, goal=goal, locks=["0"], widths={"0": 13}))
        plan = session.plan(0.6 * session.macs, "macs", rule, locks={"0": 13}, minimum=2)
        assert (state.error, state.widths) == ("", plan.widths)
        assert (state.planned["met"], state.planned["macs"]) == (plan.met, plan.macs)
        assert state.widths["0"] == 13

    @pytest.mark.parametrize(
        ("goal", "words"),
        [
            ({"target": ""}, "the target must be a number"),
            ({"target": "0"}, "the target must be a number"),
            ({"target": "1.2.3 M"}, "the target must be a number"),
            ({"target": "5 k", "unit": "ms"}, "in milliseconds"),
            ({"minimum": "none"}, "minimum width must be a whole number"),
            ({"multiple": 0}, "multiple must be a whole number"),
            ({"unit": "watts"}, "unit must be one of"),
        ],
    )
    def test_errors_stand_in_the_tab_and_move_nothing(self, state, goal, words):
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
        assert words in state.error
        assert (state.error_at, state.widths) == ("budget", {})

    @pytest.mark.parametrize(
        ("text", "unit", "share"), [("50 %", "macs", 0.5), ("2x", "parameters", 0.5), ("25%", "macs", 0.25)]
    )
    def test_shares_are_of_the_original(self, session, text, unit, share):
        whole = {"macs": session.macs, "parameters": session.parameters}[unit]
        session.commit(session.preview("0", width=7))
        assert target_of(session, text, unit) == pytest.approx(share * whole)

    @pytest.mark.parametrize(
        "text",
        ["1,5 M", "0,5 M", "1,5x", "12,5 %", "1,30", "1300,000", "1.2,000", "0,125 M", "000,500", "1.2.3"],
    )
    def test_a_comma_before_decimals_is_told_and_not_taken_for_thousands(self, session, text):
        with pytest.raises(ValueError, match="with a point before decimals"):
            target_of(session, text, "macs")

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("1,234,500.5", 1234500.5),
            (".5 M", 5e5),
            ("3000.", 3000.0),
            ("101", 101.0),
            ("1.2 M", 1.2e6),
            ("1,300", 1300),
            ("7k", 7000),
            ("2G", 2e9),
        ],
    )
    def test_targets_in_numbers(self, session, text, number):
        assert target_of(session, text, "macs") == pytest.approx(number)
        assert target_of(session, "12.5", "ms") == pytest.approx(0.0125)

    @pytest.mark.parametrize("unit", ["macs", "parameters"])
    @pytest.mark.parametrize(("text", "share"), [("0.5", 0.5), (".25", 0.25), ("0.999", 0.999)])
    def test_a_part_of_one_is_a_share_and_is_shown_as_one(self, session, text, share, unit):
        whole = {"macs": session.macs, "parameters": session.parameters}[unit]
        assert target_of(session, text, unit) == pytest.approx(share * whole)
        assert target_of(session, as_read(text, unit), unit) == pytest.approx(share * whole)
        assert as_read(text, unit).endswith("%")
        assert as_read(text, "ms") == text

    @pytest.mark.parametrize("text", ["2", "50", "1", "100", "3."])
    def test_a_few_macs_are_asked_about_and_nothing_moves(self, state, session, text):
        state.widths = {"0": 9}
        goal = {"target": text, "unit": "macs"}
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={"0": 9}))
        assert "did you mean" in state.error
        assert f"{float(text):g} %" in state.error
        assert (state.error_at, state.widths, state.planned) == ("budget", {"0": 9}, {})

    def test_plan_is_committed_and_undone_as_one(self, state, session):
        goal = {"target": "2x", "unit": "macs"}
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
        planned, wanted = state.planned["macs"], state.widths
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "none", "reestimate": False}
        idle(message(state, "commit_plan", widths=wanted, options=options, revision=state.revision))
        assert (state.error, session.macs) == ("", planned)
        assert session.history[-1].choice.reconstruction == "none"
        assert state.history[-1]["plan"].endswith("groups, least")
        assert state.widths == wanted == dict(zip(state.budget["names"], state.budget["widths"], strict=True))
        idle(message(state, "undo"))
        assert (state.position, state.widths) == (0, wanted)

    def test_widths_of_an_older_network_are_not_committed(self, state, session):
        revision = state.revision
        session.commit(session.preview("0", width=7))
        idle(state)
        idle(message(state, "commit_plan", widths={"2": 5}, options={}, revision=revision))
        assert "has changed" in state.error
        assert session.position == 1

    def test_nothing_to_commit_is_said(self, state):
        idle(message(state, "commit_plan", widths={"0": 23}, options={}, revision=state.revision))
        assert "nothing to commit" in state.error
        assert state.error_at == "budget"

    def test_another_session_starts_without_a_plan(self, state):
        state.widths, state.locks = {"0": 5}, ["0"]
        state._take(small_session())
        assert (state.widths, state.locks, state.planned) == ({}, [], {})


class TestBranches:
    def test_fork_switch_and_drop(self, state, session):
        idle(message(state, "fork", name=" narrow "))
        idle(message(state, "commit", request=state.request()))
        assert (state.branch, len(state.history)) == ("narrow", 2)
        idle(message(state, "switch", name="main"))
        assert (state.branch, len(state.history), session.position) == ("main", 1, 0)
        assert [(one["name"], len(one["steps"])) for one in state.branches] == [("main", 1), ("narrow", 2)]
        idle(message(state, "drop", name="narrow"))
        assert [one["name"] for one in state.branches] == ["main"]

    def test_what_is_planned_is_of_its_branch(self, state, session):
        state.widths = planned = {"0": 9, "2": 7}
        idle(message(state, "fork", name="wide"))
        assert state.widths == planned  # it begins where the other is
        state.widths, state.locks = {"0": 20}, ["0"]
        idle(message(state, "switch", name="main"))
        assert (state.widths, state.locks) == (planned, [])
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "none", "reestimate": False}
        idle(message(state, "commit_plan", widths=planned, options=options, revision=state.revision))
        idle(message(state, "switch", name="wide"))
        assert (state.widths, state.locks, state.budget["widths"]) == ({"0": 20}, ["0"], [23, 17, 13])
        idle(message(state, "switch", name="main"))
        assert (state.widths, state.locks, state.budget["widths"]) == (planned, [], [9, 7, 13])

    def test_a_branch_that_nothing_is_planned_on_keeps_all_its_units(self, state, session):
        idle(message(state, "fork", name="wide"))
        goal = {"target": "60 %", "unit": "macs"}
        idle(message(state, "plan", rule="least", goal=goal, locks=[], widths={}))
        plan = state.widths
        assert plan
        assert state.planned
        state.follow = False
        state.width = 5
        idle(message(state, "switch", name="main"))
        assert (state.widths, state.planned) == ({}, {})
        idle(state)
        assert state.width != 5  # set by hand on the other branch
        idle(message(state, "switch", name="wide"))
        assert (state.widths, state.planned["rule"]) == (plan, "least")
        idle(message(state, "commit_plan", widths=plan, options={}, revision=state.revision))
        assert session.history[-1].plan.endswith("least")

    def test_a_name_in_use_is_refused_in_words(self, state):
        idle(message(state, "fork", name="main"))
        assert "in use" in state.error
        assert state.branch == "main"

    def test_steps_of_a_plan_carry_its_name(self, state, session):
        session.commit_plan({"0": 13, "2": 11})
        idle(state)
        assert [step["plan"] for step in state.history] == ["", *["plan 1: 2 groups"] * 2]
        assert state.history[1]["score"] is None


class TestComparisons:
    WAYS = {"selections": ["greedy", "magnitude-l1"], "reconstructions": ["none", "channel"]}  # noqa: RUF012

    def test_comparison_is_the_sessions_and_commits_nothing(self, state, session, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        widths = {"0": 13, "2": 11}
        idle(message(state, "compare", ways=self.WAYS, widths=widths))
        expected = session.compare(widths, *self.WAYS.values())
        assert [row["score"] for row in state.comparison["rows"]] == [row.score for row in expected.rows]
        assert (state.error, session.position) == ("", 0)
        assert state.comparison["budgets"] == [
            {"title": "the budget", "macs": session.cost_model.total(widths)[1], "widths": widths}
        ]
        assert state.comparison["revision"] == state.revision
        idle(message(state, "save_comparison"))
        idle(message(state, "save_comparison"))
        kinds = ("csv", "png", "svg")
        names = {f"{name}.{kind}" for name in ("comparison", "comparison-2") for kind in kinds}
        assert {file.name for file in tmp_path.iterdir()} == names
        assert "comparison-2.csv" in state.notice

    @pytest.mark.parametrize(
        ("ways", "widths", "words"),
        [
            (WAYS, {}, "keeps all units"),
            (WAYS | {"selections": []}, {"0": 5}, "at least one selection"),
            (WAYS | {"selections": ["taylor"]}, {"0": 5}, "targets"),
        ],
    )
    def test_errors_stand_in_the_tab(self, state, ways, widths, words):
        idle(message(state, "compare", ways=ways, widths=widths))
        assert words in state.error
        assert (state.error_at, state.comparison) == ("compare", {})

    def test_taylor_measures_what_it_needs(self):
        torch.manual_seed(3)
        data = (torch.randn(97, 11), torch.randint(0, 3, (97,)))
        session = small_session(batches=lambda inputs: data)
        session.measure()
        state = idle(WorkbenchState(session))
        assert (state.learns["targets"], state.learns["size"]) == (True, 97)
        ways = {"selections": ["taylor"], "reconstructions": ["channel"]}
        idle(message(state, "compare", ways=ways, widths={"0": 5}))
        assert (state.error, len(state.comparison["rows"])) == ("", 1)
        assert state.comparison["revision"] == state.revision

    def test_a_rule_finds_the_widths_of_several_budgets(self, state, session):
        ways = self.WAYS | {"at": "least", "theta": 0.7}
        idle(message(state, "compare", ways=ways, widths={}))
        assert state.error == ""
        plans = [session.plan(session.macs / ratio) for ratio in (1.5, 2, 3, 5)]
        assert [one["macs"] for one in state.comparison["budgets"]] == [plan.macs for plan in plans]
        expected = session.compare(plans, *self.WAYS.values(), theta=0.7)
        rows = state.comparison["rows"]
        assert [(row["budget"], row["score"], row["theta"]) for row in rows] == [
            (row.budget, row.score, 0.7) for row in expected.rows
        ]

    def test_locks_that_leave_nothing_to_compare_are_told(self, state):
        state.locks = ["0", "2"]
        idle(message(state, "compare", ways=self.WAYS | {"at": "equal"}, widths={}))
        assert ("smaller than the present one" in state.error, state.error_at) == (True, "compare")

    def test_sweep_has_a_row_a_group(self, state, session):
        options = {"theta": 0.3, "selection": "greedy", "reconstruction": "channel"}
        idle(message(state, "sweep_groups", options=options))
        found = session.sensitivity(tuple(state.sweep["shares"]))
        assert (state.error, state.sweep["groups"]) == ("", list(found.groups))
        np.testing.assert_array_equal(state.sweep["scores"], found.scores)

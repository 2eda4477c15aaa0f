"""Cancelled at any moment, an operation leaves the session to the bit; a day's work leaves nothing behind."""

import importlib
import random

import ipywidgets
import pytest
from cancelling import CANCELLED, cancelled_once, moments_to_cancel
from long_day import day, growth
from surviving import measured, planned_after

from workbench.widgets.app import Workbench


@pytest.mark.parametrize("name", CANCELLED)
def test_what_is_cancelled_is_as_before_or_done(name, tmp_path):
    draw = random.Random(name)
    after, count = planned_after(name, tmp_path), moments_to_cancel(name, tmp_path / "counted")
    assert count
    for number in range(3):
        how, wrong = cancelled_once(name, draw.randrange(count), after, tmp_path / f"{number}")
        assert not wrong, f"{how}: {wrong}"


def test_hours_of_work_leave_no_thread_and_no_file_open(tmp_path):
    _, threads, files = growth(day(6, tmp_path, 0))
    assert threads <= 0
    assert files <= 0


def test_a_view_that_is_closed_leaves_no_widget(monkeypatch):
    session, known = measured(), ipywidgets.Widget.__module__
    registry = importlib.import_module(known)._instances
    before = set(registry)
    Workbench(session, autosave=False).close()
    assert set(registry) == before

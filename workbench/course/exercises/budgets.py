"""Notebook 07: budgets."""

from __future__ import annotations

from workbench.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()

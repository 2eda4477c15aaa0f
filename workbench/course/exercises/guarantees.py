"""Notebook 04: guarantees."""

from __future__ import annotations

from workbench.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()

"""Notebook 08: beyond."""

from __future__ import annotations

from workbench.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()

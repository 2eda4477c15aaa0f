"""Notebook 01: spectra."""

from __future__ import annotations

from workbench.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()

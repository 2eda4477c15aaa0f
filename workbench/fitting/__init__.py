"""Least squares on what layers see."""

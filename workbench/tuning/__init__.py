"""Gradient steps: fine-tuning and its settings."""

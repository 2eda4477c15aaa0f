"""The exercises, a file a notebook: how the truth is computed, and what typical mistakes give."""

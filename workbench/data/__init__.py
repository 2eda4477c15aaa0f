"""Models and data come in: from a person's objects, files and names to networks and batches."""

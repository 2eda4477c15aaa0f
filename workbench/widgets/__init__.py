"""The face: panels over one shared state."""

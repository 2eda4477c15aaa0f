"""A page without Python: one HTML file whose own arithmetic moves, for a session or some of its views."""

"""What a choice is, what it does, and what a budget asks for: pure functions of a state."""

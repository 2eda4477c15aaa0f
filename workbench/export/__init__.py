"""What is taken away: weights, architecture, programs."""

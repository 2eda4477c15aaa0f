"""What a network is made of, and taking units out of it."""

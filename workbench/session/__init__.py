"""A network on its way from the original to a smaller one, with its history and its file."""

"""Built-in networks and data sets."""

"""Which units belong together: labels run through the network, and every group is proved."""

"""A study on a cluster of many workers, simulated."""

"""Training: the data, the loop, its checkpoints."""

"""Metrics, one file a family: pure functions of traces and texts; and the bootstrap that gives them intervals."""

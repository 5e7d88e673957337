"""Metrics, one file per family: pure functions of traces and texts; and bootstrap intervals."""

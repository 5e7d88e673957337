"""Measuring recognisers: the runner, replay over a network, scoring, and the record of a run."""

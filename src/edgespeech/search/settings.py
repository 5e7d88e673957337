"""How our own recognisers are set unless an option changes it."""

CHUNK_S = 0.12
"""Three transcriber frames of 40 ms."""
BEAM = 16
"""Hypotheses that the search keeps unless told otherwise, chosen on tuning speech (`replication/rnnt/tune_mean.py`):
half as many make more errors, in noise above all; more gain little for the time that they take."""
FINAL_S = 0.8
"""Of the decoder's pause: the user has finished. It cuts off 3 of 60 utterances of `assistant_dev` with noise behind
them, 1.0 s cuts off 1; with pauses of up to 1.2 s put between words, no such rule is of use."""

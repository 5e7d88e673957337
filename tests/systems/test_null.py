"""The null recogniser does nothing, and the harness around it costs less than 1 % of the audio's time."""

from __future__ import annotations

from statistics import median

import numpy as np

from edgespeech.contracts import EventKind, Request
from edgespeech.harness.runner import run_utterance
from edgespeech.systems.null import Null


def test_it_says_nothing_but_an_empty_final() -> None:
    recogniser = Null()
    info = recogniser.load()
    trace = run_utterance(
        recogniser, np.ones(16_050, np.float32), Request(utterance_id="x"), chunk_s=info.chunk_s
    )
    assert trace.failure is None
    assert [(index, event.kind, event.text) for index, event in trace.events] == [(11, EventKind.FINAL, "")]
    assert info.model_bytes == 0


def test_the_harness_costs_less_than_one_per_cent_of_the_audio() -> None:
    recogniser = Null()
    info = recogniser.load()
    samples = np.zeros(10 * 16_000, np.float32)
    costs = []
    for _ in range(5):
        trace = run_utterance(recogniser, samples, Request(utterance_id="x"), chunk_s=info.chunk_s)
        costs.append(sum(chunk.compute_s for chunk in trace.chunks) / trace.duration_s)
    assert 0 < median(costs) < 0.01

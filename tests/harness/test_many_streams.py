"""The curve of many streams: its page against its records, and the clock on searches that cost nothing or too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.packed.pack import Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.settings import CHUNK_S
from harness import many_streams
from helpers_packed import tiny

CHUNK = round(CHUNK_S * SAMPLE_RATE)
CHUNKS = 10


@pytest.fixture
def model(tmp_path: Path) -> Iterator[PackedModel]:
    pack(tiny(), Layout(), tmp_path / "model.edge")
    with PackedModel(tmp_path / "model.edge") as opened:
        yield opened


def ticking(step_s: float) -> Callable[[], float]:
    """A clock to look at which takes so long."""
    ticks = count()
    return lambda: next(ticks) * step_s


def heard(model: PackedModel, streams: int, step_s: float) -> tuple[list[float], float]:
    sounds = [np.zeros(CHUNKS * CHUNK, np.float32)] * streams
    return many_streams.latencies(model, sounds, 1, ticking(step_s))


def test_the_page_shows_the_records() -> None:
    page = many_streams.PAGE.read_text(encoding="utf-8")
    assert "<!-- many streams -->" in page
    assert page == many_streams.rendered(page, many_streams.published())


def test_a_core_that_keeps_up_has_the_latency_of_its_work(model: PackedModel) -> None:
    found, busy = heard(model, 4, 0.01)  # they arrive 0.03 s after each other
    assert found == pytest.approx([0.01] * 4 * CHUNKS)
    assert busy == pytest.approx(0.4)


def test_chunks_that_arrive_meanwhile_go_together(model: PackedModel) -> None:
    found, busy = heard(model, 8, 0.05)  # they arrive 0.015 s after each other
    assert len(found) == 8 * CHUNKS
    assert busy < 0.05 * 8 * CHUNKS / 2
    assert max(found) < 0.15


def test_a_core_that_is_too_slow_falls_behind(model: PackedModel) -> None:
    found, _ = heard(model, 1, 0.2)
    # A chunk arrives every 0.12 s and takes 0.2 s: the wait grows by 0.08 s a chunk.
    assert found == pytest.approx([0.2 + 0.08 * n for n in range(CHUNKS)])


def test_the_most_streams_are_those_before_the_first_that_are_late() -> None:
    row = {"chunks": 10, "p50_s": 0.01, "max_s": 0.5, "late": 0, "busy": 0.5}
    p99 = {1: 0.01, 100: 0.05, 200: 0.13, 300: 0.11}
    record = {"chunk_s": 0.12, "rows": [{**row, "streams": n, "p99_s": s} for n, s in p99.items()]}
    assert many_streams.most(record) == 100
    assert "| 200 | 10.0 | 130.0 | 500.0 | 0 of 10 | 0.50 |" in many_streams.table(record)
    assert many_streams.told([]) == "Not measured yet.\n"

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.contracts import Event, EventKind
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.registry import Scored, measure, metrics
from edgespeech.records.trace import Chunk, Stamped, Timeline, Trace
from helpers_metrics import add_family


def scored(hypothesis: str = "large latte to go", *, failure: str | None = None) -> Scored:
    trace = Trace(utterance_id="u", duration_s=2.0, chunks=(Chunk(ready_s=2.0, compute_s=0.5),), events=())
    final = Stamped(event=Event(kind=EventKind.FINAL, text=hypothesis), t_s=2.5, chunk=0)
    timeline = Timeline(
        trace=trace, network="test", events=(final,), up_bytes=100, down_bytes=20, failure=failure
    )
    return Scored(
        duration_s=2.0, reference="large latte to go", hypothesis=hypothesis, eos_s=1.5, timeline=timeline
    )


def test_the_families_are_found() -> None:
    found = metrics()
    assert {
        "wer",
        "u_wer",
        "b_wer",
        "rtf",
        "upl_p50",
        "invented_wpm",
        "up_bytes",
        "available",
    } <= found.keys()
    assert all(name == metric.id and metric.unit and metric.definition for name, metric in found.items())
    assert not found["rtf"].network
    assert found["upl_p50"].network


def test_a_new_metric_is_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "long_words" not in metrics()
    add_family(monkeypatch, tmp_path, "long_words_family", id_="long_words")
    assert metrics()["long_words"].definition == "words that are long"
    assert measure([scored()] * 2, seed=0)["long_words"].value == 0.5


def test_an_id_is_taken_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_family(monkeypatch, tmp_path, "second_wer_family", id_="wer")
    with pytest.raises(EdgeSpeechError, match="'wer', expected an id that no other metric has"):
        metrics()


def test_words_do_not_depend_on_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_family(monkeypatch, tmp_path, "both_family", id_="both", extra="words=True, network=True")
    with pytest.raises(EdgeSpeechError, match="both is 'words and network', expected at most one of the two"):
        metrics()


def test_a_figure_must_be_declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_family(monkeypatch, tmp_path, "undeclared_family", id_="long_words", suffix="_too")
    with pytest.raises(EdgeSpeechError, match="long_words_too"):
        measure([scored()] * 2, seed=0)


def test_only_what_is_wanted() -> None:
    both = [scored(), scored("", failure="no result over lte")]
    figures = measure(both, seed=0, wanted=lambda metric: metric.network)
    assert {"up_bytes", "down_bytes", "available", "upl_p50"} <= figures.keys()
    assert not {"wer", "rtf"} & figures.keys()
    assert measure(both, seed=0, wanted=lambda metric: metric.id == "wer").keys() == {"wer"}


def test_traffic_and_availability() -> None:
    figures = measure([scored(), scored("", failure="no result over lte")], seed=0)
    assert (figures["up_bytes"].value, figures["down_bytes"].value) == (100.0, 20.0)
    assert figures["available"].value == 0.5
    assert figures["wer"].value == 0.5
    assert "up_bytes" not in measure([Scored(duration_s=1.0, reference="a", hypothesis="a")], seed=0)


def test_nothing_ran() -> None:
    assert measure([], seed=0) == {}

"""PocketSphinx behind the contract: streaming partials, word times, and no memory of earlier utterances."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from edgespeech.contracts import EventKind, Request, Samples
from edgespeech.core.places import mirror_root, project_root
from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.runner import run_utterance
from edgespeech.records.trace import Trace
from edgespeech.systems import pocketsphinx
from edgespeech.systems.pocketsphinx import PocketSphinx

CHUNK_S = 0.1


@pytest.fixture(scope="module")
def recogniser() -> Iterator[PocketSphinx]:
    made = PocketSphinx()
    if reason := made.missing():
        pytest.skip(reason)
    made.load()
    yield made
    made.close()


@pytest.fixture(scope="module")
def speech() -> Samples:
    """A short utterance of the shipped corpus, or of the mirror."""
    from edgespeech.audio.io import read_audio

    mirror = mirror_root()
    for folder in (project_root() / "data_manifests/assistant_mini", mirror / "an4" if mirror else None):
        for path in sorted(folder.glob("*.jsonl")) if folder is not None else ():
            manifest = load_manifest(path)
            shortest = min(manifest.utterances, key=lambda line: line.duration)
            return read_audio(manifest.audio_path(shortest))
    pytest.skip("no speech here: neither the shipped corpus nor the mirror")


def run(recogniser: PocketSphinx, samples: Samples) -> Trace:
    trace = run_utterance(recogniser, samples, Request(utterance_id="x"), chunk_s=CHUNK_S)
    assert trace.failure is None
    return trace


def test_speech_gives_partials_while_it_lasts_and_a_final(recogniser: PocketSphinx, speech: Samples) -> None:
    trace = run(recogniser, speech)
    partials = [(index, event) for index, event in trace.events if event.kind is EventKind.PARTIAL]
    final = trace.events[-1][1]
    assert final.kind is EventKind.FINAL
    assert final.text
    assert partials[0][0] < len(trace.chunks) - 1
    assert all(before[1].text != after[1].text for before, after in pairwise(partials))


def test_words_are_the_text_in_order_and_inside_the_audio(recogniser: PocketSphinx, speech: Samples) -> None:
    trace = run(recogniser, speech)
    for _, event in trace.events:
        assert " ".join(word.text for word in event.words) == event.text
        times = [time for word in event.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert all(0 <= time <= trace.duration_s + 0.03 for time in times)


def test_silence_gives_no_words(recogniser: PocketSphinx) -> None:
    trace = run(recogniser, np.zeros(16_000, np.float32))
    assert trace.events[-1][1].text == ""
    assert trace.events[-1][1].words == ()


def test_earlier_utterances_change_nothing(recogniser: PocketSphinx, speech: Samples) -> None:
    fresh = PocketSphinx()
    fresh.load()
    expected = run(fresh, speech).events
    fresh.close()
    noise = (0.2 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    run(recogniser, noise)
    assert run(recogniser, speech).events == expected


def test_too_loud_audio_is_clipped_not_wrapped(recogniser: PocketSphinx, speech: Samples) -> None:
    loud = (speech / np.abs(speech).max() * 4).astype(np.float32)
    clipped = np.clip(loud, -1.0, 1.0).astype(np.float32)
    assert run(recogniser, loud).events == run(recogniser, clipped).events


def test_decoders_are_reused(recogniser: PocketSphinx) -> None:
    streams = [recogniser.open(Request(utterance_id="x")) for _ in range(2)]
    for stream in streams:
        stream.close()
        stream.close()
    assert len(recogniser._idle) == 2
    run(recogniser, np.zeros(800, np.float32))
    assert len(recogniser._idle) == 2


def test_only_english() -> None:
    recogniser = PocketSphinx()
    if reason := recogniser.missing():
        pytest.skip(reason)
    with pytest.raises(EdgeSpeechError, match="pocketsphinx: not loaded"):
        recogniser.open(Request(utterance_id="x"))
    recogniser.load()
    with pytest.raises(EdgeSpeechError, match="pocketsphinx: language is 'fr', expected en"):
        recogniser.open(Request(utterance_id="x", language="fr"))


def test_missing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocketsphinx, "weights_available", lambda _: "no weights")
    assert PocketSphinx().missing() == "no weights"
    monkeypatch.setattr(pocketsphinx, "find_spec", lambda _: None)
    assert PocketSphinx().missing() == "package pocketsphinx is not installed"

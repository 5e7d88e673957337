"""From utterances to word errors: recognisers, functions, what stands beside, failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE, Event, Request, Samples, Stream
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.utterances import Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.hear import hear
from edgespeech.harness.score import score
from edgespeech.harness.workers import Done, Loaded, Run
from edgespeech.metrics.word_errors import POOLED
from edgespeech.search.settings import GREEDY
from scripted import Scripted, ScriptedStream

TEXTS = ("Turn on the light.", "play music", "stop")


@pytest.fixture
def utterances(tmp_path: Path) -> Utterances:
    """Three utterances of 0.1, 0.2 and 0.3 s."""
    items = []
    for n, text in enumerate(TEXTS):
        samples = np.full((n + 1) * SAMPLE_RATE // 10, 0.1, np.float32)
        write_audio(tmp_path / f"{n}.flac", samples)
        items.append(Utterance(id=str(n), audio_filepath=f"{n}.flac", duration=0.1 * (n + 1), text=text))
    write_manifest(tmp_path / "toy.jsonl", items)
    return utterances_of({str(tmp_path / "toy.jsonl"): "basic"}, seed=0)


def by_length(samples: Samples) -> tuple[str, int]:
    number = round(10 * len(samples) / SAMPLE_RATE)
    return ("turn of the light", "play music", "")[number - 1], number


@pytest.mark.parametrize("threads", [1, 3])
def test_a_function_gets_the_samples_and_may_return_more(utterances: Utterances, threads: int) -> None:
    heard = hear(by_length, utterances, settings=GREEDY, threads=threads)
    assert heard.texts == ("turn of the light", "play music", "")
    assert heard.beside == (1, 2, 3)
    assert heard.errors == [1, 0, 1]
    row = heard.rate()
    assert (row["wer"], row["n"], row["settings"]) == (2 / 7, 3, "greedy search, no language model")
    assert row["low"] <= row["wer"] <= row["high"]


def test_what_was_prepared_is_given_in_place_of_samples(utterances: Utterances) -> None:
    heard = hear(str.upper, utterances, given=TEXTS)
    assert heard.errors == [0, 0, 0]
    assert heard.beside == (None, None, None)
    assert heard.rate()["settings"] == "as it ships"
    with pytest.raises(EdgeSpeechError, match="given is 2, expected as many as utterances, 3"):
        hear(str.upper, utterances, given=TEXTS[:2])


def test_two_are_compared_on_the_same_utterances(utterances: Utterances, tmp_path: Path) -> None:
    worse, better = (hear(recognise, utterances) for recognise in (by_length, lambda _: "play music"))
    found = worse.compare(better)
    assert found.difference == pytest.approx((2 - 4 - 0 - 2) / 7)
    assert found.n == 3
    assert worse.compare(worse, POOLED).verdict == "tie"
    fewer = utterances_of({str(tmp_path / "toy.jsonl"): "basic"}, seed=0, count=2)
    with pytest.raises(EdgeSpeechError, match="the same 3"):
        worse.compare(hear(by_length, fewer))


class Third(Scripted):
    """Raises on every third utterance."""

    number = 0

    def open(self, request: Request) -> Stream:
        self.number += 1
        if self.number == 3:
            raise EdgeSpeechError("out of luck")
        return ScriptedStream(self)


def test_hear_and_evaluate_agree_on_a_recogniser(utterances: Utterances) -> None:
    """Same texts, same errors; a failure counts as deletions in both."""
    recogniser = Third(final="play music")
    heard = hear(recogniser, utterances)
    assert heard.texts == ("play music", "play music", "")
    assert heard.failed == {2: "raised: out of luck"}
    assert heard.settings == "as it ships"

    from edgespeech.cloud.link import load_profiles
    from edgespeech.harness.runner import run_utterance

    again = Third(final="play music")
    info = again.load()
    done = [
        Done(trace=run_utterance(again, one.samples(), Request(utterance_id=one.id), chunk_s=info.chunk_s))
        for one in utterances
    ]
    scored = score(
        [one.item for one in utterances],
        Run(loaded=Loaded(info=info, load_s=0.0, warmup_s=0.0), done=done, memory=None),
        {"loopback": load_profiles()["loopback"]},
        seed=0,
        cloud_speedup=1.0,
        grammar=None,
    )
    row, figure = heard.rate(), scored.accuracy["basic"].wer
    assert (row["wer"], row["low"], row["high"]) == (figure.value, figure.low, figure.high)
    assert [one.hyp_raw for one in scored.rows] == list(heard.texts)


def test_the_text_is_that_of_the_last_final(utterances: Utterances) -> None:
    class Twice(Scripted):
        def open(self, request: Request) -> Stream:
            return _Twice()

    class _Twice(Stream):
        def accept(self, samples: Samples) -> Sequence[Event]:
            return (_final("first"),)

        def finish(self) -> Sequence[Event]:
            return (_final("last"),)

    assert set(hear(Twice(), utterances).texts) == {"last"}


def _final(text: str) -> Event:
    from edgespeech.contracts import EventKind

    return Event(kind=EventKind.FINAL, text=text)

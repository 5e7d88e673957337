"""A torch stream with a list of phrases attends to it: as the whole utterance does, and in no other stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from edgespeech.audio.features import log_mel
from edgespeech.biasing.phrases import PhraseBias
from edgespeech.contracts import EventKind, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained
from edgespeech.model.contextual import ContextualTransducer, attending
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.partials import TAIL_S
from edgespeech.search.streaming import TransducerStream
from helpers_biasing import attentive
from helpers_packed import tiny, tokeniser

SAMPLES: Samples = (0.1 * np.random.default_rng(0).standard_normal(12_000)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Trained:
    found = attentive()
    features = torch.from_numpy(log_mel(SAMPLES))
    found.model.transcriber.set_statistics(features.mean(0), features.std(0))
    return found


PHRASES = ("the light", "music", "plays")


def attention_alone(phrases: Sequence[str]) -> PhraseBias | None:
    return PhraseBias(tokeniser().pieces, phrases, boost=0.0) if phrases else None


def final(stream: TransducerStream, chunk: int = 1920) -> str:
    for at in range(0, len(SAMPLES), chunk):
        stream.accept(SAMPLES[at : at + chunk])
    return next(event.text for event in stream.finish() if event.kind is EventKind.FINAL)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_stream_with_a_list_gives_what_the_whole_gives(trained: Trained, beam: int) -> None:
    padded = np.concatenate([SAMPLES, np.zeros(round(TAIL_S * 16_000), np.float32)])
    x = torch.from_numpy(log_mel(padded))[None]
    texts = {}
    for name, phrases in (("without", ()), ("with", PHRASES)):
        model = ContextualTransducer(trained.model, [trained.tokeniser.encode(phrase) for phrase in phrases])
        decoder = GreedyDecoder(model) if beam == 1 else BeamDecoder(model, beam)
        decoder.accept(model.transcribe(x, torch.tensor([x.shape[1]]))[0][0])
        texts[name] = trained.tokeniser.decode(decoder.best.labels)
        assert (
            final(TransducerStream(trained, beam, bias=attention_alone(phrases))).split()
            == texts[name].split()
        )
    assert texts["without"] != texts["with"]


def test_a_list_changes_no_other_stream(trained: Trained) -> None:
    alone = final(TransducerStream(trained))
    streams = [TransducerStream(trained, bias=attention_alone(PHRASES)), TransducerStream(trained)]
    for at in range(0, len(SAMPLES), 1920):
        for stream in streams:
            stream.accept(SAMPLES[at : at + 1920])
    texts = [stream.finish()[-1].text for stream in streams]
    assert texts[1] == alone != texts[0]


def test_the_list_counts_as_state(trained: Trained) -> None:
    with_list, without = TransducerStream(trained, bias=attention_alone(PHRASES)), TransducerStream(trained)
    entries = len(PHRASES) + 1
    assert with_list.state_bytes() - without.state_bytes() == 2 * 2 * entries * 24 * 4


def test_a_model_without_attention_is_used_as_it_is() -> None:
    model = tiny()
    assert attending(model, attention_alone(PHRASES)) is model
    listening = attentive()
    assert attending(listening, None) is listening


def test_more_phrases_than_attention_takes_are_refused(trained: Trained) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    many = [one + two + three for one in letters for two in letters for three in letters[:7]]
    with pytest.raises(EdgeSpeechError, match="phrases is 4732, expected at most 4096"):
        TransducerStream(trained, bias=attention_alone(many))


def test_the_device_of_a_hybrid_attends_too(trained: Trained) -> None:
    """Its encoder and its search both have the list."""
    listed = attending(trained, attention_alone(PHRASES))
    x = torch.from_numpy(log_mel(SAMPLES))[None]
    lengths = torch.tensor([x.shape[1]])
    assert not torch.equal(listed.model.transcribe(x, lengths)[0], trained.model.transcribe(x, lengths)[0])
    assert not torch.equal(listed.model.start(1)[0], trained.model.start(1)[0])

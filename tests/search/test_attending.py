"""A torch stream with a list of phrases attends to it: as the whole utterance does, and in no other stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgespeech.audio.features import log_mel
from edgespeech.contracts import EventKind, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained
from edgespeech.model.contextual import ContextualTransducer
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.partials import TAIL_S
from edgespeech.search.streaming import TransducerStream
from helpers_biasing import PHRASES, attentive
from helpers_packed import tiny

SAMPLES: Samples = (0.1 * np.random.default_rng(0).standard_normal(12_000)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Trained:
    found = attentive()
    features = torch.from_numpy(log_mel(SAMPLES))
    found.model.transcriber.set_statistics(features.mean(0), features.std(0))
    return found


def final(stream: TransducerStream, chunk: int = 1920) -> str:
    for at in range(0, len(SAMPLES), chunk):
        stream.accept(SAMPLES[at : at + chunk])
    return next(event.text for event in stream.finish() if event.kind is EventKind.FINAL)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_stream_with_a_list_gives_what_the_whole_gives(trained: Trained, beam: int) -> None:
    padded = np.concatenate([SAMPLES, np.zeros(round(TAIL_S * 16_000), np.float32)])
    x = torch.from_numpy(log_mel(padded))[None]
    texts = {}
    for name, phrases in (("without", []), ("with", PHRASES)):
        model = ContextualTransducer(trained.model, phrases)
        decoder = GreedyDecoder(model) if beam == 1 else BeamDecoder(model, beam)
        decoder.accept(model.transcribe(x, torch.tensor([x.shape[1]]))[0][0])
        texts[name] = trained.tokeniser.decode(decoder.best.labels)
        assert final(TransducerStream(trained, beam, attend=phrases)).split() == texts[name].split()
    assert texts["without"] != texts["with"]


def test_a_list_changes_no_other_stream(trained: Trained) -> None:
    alone = final(TransducerStream(trained))
    streams = [TransducerStream(trained, attend=PHRASES), TransducerStream(trained)]
    for at in range(0, len(SAMPLES), 1920):
        for stream in streams:
            stream.accept(SAMPLES[at : at + 1920])
    texts = [stream.finish()[-1].text for stream in streams]
    assert texts[1] == alone != texts[0]


def test_the_list_counts_as_state(trained: Trained) -> None:
    with_list, without = TransducerStream(trained, attend=PHRASES), TransducerStream(trained)
    entries = len(PHRASES) + 1
    assert with_list.state_bytes() - without.state_bytes() == 2 * 2 * entries * 24 * 4


def test_a_model_without_attention_refuses_a_list() -> None:
    with pytest.raises(EdgeSpeechError, match="without attention"):
        TransducerStream(tiny(), attend=PHRASES)

"""Streaming equals offline, and nothing said at the very end is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from edgespeech.audio.features import log_mel
from edgespeech.contracts import EventKind, Samples
from edgespeech.core.labels import BLANK
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import ModelConfig, PredictorKind
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.partials import TAIL_S
from edgespeech.search.streaming import StreamingTranscriber, TransducerStream

KINDS: tuple[PredictorKind, ...] = ("stateless", "lstm")
TOKENISER = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)


def model_of(kind: PredictorKind = "stateless") -> Transducer:
    """A random model for features like those of `speech`, which says something now and then."""
    torch.manual_seed(1)
    config = ModelConfig(vocabulary=40, layers=2, hidden=16, joiner=16, predictor=kind, context=2)
    model = Transducer(config).eval().requires_grad_(False)
    features = torch.from_numpy(log_mel(speech(16_000)))
    model.transcriber.set_statistics(features.mean(0), features.std(0))
    model.joiner.weight *= 20
    model.joiner.bias[BLANK] += 16
    return model


def speech(n_samples: int) -> Samples:
    """Harmonics in syllables over noise."""
    t = np.arange(n_samples) / 16_000
    wave = sum(np.sin(2 * np.pi * 120 * k * t + k) / k for k in range(1, 20)) * np.clip(
        np.sin(2 * np.pi * 4 * t), 0, None
    )
    noise = np.random.default_rng(0).standard_normal(n_samples)
    samples: Samples = (0.1 * wave + 0.01 * noise).astype(np.float32)
    return samples


def transcription(model: Transducer, samples: Samples, chunk: int) -> Tensor:
    transcriber = StreamingTranscriber(model)
    pieces = [transcriber.accept(samples[at : at + chunk]) for at in range(0, len(samples), chunk)]
    return torch.cat([*pieces, transcriber.finish()])


def decoded(model: Transducer, encoded: Tensor, beam: int) -> Hypothesis:
    decoder = GreedyDecoder(model) if beam == 1 else BeamDecoder(model, beam)
    decoder.accept(encoded)
    return decoder.best


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 159, 640, 1920, 7001])
def test_streaming_equals_offline(kind: PredictorKind, chunk: int) -> None:
    model, samples = model_of(kind), speech(9_000)
    offline = transcription(model, samples, len(samples))
    streamed = transcription(model, samples, chunk)
    torch.testing.assert_close(streamed, offline, rtol=0, atol=1e-5)
    for beam in (1, 3):
        expected, found = decoded(model, offline, beam), decoded(model, streamed, beam)
        assert 0 < len(expected.labels) < 2 * len(offline)
        assert (found.labels, found.frames) == (expected.labels, expected.frames)
        assert found.score == pytest.approx(expected.score, abs=1e-3)


def test_it_transcribes_the_features_of_the_audio_and_the_tail() -> None:
    model, samples = model_of(), speech(5_000)
    padded = np.concatenate([samples, np.zeros(round(TAIL_S * 16_000), np.float32)])
    features = torch.from_numpy(log_mel(padded))[None]
    expected, _, _ = model.transcribe(features, torch.tensor([features.shape[1]]))
    torch.testing.assert_close(transcription(model, samples, 5_000), expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_samples", range(3_000, 3_640, 80))
def test_the_last_samples_are_decoded(n_samples: int) -> None:
    model, samples = model_of(), speech(n_samples)
    other = samples.copy()
    other[-16:] += 0.5
    there, instead = transcription(model, samples, 640), transcription(model, other, 640)
    assert there.shape == instead.shape
    assert len(there) * 640 >= n_samples
    assert not torch.allclose(there, instead, atol=1e-4)


def test_no_audio_is_no_trouble() -> None:
    transcriber = StreamingTranscriber(model_of())
    assert transcriber.accept(np.zeros(0, np.float32)).shape == (0, 16)
    assert transcriber.finish().shape[1] == 16


@pytest.mark.parametrize("beam", [1, 3])
def test_a_stream_says_what_is_new_and_then_the_whole(beam: int) -> None:
    trained, samples = Trained(model_of("lstm"), TOKENISER, {}), speech(16_000)
    stream = TransducerStream(trained, beam)
    said = [stream.accept(samples[at : at + 1920]) for at in range(0, len(samples), 1920)]
    (final,) = stream.finish()
    partials = [event for events in said for event in events]
    assert len(said) > len(partials) > 1
    assert {event.kind for event in partials} == {EventKind.PARTIAL}
    assert all(before.text != after.text for before, after in pairwise(partials))
    assert final.kind is EventKind.FINAL
    assert final.text == " ".join(word.text for word in final.words)
    offline = decoded(trained.model, transcription(trained.model, samples, 16_000), beam)
    assert final.text.split() == TOKENISER.decode(offline.labels).split()
    for event in (*partials, final):
        times = [time for word in event.words for time in (word.start_s, word.end_s)]
        assert all(0 <= time <= 1 for time in times)
        assert times == sorted(times)


def test_a_streams_state_is_counted_and_does_not_grow() -> None:
    stream = TransducerStream(Trained(model_of(), TOKENISER, {}))
    sizes = []
    for at in range(0, 16_000, 640):
        stream.accept(speech(16_000)[at : at + 640])
        sizes.append(stream.state_bytes())
    transcriber = 2 * 2 * 16 * 4
    predictor = 16 * 4 + 2 * 8
    assert all(transcriber + predictor <= size < transcriber + predictor + 4 * 320 for size in sizes[1:])

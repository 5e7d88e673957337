"""Lead-ins: heard before the utterance, never transcribed, alike in torch and in the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.audio.features import log_mel
from edgespeech.contracts import Event, LeadIn, Recogniser, Request, Samples
from edgespeech.core.places import MODEL_VARIABLE as FOLDER_VARIABLE
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.model.checkpoint import Trained, save_model
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.partials import TAIL_S
from edgespeech.search.streaming import StreamingTranscriber
from edgespeech.systems.edge_packed import MODEL_VARIABLE
from helpers_packed import features, tiny

LEAD = 9_001
"""Samples of the lead-in: 14 transcriber frames and a rest."""


def noise(length: int, seed: int) -> Samples:
    found: Samples = (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)
    return found


LEADS = [noise(LEAD, 1), np.float32(0.001) * noise(LEAD, 1)]
"""A loud one and a faint one, of which the model says different things."""


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A model whose state matters: its first words after a lead-in are others than without."""
    return tiny()


@pytest.fixture
def machine(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    pack(trained, Layout(matrices=Encoding(bits=32)), tmp_path / "model.edge")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "model"))
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model.edge"))


@pytest.fixture(params=["edge-fp32-greedy", "edge-packed-greedy"])
def recogniser(request: pytest.FixtureRequest, machine: None) -> Iterator[Recogniser]:
    del machine
    found = find_recogniser(request.param, final_s=None)
    found.load()
    yield found
    found.close()


def request(lead_in: Samples | None) -> Request:
    return Request(utterance_id="u7", lead_in=None if lead_in is None else LeadIn(lead_in))


def final(recogniser: Recogniser, samples: Samples, lead_in: Samples | None, chunk_s: float = 0.12) -> Event:
    trace = run_utterance(recogniser, samples, request(lead_in), chunk_s=chunk_s)
    assert trace.failure is None
    return trace.events[-1][1]


def expected(trained: Trained, lead_in: Samples | None, samples: Samples) -> Hypothesis:
    """The lead-in's whole frames and the utterance's through the network at once; a search behind the former."""
    padded = np.concatenate([samples, np.zeros(round(TAIL_S * 16_000), np.float32)])
    before = np.empty((0, 80), np.float32) if lead_in is None else log_mel(lead_in)
    before = before[: len(before) - len(before) % 4]
    both = torch.from_numpy(np.concatenate([before, log_mel(padded)]))[None]
    encoded, _, _ = trained.model.transcribe(both, torch.tensor([both.shape[1]]))
    decoder = GreedyDecoder(trained.model)
    decoder.accept(encoded[0, len(before) // 4 :])
    return decoder.best


@pytest.mark.parametrize("chunk_s", [0.01, 0.12, 0.7])
def test_streaming_equals_offline_behind_a_lead_in(
    recogniser: Recogniser, trained: Trained, chunk_s: float
) -> None:
    lead_in, samples = noise(LEAD, 1), noise(24_123, 2)
    told = final(recogniser, samples, lead_in, chunk_s)
    pieces = trained.tokeniser.decode(expected(trained, lead_in, samples).labels)
    assert told.text.split() == pieces.split()
    assert told.text


def test_the_state_is_carried_and_nothing_else(recogniser: Recogniser) -> None:
    samples = noise(24_123, 2)
    alone = final(recogniser, samples, None)
    behind = [final(recogniser, samples, lead_in) for lead_in in LEADS]
    assert len({told.text for told in (alone, *behind)}) == 3, "each lead-in leaves a state of its own"
    assert final(recogniser, samples, None) == alone, "a lead-in changes no other stream"
    assert final(recogniser, samples, noise(300, 1)) == alone, "shorter than a frame"
    assert all(0 <= word.start_s <= word.end_s <= 24_123 / 16_000 for told in behind for word in told.words)


def test_streams_beside_each_other_keep_their_own_lead_ins(recogniser: Recogniser) -> None:
    samples = noise(9_600, 2)
    streams = [recogniser.open(request(lead_in)) for lead_in in LEADS]
    for at in range(0, 9_600, 1_920):
        for stream in streams:
            stream.accept(samples[at : at + 1_920])
    found = [stream.finish()[-1] for stream in streams]
    assert found == [final(recogniser, samples, lead_in) for lead_in in LEADS]


@pytest.mark.parametrize(
    ("lead_in", "message"),
    [
        (LeadIn(noise(100, 0), rate=8_000), "lead-in of u7: rate is 8000, expected 16000 Hz"),
        (LeadIn(noise(0, 0)), "lead-in of u7: seconds is 0.0, expected above 0"),
        (LeadIn(noise(61 * 16_000, 0)), "lead-in of u7: seconds is 61.0, expected above 0, at most 60"),
        (LeadIn(np.full(100, np.nan, np.float32)), "lead-in of u7: samples is 'NaN or infinity'"),
        (
            LeadIn(noise(100, 0)[None]),
            r"lead-in of u7: samples is 'float32 \(1, 100\)', expected float32 \(N,\)",
        ),
    ],
)
def test_what_is_no_lead_in_is_refused(recogniser: Recogniser, lead_in: LeadIn, message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        recogniser.open(replace(request(None), lead_in=lead_in))


@pytest.mark.usefixtures("machine")
def test_a_recogniser_without_lead_ins_refuses_them() -> None:
    assert find_recogniser("edge-packed").takes_lead_in
    assert not find_recogniser("edge-packed-vad").takes_lead_in
    hybrid = find_recogniser("hybrid")
    assert not hybrid.takes_lead_in


def test_the_engine_takes_a_lead_in_first_and_once(trained: Trained, tmp_path: Path) -> None:
    pack(trained, Layout(matrices=Encoding(bits=32)), tmp_path / "model.edge")
    heard = features(83)
    with PackedModel(tmp_path / "model.edge") as model:
        with closing(model.open(3)) as own, closing(model.open(3)) as given:
            own.lead_in(heard[:42])  # 10 stacks and a rest
            for at in range(42, 83, 5):
                own.accept(heard[at : at + 5])
            given.accept_encoded(model.transcribe(np.concatenate([heard[:40], heard[42:]]))[10:])
            assert own.best == given.best
            with pytest.raises(EdgeSpeechError, match="lead-in behind the first frames"):
                own.lead_in(heard)
        for wrong in (heard[:, :79], np.full((4, 80), np.inf, np.float32)):
            with closing(model.open()) as stream, pytest.raises(EdgeSpeechError, match="lead-in: features"):
                stream.lead_in(wrong)


def test_frames_of_a_lead_in_are_not_returned(trained: Trained) -> None:
    samples = noise(9_600, 2)
    counts = set()
    for lead_in in (None, noise(LEAD, 1)):
        transcriber = StreamingTranscriber(trained.model, lead_in)
        counts.add(len(transcriber.accept(samples)) + len(transcriber.finish()))
    assert len(counts) == 1

"""What every recogniser must keep to: ours and any that joins through the entry-point group."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    RemoteTrace,
    Request,
    Samples,
    Stream,
    SystemInfo,
)
from edgespeech.core.places import project_root
from edgespeech.harness.discovery import recognisers

PADDING_S = 0.1  # a codec or a feature window may fill up its last frame
HYPOTHESES = {EventKind.PARTIAL, EventKind.SPECULATIVE, EventKind.FINAL}


def voiced(seconds: float, pitch_hz: float, seed: int) -> Samples:
    """Something like a vowel: harmonics under two moving resonances, in syllables, over faint noise."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(seed)
    resonances_hz = (500 + 250 * np.sin(2 * np.pi * 1.3 * t), 1500 + 500 * np.sin(2 * np.pi * 0.7 * t))
    wave = np.zeros_like(t)
    for harmonic in range(1, 25):
        level = sum(np.exp(-(((harmonic * pitch_hz - centre) / 250) ** 2)) for centre in resonances_hz)
        wave += level * np.sin(2 * np.pi * harmonic * pitch_hz * t)
    wave *= np.clip(np.sin(2 * np.pi * 3 * t), 0, None)
    wave = 0.3 * wave / np.abs(wave).max() + 1e-3 * rng.standard_normal(len(t))
    samples: Samples = wave.astype(np.float32)
    return samples


FIRST = voiced(1.0, 110.0, seed=1)
SECOND = voiced(0.83, 190.0, seed=2)
REQUEST = Request(utterance_id="contract")


@dataclasses.dataclass(frozen=True)
class Loaded:
    recogniser: Recogniser
    info: SystemInfo


@dataclasses.dataclass(frozen=True)
class Said:
    """One stream's whole output; times that a far side measured are left out."""

    events: tuple[Event, ...]
    remote: RemoteTrace | None

    @property
    def hypotheses(self) -> list[list[Event]]:
        """The hypotheses of the near side, and those of the far side, each in order."""
        far = [] if self.remote is None else [reply.event for reply in self.remote.replies]
        return [[event for event in side if event.kind in HYPOTHESES] for side in (list(self.events), far)]

    @property
    def results(self) -> list[Event]:
        """The last final of each side that has one."""
        finals = [[event for event in side if event.kind is EventKind.FINAL] for side in self.hypotheses]
        return [side[-1] for side in finals if side]

    def comparable(self) -> tuple[object, ...]:
        """What was said, without what it cost."""
        replies = () if self.remote is None else self.remote.replies
        return (self.events, tuple(dataclasses.replace(reply, compute_s=None) for reply in replies))


def pieces(samples: Samples, chunk_s: float) -> list[Samples]:
    step = round(chunk_s * SAMPLE_RATE)
    return [samples[start : start + step] for start in range(0, len(samples), step)]


def finish(stream: Stream, said: list[Event]) -> Said:
    said += stream.finish()
    remote = stream.remote()
    stream.close()
    return Said(events=tuple(said), remote=remote)


def run(loaded: Loaded, samples: Samples, request: Request = REQUEST) -> Said:
    stream = loaded.recogniser.open(request)
    said: list[Event] = []
    for piece in pieces(samples, loaded.info.chunk_s):
        said += stream.accept(piece)
    return finish(stream, said)


@pytest.fixture(scope="module", params=sorted(recognisers()))
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    recogniser = recognisers()[request.param]()
    if reason := recogniser.missing():
        pytest.skip(reason)
    info = recogniser.load()
    yield Loaded(recogniser, info)
    recogniser.close()


@pytest.fixture(scope="module")
def first(loaded: Loaded) -> Said:
    """The first signal's output, before anything else was heard."""
    return run(loaded, FIRST)


@pytest.mark.parametrize("name", sorted(recognisers()))
def test_it_says_what_it_is_before_loading(name: str) -> None:
    factory = recognisers()[name]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", factory.name)
    assert isinstance(factory.kind, Kind)
    assert factory.summary.strip()
    assert "\n" not in factory.summary
    recogniser = factory()
    assert recogniser.missing() is None or recogniser.missing()
    with pytest.raises(TypeError):
        factory(no_such_option=1)  # type: ignore[call-arg]  # that is the point


def test_load_describes_the_system(loaded: Loaded) -> None:
    info = loaded.info
    assert isinstance(info, SystemInfo)
    assert info.name == loaded.recogniser.name
    assert info.kind is loaded.recogniser.kind
    assert info.chunk_s > 0
    assert info.model_bytes >= 0
    assert info.parameters is None or info.parameters >= 0
    assert info.citation
    assert bool(info.model_sha256) == (info.model_bytes > 0), "model bytes and file hashes come together"
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha) for sha in info.model_sha256.values())
    assert all(isinstance(note, str) and note for note in info.notes)


def test_the_description_goes_into_a_record(loaded: Loaded) -> None:
    text = json.dumps(dataclasses.asdict(loaded.info), allow_nan=False)
    assert json.loads(text)["name"] == loaded.info.name
    assert str(project_root()) not in text
    assert str(Path.home()) + "/" not in text


def test_a_stream_ends_with_its_result(first: Said) -> None:
    assert first.results, "never finalised"
    for side in first.hypotheses:
        if any(event.kind is EventKind.FINAL for event in side):
            assert side[-1].kind is EventKind.FINAL, "said something else after its final"


def test_events_are_well_formed(loaded: Loaded, first: Said) -> None:
    sent = [event for event in first.events if event.kind is EventKind.SENT]
    for event in [*first.events, *(event for side in first.hypotheses for event in side)]:
        assert isinstance(event, Event)
        assert isinstance(event.kind, EventKind)
        assert isinstance(event.text, str)
        assert event.n_bytes >= 0
        assert event.audio_s is None or 0 <= event.audio_s <= 1.0 + PADDING_S
        for word in event.words:
            assert 0 <= word.start_s <= word.end_s <= 1.0 + PADDING_S
    assert all(event.n_bytes > 0 for event in sent)
    assert bool(sent) == (loaded.info.kind is Kind.CLOUD) or loaded.info.kind is Kind.HYBRID
    if first.remote is not None:
        assert len(first.remote.compute_s) == len(sent)
        assert all(0 <= reply.after_message < len(sent) for reply in first.remote.replies)
        assert all(reply.n_bytes > 0 for reply in first.remote.replies)
        assert min(first.remote.compute_s) >= 0


def test_two_concurrent_streams_give_what_two_serial_ones_give(loaded: Loaded, first: Said) -> None:
    second = run(loaded, SECOND)
    streams = [loaded.recogniser.open(REQUEST) for _ in range(2)]
    said: list[list[Event]] = [[], []]
    queues = [pieces(FIRST, loaded.info.chunk_s), pieces(SECOND, loaded.info.chunk_s)]
    for step in range(max(map(len, queues))):
        for which in (0, 1):
            if step < len(queues[which]):
                said[which] += streams[which].accept(queues[which][step])
    both = [finish(streams[which], said[which]) for which in (0, 1)]
    assert both[0].comparable() == first.comparable()
    assert both[1].comparable() == second.comparable()


def test_an_abandoned_stream_leaves_no_trace(loaded: Loaded, first: Said) -> None:
    stream = loaded.recogniser.open(REQUEST)
    for piece in pieces(SECOND, loaded.info.chunk_s)[:4]:
        stream.accept(piece)
    stream.close()
    stream.close()
    assert run(loaded, FIRST).comparable() == first.comparable()


@pytest.mark.parametrize("n_samples", [0, 1])
def test_hardly_any_audio_still_gives_a_result(loaded: Loaded, n_samples: int) -> None:
    results = run(loaded, FIRST[:n_samples]).results
    assert results
    assert all(isinstance(result.text, str) for result in results)


def test_the_audio_is_left_as_it_was(loaded: Loaded) -> None:
    stream = loaded.recogniser.open(REQUEST)
    buffer = np.empty(round(loaded.info.chunk_s * SAMPLE_RATE), dtype=np.float32)
    for piece in pieces(FIRST, loaded.info.chunk_s)[:3]:
        buffer[: len(piece)] = piece
        stream.accept(buffer[: len(piece)])
        assert np.array_equal(buffer[: len(piece)], piece)
    stream.close()


def test_a_callers_buffer_may_be_reused(loaded: Loaded, first: Said) -> None:
    stream = loaded.recogniser.open(REQUEST)
    buffer = np.empty(round(loaded.info.chunk_s * SAMPLE_RATE), dtype=np.float32)
    said: list[Event] = []
    for piece in pieces(FIRST, loaded.info.chunk_s):
        buffer[: len(piece)] = piece
        said += stream.accept(buffer[: len(piece)])
        buffer[:] = 0
    assert finish(stream, said).comparable() == first.comparable()


def test_context_and_state_are_accepted(loaded: Loaded) -> None:
    request = Request(utterance_id="contract-context", context=("flat white", "two sugars"), seed=7)
    stream = loaded.recogniser.open(request)
    stream.accept(SECOND[:1600])
    state = stream.state_bytes()
    assert state is None or state >= 0
    stream.close()

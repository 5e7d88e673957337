"""Streams of a pool against the same streams alone, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.pool import MOST_TOGETHER, PooledStream, StreamPool
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import Hypothesis
from helpers_packed import prune, tiny

CHUNK = 1920


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackedModel]:
    path = tmp_path_factory.mktemp("pool") / "model.edge"
    trained = tiny()
    prune(trained.model, 0.5)
    pack(trained, Layout(matrices=Encoding(bits=4, store="sparse")), path)
    with PackedModel(path) as opened:
        yield opened


def audio(seed: int, length: int = 12_000) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def alone(model: PackedModel, samples: Samples, beam: int) -> list[Hypothesis]:
    features, stream = NativeLogMel(), model.open(beam)
    stream.accept(np.concatenate([features.accept(samples), features.finish()]))
    found = stream.n_best
    stream.close()
    return found


def run_dry(pool: StreamPool) -> list[int]:
    """Advance until nothing waits: how many streams went together each time."""
    together = []
    while advanced := pool.advance():
        assert len(set(map(id, advanced))) == len(advanced) <= MOST_TOGETHER
        together.append(len(advanced))
    return together


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_a_pool_finds_what_each_stream_finds_alone(model: PackedModel, count: int, beam: int) -> None:
    sounds = [audio(seed, 9000 + 700 * seed) for seed in range(count)]
    pool = StreamPool(model, beam)
    streams = [pool.open() for _ in sounds]
    largest = 0
    for start in range(0, max(map(len, sounds)), CHUNK):
        for samples, stream in zip(sounds, streams, strict=True):
            stream.accept(samples[start : start + CHUNK])
        largest = max(largest, *run_dry(pool))
    for stream in streams:
        stream.finish()
    run_dry(pool)
    assert largest == min(count, MOST_TOGETHER)
    assert [stream.n_best for stream in streams] == [alone(model, samples, beam) for samples in sounds]
    assert [stream.best for stream in streams] == [stream.n_best[0] for stream in streams]


def test_chunks_that_pile_up_and_pieces_of_other_sizes_change_no_bit(model: PackedModel) -> None:
    sounds = [audio(seed) for seed in range(6)]
    pool = StreamPool(model, 3)
    streams = [pool.open() for _ in sounds]
    rng = np.random.default_rng(0)
    places = [0] * len(sounds)
    while any(place < len(samples) for place, samples in zip(places, sounds, strict=True)):
        n = int(rng.integers(len(sounds)))
        size = int(rng.choice([0, 100, 480, CHUNK, 3 * CHUNK]))
        streams[n].accept(sounds[n][places[n] : places[n] + size])
        places[n] += size
        if rng.random() < 0.2:
            pool.advance()
    for stream in streams:
        stream.finish()
    run_dry(pool)
    assert [stream.n_best for stream in streams] == [alone(model, samples, 3) for samples in sounds]


def test_who_has_waited_longest_is_never_left_out(model: PackedModel) -> None:
    pool = StreamPool(model, 1)
    odd, others = pool.open(), [pool.open() for _ in range(2 * MOST_TOGETHER)]
    odd.accept(audio(0, 600))
    for stream in others:
        stream.accept(audio(1, CHUNK))
    assert pool.advance() == [odd]
    assert pool.advance() == others[:MOST_TOGETHER]
    assert pool.advance() == others[MOST_TOGETHER:]
    assert pool.advance() == []


def test_a_closed_stream_does_not_wait(model: PackedModel) -> None:
    pool = StreamPool(model, 1)
    kept, closed = pool.open(), pool.open()
    for stream in (closed, kept):
        stream.accept(audio(0, CHUNK))
    closed.close()
    assert pool.advance() == [kept]
    assert pool.advance() == []
    with pytest.raises(EdgeSpeechError, match="the stream is closed"):
        _ = closed.best


def test_misuse_is_refused(model: PackedModel) -> None:
    with pytest.raises(EdgeSpeechError, match="beam is 0, expected a whole number"):
        StreamPool(model, 0).open()
    stream: PooledStream = StreamPool(model, 1).open()
    with pytest.raises(EdgeSpeechError, match="not finite"):
        stream.accept(np.full(10, np.nan, np.float32))
    stream.finish()
    with pytest.raises(EdgeSpeechError, match="samples after the end"):
        stream.accept(audio(0))

from __future__ import annotations

import numpy as np
import pytest

from cloud.fakes import silence, tone
from edgespeech.audio.codec import BIT_RATE, PACKET_BYTES, OpusDecoder, OpusEncoder, flac_bytes, pcm_bytes
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError


def chirp(seconds: float) -> Samples:
    t = np.arange(round(seconds * 16000)) / 16000
    return (0.5 * np.sin(2 * np.pi * (200 + 900 * t) * t)).astype(np.float32)


def encode(samples: Samples, chunk: int) -> list[bytes]:
    encoder = OpusEncoder()
    packets = [p for i in range(0, len(samples), chunk) for p in encoder.encode(samples[i : i + chunk])]
    return packets + encoder.finish()


def decode(packets: list[bytes]) -> Samples:
    decoder = OpusDecoder()
    return np.concatenate([*(decoder.decode(packet) for packet in packets), decoder.finish()])


def test_constant_bit_rate() -> None:
    assert PACKET_BYTES == 60
    packets = encode(chirp(1.0), 1600)
    assert {len(packet) for packet in packets} == {PACKET_BYTES}
    assert len(packets) == 51  # 1 s, and one more for the encoder's look-ahead
    assert sum(map(len, packets[:50])) * 8 == BIT_RATE


def test_a_whole_frame_gives_its_packet_at_once() -> None:
    encoder = OpusEncoder()
    assert [len(encoder.encode(tone(0.1))) for _ in range(4)] == [5, 5, 5, 5]


def test_round_trip_is_aligned_and_close() -> None:
    samples = chirp(2.0)
    back = decode(encode(samples, 1600))
    lags = range(-50, 51)
    middle = samples[4000:28000]
    products = [float(np.dot(middle, back[4000 + lag : 28000 + lag])) for lag in lags]
    assert lags[int(np.argmax(products))] == 0
    noise = back[4000:28000] - middle
    assert 10 * np.log10(np.mean(middle**2) / np.mean(noise**2)) > 10


@pytest.mark.parametrize("chunk", [1, 160, 320, 1000, 1600, 100_000])
def test_chunks_do_not_matter(chunk: int) -> None:
    samples = chirp(0.35)
    assert encode(samples, chunk) == encode(samples, 320)


@pytest.mark.parametrize("n", [1, 319, 320, 321, 5601])
def test_the_last_partial_frame_is_consumed(n: int) -> None:
    back = decode(encode(chirp(1.0)[:n], 1600))
    assert n <= len(back) < n + 700


def test_no_audio_no_trouble() -> None:
    packets = encode(silence(0), 1600)
    assert len(decode(packets)) <= 640


@pytest.mark.parametrize("packet", [b"", b"\xff\xff\xff\xff", b"\x03"])
def test_not_opus(packet: bytes) -> None:
    with pytest.raises(EdgeSpeechError, match="expected an Opus packet"):
        OpusDecoder().decode(packet)


def test_random_packets_decode_or_are_refused() -> None:
    rng = np.random.default_rng(0)
    decoder = OpusDecoder()
    refused = 0
    for _ in range(200):
        try:
            samples = decoder.decode(rng.bytes(int(rng.integers(1, 200))))
        except EdgeSpeechError:
            refused += 1
        else:
            assert samples.dtype == np.float32
    assert 0 < refused < 200
    assert len(decoder.decode(OpusEncoder().encode(tone(0.02))[0])) > 0


def test_comparison_sizes() -> None:
    samples = tone(1.0)
    assert pcm_bytes(samples) == 32_000
    assert flac_bytes(silence(1.0)) < flac_bytes(samples) < 32_000

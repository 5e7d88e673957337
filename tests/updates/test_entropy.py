from __future__ import annotations

import numpy as np
import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.updates.entropy import Reader, Symbols, Writer, unzigzag, zigzag


def drawn(count: int, alphabet: int, seed: int = 0) -> Symbols:
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.4, count) - 1, alphabet - 1).astype(np.int64)


@pytest.mark.parametrize(("count", "alphabet"), [(1, 2), (7, 300), (5000, 9), (40000, 257), (3, 1024)])
def test_symbols_come_back(count: int, alphabet: int) -> None:
    values = drawn(count, alphabet)
    for kind in ("symbols", "rare"):
        out = Writer()
        getattr(out, kind)(values, alphabet)
        reader = Reader(out.finish())
        assert np.array_equal(getattr(reader, kind)(count, alphabet), values)
        assert reader.left == 0


def test_a_stream_is_near_its_entropy() -> None:
    values = drawn(100_000, 16)
    shares = np.bincount(values) / len(values)
    shares = shares[shares > 0]
    least = -(shares * np.log2(shares)).sum() * len(values) / 8
    out = Writer()
    out.symbols(values, 16)
    assert least < len(out.finish()) < 1.02 * least + 40


def test_rare_values_are_near_their_entropy() -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random(200_000) < 0.004, rng.integers(1, 3, 200_000), 0)
    share = (values > 0).mean()
    least = len(values) / 8 * (-share * np.log2(share) - (1 - share) * np.log2(1 - share) + share)
    out = Writer()
    out.rare(values, 3)
    assert least < len(out.finish()) < 1.08 * least + 30


def test_numbers_and_blocks_come_back() -> None:
    out = Writer()
    for value in (0, 127, 128, 1 << 40):
        out.number(value)
    out.block(b"abc")
    reader = Reader(out.finish())
    assert [reader.number(1 << 41, "x") for _ in range(4)] == [0, 127, 128, 1 << 40]
    assert reader.block(3, "x") == b"abc"


def test_a_number_beyond_its_limit_is_refused() -> None:
    out = Writer()
    out.number(5)
    with pytest.raises(EdgeSpeechError, match="size is 5, expected at most 4"):
        Reader(out.finish()).number(4, "size")
    with pytest.raises(EdgeSpeechError, match="more bytes than a number has"):
        Reader(b"\xff" * 20).number(4, "size")


def test_signs_come_back() -> None:
    values = np.array([0, -1, 1, -2, 300, -301])
    assert zigzag(values).tolist() == [0, 1, 2, 3, 600, 601]
    assert unzigzag(zigzag(values)).tolist() == values.tolist()


@pytest.mark.parametrize("kind", ["symbols", "rare"])
def test_a_cut_or_changed_stream_never_gives_more_than_was_asked(kind: str) -> None:
    values = drawn(300, 9)
    out = Writer()
    getattr(out, kind)(values, 9)
    content = out.finish()
    refused = 0
    for at in range(len(content)):
        for broken in (content[:at], content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]):
            try:
                found = getattr(Reader(broken), kind)(300, 9)
            except EdgeSpeechError:
                refused += 1
            else:
                assert found.shape == (300,)
                assert found.min() >= 0
                assert found.max() < 9
    assert refused > len(content)

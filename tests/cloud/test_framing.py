from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.cloud.framing import wire_bytes, ws_bytes
from edgespeech.errors import EdgeSpeechError


@pytest.mark.parametrize(
    ("payload", "up", "expected"),
    [
        (0, True, 6),
        (0, False, 2),
        (125, True, 125 + 6),
        (126, True, 126 + 8),
        (310, True, 310 + 8),  # one audio message: five packets of 60 bytes and their lengths
        (310, False, 310 + 4),
        (65_535, False, 65_535 + 4),
        (65_536, False, 65_536 + 10),
        (65_536, True, 65_536 + 14),
    ],
)
def test_websocket_frames_by_hand(payload: int, up: bool, expected: int) -> None:
    assert ws_bytes(payload, up=up) == expected


@pytest.mark.parametrize(
    ("payload", "up", "expected"),
    [
        (310, True, 318 + 22 + 52),
        (0, False, 2 + 22 + 52),
        (1448 - 22 - 8, True, 1448 + 52),  # exactly one full segment
        (1448 - 22 - 8 + 1, True, 1449 + 2 * 52),  # one byte more opens a second one
        (16_384 - 8, True, 16_384 + 22 + 12 * 52),  # a full record: 16406 / 1448 = 11.3
        (16_384 - 7, True, 16_385 + 2 * 22 + 12 * 52),  # one byte more opens a second record
    ],
)
def test_wire_bytes_by_hand(payload: int, up: bool, expected: int) -> None:
    assert wire_bytes(payload, up=up) == expected


@given(st.integers(0, 10**7), st.booleans())
def test_a_longer_message_never_takes_less(payload: int, up: bool) -> None:
    assert wire_bytes(payload + 1, up=up) > wire_bytes(payload, up=up) > ws_bytes(payload, up=up) > payload


def test_negative_length() -> None:
    with pytest.raises(EdgeSpeechError, match="payload_bytes is -1, expected at least 0"):
        wire_bytes(-1, up=True)

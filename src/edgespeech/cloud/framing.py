"""How many bytes a message takes on the wire: WebSocket frame, TLS 1.3 record, TCP/IPv4 segments.

Counted: what carries the messages, in their direction. Not counted: the connection's set-up and closing,
bare acknowledgements, retransmissions, and the link layer below IP. One message is one WebSocket frame,
uncompressed.
"""

from __future__ import annotations

from edgespeech.errors import bad

WS_HEADER = 2
"""Opcode and 7-bit length (RFC 6455, section 5.2); 2 more bytes from 126 on, 8 more from 65,536 on."""
WS_MASK = 4
"""Masking key of every frame that a client sends (RFC 6455, section 5.3)."""
TLS_RECORD = 22
"""Record header 5, inner content type 1 (RFC 8446, 5.1 and 5.2), AEAD tag 16 (RFC 5116, 5.1)."""
TLS_MAX_PLAINTEXT = 2**14
"""Most plaintext in one record (RFC 8446, section 5.1)."""
TCP_IP_HEADERS = 52
"""IPv4 20 (RFC 791, 3.1), TCP 20 (RFC 9293, 3.1), timestamps option 12 with its padding (RFC 7323, 3.2)."""
MSS = 1448
"""Payload of a full segment: an Ethernet MTU of 1,500 less `TCP_IP_HEADERS` (RFC 9293, section 3.7.1)."""


def ws_bytes(payload_bytes: int, *, up: bool) -> int:
    """Bytes of the WebSocket frame that carries one message; what a plain loopback socket sees.

    Args:
        payload_bytes: length of the message, at least 0.
        up: True from client to server, where frames are masked.

    Raises:
        EdgeSpeechError: the length is negative.
    """
    if payload_bytes < 0:
        raise bad("message", "payload_bytes", payload_bytes, "at least 0")
    extended = 0 if payload_bytes < 126 else 2 if payload_bytes < 2**16 else 8
    return WS_HEADER + extended + (WS_MASK if up else 0) + payload_bytes


def wire_bytes(payload_bytes: int, *, up: bool) -> int:
    """Bytes on the wire, IP headers included, of one message sent over WebSocket and TLS 1.3.

    Args:
        payload_bytes: length of the message after its codec, at least 0.
        up: True from client to server, where frames are masked.

    Raises:
        EdgeSpeechError: the length is negative.
    """
    frame = ws_bytes(payload_bytes, up=up)
    encrypted = frame + TLS_RECORD * _pieces(frame, TLS_MAX_PLAINTEXT)
    return encrypted + TCP_IP_HEADERS * _pieces(encrypted, MSS)


def _pieces(n_bytes: int, most: int) -> int:
    return -(-n_bytes // most)

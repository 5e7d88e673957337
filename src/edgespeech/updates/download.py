"""Downloads of updates that go on where they were interrupted: the file on the device, and the time over a network."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgespeech.cloud.framing import TCP_IP_HEADERS, wire_bytes
from edgespeech.cloud.link import Link
from edgespeech.contracts import LinkProfile
from edgespeech.core.files import regular, sha256_file
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.updates.update_file import MAX_BYTES

PIECE = 1 << 14
"""Bytes of a message of the server: one TLS record."""
_REQUEST = 200
"""Bytes of a request for the rest of a file: its hash, an offset, a token."""
_HANDSHAKE_UP, _HANDSHAKE_DOWN = 350, 3000
"""Bytes of a TLS 1.3 handshake without resumption, with a certificate chain of two (RFC 8446)."""
_PATIENCE_S = 10 * 3600.0
"""A simulated download is given up after this."""


class Download:
    """A file that arrives piece by piece; what has arrived outlives the process.

    The pieces are in a hidden file beside the target, whose name has the hash of the whole: another file never goes on
    with them.

    Args:
        path: of the whole file.
        size: its bytes, as the server says.
        sha256: its hash, as the server says.

    Raises:
        EdgeSpeechError: the size is not 1 to 64 MiB.
    """

    def __init__(self, path: Path, size: int, sha256: str) -> None:
        if not 0 < size <= MAX_BYTES:
            raise bad(str(path), "size", size, f"1 to {MAX_BYTES} bytes")
        self.path, self.size, self.sha256 = path, size, sha256
        self.part = path.with_name(f".{path.name}.{sha256[:16]}.part")

    @property
    def offset(self) -> int:
        """Bytes that are here: where to go on."""
        try:
            return min(regular(self.part).stat().st_size, self.size)
        except FileNotFoundError:
            return 0

    def take(self, offset: int, piece: bytes) -> None:
        """Store the next bytes.

        Raises:
            EdgeSpeechError: they do not begin where the file ends, go beyond its size, or cannot be written.
        """
        here = self.offset
        if offset != here or here + len(piece) > self.size:
            raise bad(
                str(self.path),
                "piece",
                f"{len(piece)} bytes at {offset}",
                f"at {here}, to {self.size} at most",
            )
        try:
            with self.part.open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EdgeSpeechError(f"{self.path}: could not be written: {error.strerror or error}") from error

    def finish(self) -> Path:
        """Give the whole file its name.

        Raises:
            EdgeSpeechError: bytes are missing; or it has another hash, and is removed, so that it is fetched again.
        """
        if self.offset < self.size or self.part.stat().st_size != self.size:
            raise bad(str(self.path), "size", self.offset, f"{self.size}: go on with the download")
        if (found := sha256_file(self.part)) != self.sha256:
            self.part.unlink()
            raise bad(str(self.path), "sha256", found, f"{self.sha256}: it is fetched from the start again")
        self.part.replace(self.path)
        return self.path


@dataclass(frozen=True, slots=True)
class Interruptions:
    """How connections end.

    Attributes:
        connected_s: mean duration of a connection, which is exponential; infinity for no interruptions.
        away_s: time until the device tries again.
        resumes: whether it goes on where it was, or starts again.
    """

    connected_s: float = math.inf
    away_s: float = 0.0
    resumes: bool = True


@dataclass(frozen=True, slots=True)
class Fetched:
    """A simulated download.

    Attributes:
        seconds: until the last byte is on the device; infinity where it never is.
        down_bytes: on the wire, of everything that the server sent.
        up_bytes: on the wire, of requests and handshakes.
        connections: how many it took.
    """

    seconds: float
    down_bytes: int
    up_bytes: int
    connections: int


def fetched(profile: LinkProfile, size: int, interruptions: Interruptions, seed: int) -> Fetched:
    """Fetch a file over a network, on the virtual clock of `edgespeech.cloud.link`.

    Every connection begins with two round trips (TCP, and TLS 1.3 with a certificate); then the server sends the rest
    in messages of 16 KiB. The message that is on its way when the connection ends is lost, and was sent all the same.
    Not simulated: slow start of TCP, and further messages on their way.

    Args:
        profile: of the network.
        size: bytes of the file.
        interruptions: of the connections.
        seed: of the network and the interruptions.

    Raises:
        EdgeSpeechError: the size is negative.
    """
    link = Link(profile, seed)
    rng = np.random.default_rng([seed, 1])
    at_s, stored, down, up, connections = 0.0, 0, 0, 0, 0
    while at_s < _PATIENCE_S:
        connections += 1
        ends_s = at_s + _lifetime(rng, interruptions.connected_s)
        up += 2 * TCP_IP_HEADERS + wire_bytes(_HANDSHAKE_UP, up=True) + wire_bytes(_REQUEST, up=True)
        down += TCP_IP_HEADERS + wire_bytes(_HANDSHAKE_DOWN, up=False)
        begins_s = link.send_down(TCP_IP_HEADERS, link.send_up(TCP_IP_HEADERS, at_s))
        hello_s = link.send_up(wire_bytes(_HANDSHAKE_UP, up=True), begins_s)
        ready_s = link.send_down(wire_bytes(_HANDSHAKE_DOWN, up=False), hello_s)
        asked_s = link.send_up(wire_bytes(_REQUEST, up=True), ready_s)
        if math.isinf(asked_s):
            return Fetched(math.inf, 0, 0, 0)
        if not interruptions.resumes:
            stored = 0
        arrives_s = asked_s
        while stored < size and arrives_s <= ends_s:
            piece = min(PIECE, size - stored)
            wire = wire_bytes(piece, up=False)
            arrives_s = link.send_down(
                wire, asked_s
            )  # one after the other: the link is free for the next only then
            down += wire
            stored += piece if arrives_s <= ends_s else 0
        if stored == size and arrives_s <= ends_s:
            return Fetched(arrives_s, down, up, connections)
        at_s = ends_s + interruptions.away_s
    return Fetched(math.inf, down, up, connections)


def _lifetime(rng: np.random.Generator, mean_s: float) -> float:
    return math.inf if math.isinf(mean_s) else float(rng.exponential(mean_s))

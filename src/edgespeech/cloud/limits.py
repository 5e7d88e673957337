"""What one client may ask of a server, and how clients share what there is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, fields

from edgespeech.errors import EdgeSpeechError, bad

POLICY, INTERNAL, TRY_LATER = 1008, 1011, 1013
"""Codes with which a server closes a connection (RFC 6455, section 7.4, and its registry)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What clients may ask of the server.

    Attributes:
        max_message_bytes: longest message; a longer one closes the connection with 1009.
        max_audio_s: longest utterance; so long may a client wait before it has something to rescore.
        max_streams: streams at a time. Where they are all taken, a holder of a token with fewer streams than
            another gets the oldest one of the holder who has most; who has most himself is refused with HTTP 503.
        max_opening: connections that have not shown a token yet, TLS handshakes in progress among them; the oldest one
            gives way, or any one where all are young.
        max_refused: connections that wait for the answer that they are refused; where there are more, the oldest one
            gets it.
        refusal_s: so long they wait: who knocks again at once after every refusal takes the less of the server.
        max_backlog_bytes: received and not yet worked on, per stream.
        max_buffered_bytes: of messages and decoded audio, all streams together; the largest one of the token
            that holds most gives way.
        messages_per_s: that a token may send in the long run, pings and fragments included, each 100 bytes counted
            as one more; what is more waits in the network. A stream in real time takes 40, and opening one 20.
        burst: messages that it may send at once after a pause.
        idle_s: longest wait for a message, or for the rest of one.
        max_stream_s: longest life of a stream.
        send_s: longest that a client may take to receive a reply.
        max_work_s: longest that the work of one message may take.
        max_step_s: longest that the model may take without a pause; then its process is ended and started again.
        leave_s: so long may the model go on with the work of a client that has left before its process is ended.
    """

    max_message_bytes: int = 64 * 1024
    max_audio_s: float = 120.0
    max_streams: int = 64
    max_opening: int = 256
    max_refused: int = 512
    refusal_s: float = 1.0
    max_backlog_bytes: int = 512 * 1024
    max_buffered_bytes: int = 64 * 1024 * 1024
    messages_per_s: float = 200.0
    burst: float = 1500.0
    idle_s: float = 30.0
    max_stream_s: float = 300.0
    send_s: float = 10.0
    max_work_s: float = 120.0
    max_step_s: float = 60.0
    leave_s: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise bad("server limits", field.name, value, "above 0, and finite")


class RefusedError(EdgeSpeechError):
    """The client broke a limit of the server.

    Attributes:
        code: with which its connection is closed.
    """

    def __init__(self, message: str, code: int = POLICY) -> None:
        super().__init__(message)
        self.code = code


class Bucket:
    """A token bucket: how long somebody has to wait who has used up what he may.

    Args:
        rate: what he may use in a second in the long run.
        burst: what he may use at once after a pause.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()

    def take(self, amount: float) -> float:
        """Use so much; returns the seconds until more may be used, 0 for at once."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - amount
        self._at = now
        return max(0.0, -self._left / self._rate)


class FairTurns:
    """One resource, such as a processor, that its users take in turns: next is who has used it least of late.

    Use is forgotten by halves (decay usage scheduling; D. H. J. Epema, "Decay-usage scheduling in multiprocessors",
    ACM TOCS 1998): whoever asks for less than an equal share waits for the turn that goes on, and for no more.
    Several turns of one user are taken in the order in which they were asked for.
    """

    HALF_LIFE_S = 20.0

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}  # seconds, and when that was so
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._since = 0.0
        self._busy = False

    async def enter(self, user: str) -> None:
        """Wait for a turn; it lasts until `leave`."""
        if not self._busy:
            self._busy = True
        else:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(user, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():  # it was his turn already
                    self._next()
                raise
        self._since = time.monotonic()

    def leave(self, user: str, used_s: float | None = None) -> None:
        """End the turn, and let the next one begin. It counts as so much use; None: as the time that has passed."""
        now = time.monotonic()
        used_s = now - self._since if used_s is None else used_s
        self._used[user] = self._use(user, now) + used_s, now
        self._next()

    def goes_on(self, user: str) -> bool:
        """Whether the turn may go on, since nobody waits who has used less; else it is ended."""
        now = time.monotonic()
        self._used[user] = self._use(user, now) + now - self._since, now
        self._since = now
        if all(self._use(other, now) >= self._use(user, now) for other in self._waiting):
            return True
        self._next()
        return False

    def _use(self, user: str, now: float) -> float:
        used, at = self._used.get(user, (0.0, now))
        return float(used * 0.5 ** ((now - at) / self.HALF_LIFE_S))

    def _next(self) -> None:
        now = time.monotonic()
        while self._waiting:
            user = min(self._waiting, key=lambda one: self._use(one, now))
            mine = self._waiting[user].popleft()
            if not self._waiting[user]:
                del self._waiting[user]
            if not mine.cancelled():
                mine.set_result(None)
                return
        self._busy = False


class FewLines(logging.Filter):
    """Lets so many log lines through and counts the rest, so that no client can fill a disk."""

    def __init__(self, per_s: float = 5.0, burst: float = 50.0) -> None:
        super().__init__()
        self._per_s = per_s
        self._bucket = Bucket(per_s, burst)
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line may pass; the next one that does says how many did not."""
        if self._bucket.take(0) > 0:
            self._left_out += 1
            return False
        self._bucket.take(1)
        if self._left_out:
            record.msg = f"({self._left_out} lines left out) {record.msg}"
            self._left_out = 0
        return True

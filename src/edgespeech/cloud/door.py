"""Who comes in to a server, who is in, and who gives way: shared fairly among the holders of tokens."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from http import HTTPStatus

from edgespeech.cloud.access import Tokens
from edgespeech.cloud.connection import GuardedConnection
from edgespeech.cloud.limits import TRY_LATER, Bucket, Limits, RefusedError
from edgespeech.cloud.opening import Asked, Handshake, Opening

_PATIENCE_S = 1.0
"""A connection that has not shown a token for so long gives way first."""
OPENING_COST = 20
"""So many messages of its holder a new stream counts as: it takes the event loop about as long."""


class Door:
    """Lets connections in, and shares places and memory fairly among the holders of tokens.

    Whoever shows no token is refused at once. Others stand in a line, one for each holder. In a turn of the event loop
    one of them comes in, and the holders alternate, each as often as his messages allow: whoever opens streams as fast
    as he can waits for himself alone, and streams that are in go on between.

    Args:
        limits: of the server.
        tokens: of those who may come in.
        paths: that there are.
    """

    def __init__(self, limits: Limits, tokens: Tokens, paths: Sequence[str]) -> None:
        self._limits = limits
        self._tokens = tokens
        self._paths = paths
        self._opening: dict[Opening | Handshake, float] = {}  # since when, oldest first
        self._refused: dict[Opening, None] = {}  # oldest first
        self._lines: dict[str, deque[Opening]] = {}  # of holders, whose turn is next first
        self._next: asyncio.Handle | None = None
        self._streams: dict[GuardedConnection, None] = {}  # an ordered set, oldest first
        self._buckets: dict[str, Bucket] = {}

    def knocks(self, visitor: Opening | Handshake) -> None:
        """A connection is made, and nothing known of it."""
        now = time.monotonic()
        if len(self._opening) >= self._limits.max_opening:
            oldest, since = next(iter(self._opening.items()))
            if now - since < _PATIENCE_S:  # so many at once: any of them, lest it be who has just come
                oldest = random.choice(list(self._opening))
            del self._opening[oldest]
            oldest.turn_off()
        self._opening[visitor] = now

    def leaves(self, visitor: Opening | Handshake) -> None:
        """A connection that is not in is gone, or its handshake is over."""
        if isinstance(visitor, Handshake) or visitor in self._opening:
            self._opening.pop(visitor, None)
            return
        if visitor in self._refused:
            del self._refused[visitor]
            return
        for holder, line in self._lines.items():
            if visitor in line:
                line.remove(visitor)
                if not line:
                    del self._lines[holder]
                return

    def asks(self, opening: Opening, asked: Asked) -> None:
        """A connection has sent its opening request: it is refused, or stands in line."""
        if asked.path.partition("?")[0] not in self._paths:
            self.refuses(opening, HTTPStatus.NOT_FOUND, f"expected {' or '.join(self._paths)}\n")
            return
        holder = self._tokens.holder(asked.shown)
        if holder is None:
            self.refuses(opening, HTTPStatus.UNAUTHORIZED, "expected Authorization: Bearer TOKEN\n")
            return
        if not self._has_place(holder) or len(self._lines.get(holder, ())) >= self._limits.max_streams:
            self._turn_down(opening)
            return
        self._opening.pop(opening, None)
        self._lines.setdefault(holder, deque()).append(opening)
        if self._next is not None:
            self._next.cancel()  # perhaps it waits for somebody who has to wait for long
        self._next = asyncio.get_running_loop().call_soon(self._let_in)

    def refuses(self, opening: Opening, status: HTTPStatus, told: str) -> None:
        """A connection may not come in: it learns so after a while, or once there are too many of them."""
        self.leaves(opening)
        if len(self._refused) >= self._limits.max_refused:
            oldest = next(iter(self._refused))
            del self._refused[oldest]
            oldest.answer()
        self._refused[opening] = None
        opening.refuse(status, told, self._limits.refusal_s)

    def left(self, connection: GuardedConnection) -> None:
        """A stream is over."""
        self._streams.pop(connection, None)

    def close(self) -> None:
        """Nobody comes in any more."""
        if self._next is not None:
            self._next.cancel()
        waiting = (opening for line in self._lines.values() for opening in line)
        for visitor in [*self._opening, *self._refused, *waiting]:
            visitor.turn_off()

    def weigh(self, connection: GuardedConnection, n_bytes: int) -> None:
        """A connection's messages and audio take so much memory."""
        connection.n_bytes = n_bytes
        if sum(stream.n_bytes for stream in self._streams) > self._limits.max_buffered_bytes:
            most = self._most(lambda stream: stream.n_bytes)
            largest = max(
                (stream for stream in self._streams if stream.holder == most), key=lambda one: one.n_bytes
            )
            del self._streams[largest]
            largest.turn_away(
                RefusedError("server: too much audio waits, of all streams together", TRY_LATER)
            )

    def _let_in(self) -> None:
        """Let one connection in, and go on in the next turn of the event loop, or when somebody may come in."""
        self._next = None
        wait_s = float("inf")
        for holder, line in self._lines.items():
            bucket = self._bucket(holder)
            if (holder_waits_s := bucket.take(0)) == 0:
                bucket.take(OPENING_COST)
                opening = line.popleft()
                del self._lines[holder]
                if line:
                    self._lines[holder] = line  # behind the others
                self._enters(opening, holder, bucket)
                wait_s = 0.0
                break
            wait_s = min(wait_s, holder_waits_s)
        if self._lines:
            self._next = asyncio.get_running_loop().call_later(wait_s, self._let_in)

    def _enters(self, opening: Opening, holder: str, bucket: Bucket) -> None:
        if not self._has_place(holder):  # others have come in meanwhile
            self._turn_down(opening)
            return
        if len(self._streams) >= self._limits.max_streams:
            most = self._most(lambda _: 1)
            oldest = next(stream for stream in self._streams if stream.holder == most)
            del self._streams[oldest]
            oldest.turn_away(
                RefusedError("server: another one's turn, since all places are taken", TRY_LATER)
            )
        self._streams[opening.come_in(holder, bucket)] = None

    def _turn_down(self, opening: Opening) -> None:
        told = f"{self._limits.max_streams} streams are open already\n"
        self.refuses(opening, HTTPStatus.SERVICE_UNAVAILABLE, told)

    def _bucket(self, holder: str) -> Bucket:
        limits = self._limits
        return self._buckets.setdefault(holder, Bucket(limits.messages_per_s, limits.burst))

    def _has_place(self, holder: str) -> bool:
        """Whether there is a place for one more stream of a holder, free or of somebody who has more of them."""
        if len(self._streams) < self._limits.max_streams:
            return True
        streams = Counter(stream.holder for stream in self._streams)
        return max(streams.values()) > streams[holder] + 1

    def _most(self, weight: Callable[[GuardedConnection], int]) -> str:
        """The holder whose streams weigh most."""
        weights: Counter[str] = Counter()
        for stream in self._streams:
            weights[stream.holder] += weight(stream)
        return max(weights, key=weights.__getitem__)

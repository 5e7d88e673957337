"""The device's side of the second pass: sends lattices, and believes only answers that can be right.

Whatever the server does, the device's own result stands. An answer that comes late or twice, that answers no
question, or whose words are no path of the lattice has no effect; nor has one that never comes. `notes` say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from edgespeech.cloud.client import connected
from edgespeech.cloud.protocol import (
    MAX_REVISION,
    Error,
    ProtocolError,
    Rescored,
    ServerMessage,
    TraceMessage,
    pack_request,
    parse_server,
)
from edgespeech.contracts import Event, EventKind, RemoteTrace, Reply
from edgespeech.errors import EdgeSpeechError

_GRACE_S = 1.0
"""So long after a deadline, what has come before it is still read; a server that never stops talking is left."""

Accepts = Callable[[str], bool]
"""Whether words are a path of a lattice."""


class Answers:
    """What was asked, and what became of it; no socket, no clock.

    Attributes:
        notes: everything that was not as it should be, in the order in which it was noticed.
    """

    def __init__(self) -> None:
        self._asked: list[Accepts] = []
        self._answered: set[int] = set()
        self.notes: list[str] = []

    @property
    def newest(self) -> int:
        """The latest revision that was asked for; -1 before the first."""
        return len(self._asked) - 1

    @property
    def missing(self) -> list[int]:
        """The revisions without an answer."""
        return [revision for revision in range(len(self._asked)) if revision not in self._answered]

    def ask(self, accepts: Accepts) -> int:
        """Another request is sent; returns its revision.

        Raises:
            EdgeSpeechError: there were as many as revisions can number.
        """
        if self.newest == MAX_REVISION:
            raise EdgeSpeechError(
                f"second pass: {MAX_REVISION + 1} requests were sent, the most of an utterance"
            )
        self._asked.append(accepts)
        return self.newest

    def take(self, message: ServerMessage) -> Rescored | None:
        """The answer in a message, if it is one that can be right."""
        if isinstance(message, Error):
            self.notes.append(f"the server reported: {message.message}")
        elif not isinstance(message, Rescored):
            self.notes.append(f"the server sent {message.type}, expected rescored")
        elif message.revision > self.newest:
            self.notes.append(f"revision {message.revision} was answered, which was never asked for")
        elif message.revision in self._answered:
            self.notes.append(f"revision {message.revision} was answered twice")
        else:
            self._answered.add(message.revision)
            if self._asked[message.revision](message.text):
                return message
            self.notes.append(f"revision {message.revision} was answered with no path of its lattice")
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """An answer that can be right: to which revision, its words, its payload bytes, when (`time.monotonic`)."""

    revision: int
    text: str
    n_bytes: int
    at: float


class SecondPassStream:
    """One utterance's connection to the second pass, open before there is a lattice.

    Attributes:
        notes: see `Answers`.
    """

    def __init__(self, url: str, token: str, *, trace: bool = True) -> None:
        """Connect.

        Args:
            url: `ServerProcess.rescore_url`, or another server's.
            token: the server's.
            trace: ask for compute, which `remote` needs.

        Raises:
            EdgeSpeechError: there is no server, or it refuses the connection.
        """
        self._answers = Answers()
        self._trace = trace
        self._compute_s: list[float] = []
        self._broken = False  # nothing comes any more
        self._lost = False  # nothing can be sent any more
        self._opened = ExitStack()
        self._connection = self._opened.enter_context(connected(url, token, trace=trace))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not as it should be."""
        return tuple(self._answers.notes)

    def send(self, lattice: bytes, accepts: Accepts) -> Event:
        """Send a lattice; never waits for the answer. On a broken connection the message is lost.

        Args:
            lattice: as `edgespeech.lattice.codec` writes it.
            accepts: whether words are one of its paths.

        Returns:
            The message as a `SENT` event.
        """
        from websockets.exceptions import ConnectionClosed

        message = pack_request(self._answers.ask(accepts), lattice)
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            if not self._lost:  # what came before it broke can still be read
                self._answers.notes.append(f"the connection broke: {error}")
            self._lost = True
        return Event(kind=EventKind.SENT, n_bytes=len(message))

    def answer(self, timeout_s: float) -> str | None:
        """Wait for the answer to the newest lattice, and return its words; None: the device's own result stands.

        Args:
            timeout_s: longest wait.
        """
        deadline = time.monotonic() + timeout_s
        newest = self._answers.newest
        while newest in self._answers.missing:
            found = self._next(deadline)
            if found is None:
                break
            answer = self._take(found[0])
            if answer is not None and answer.revision == newest:
                return answer.text
            if answer is not None:
                self._answers.notes.append(f"revision {answer.revision} was answered late")
        return None

    def poll(self, timeout_s: float) -> Answered | None:
        """Wait for the next answer that can be right, whichever it is to; None: there is none so soon.

        Args:
            timeout_s: longest wait; on a broken connection it is waited all the same.
        """
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if self._broken:
                time.sleep(left_s)
                break
            found = self._next(deadline, waits=False)
            if found is not None and (answer := self._take(found[0])) is not None:
                return Answered(
                    revision=answer.revision, text=answer.text, n_bytes=found[1], at=time.monotonic()
                )
        return None

    @property
    def waits(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._answers.missing) and not self._broken

    def remote(self, timeout_s: float = 120.0) -> RemoteTrace:
        """Wait for all answers, and return what the server did: a final event for each answer that can be right.

        Args:
            timeout_s: longest wait in all.

        Returns:
            The trace: one message a lattice; no reply, and no compute, for what was never answered.
        """
        deadline = time.monotonic() + timeout_s
        replies: list[Reply] = []
        while self._answers.missing or (self._trace and len(self._compute_s) <= self._answers.newest):
            found = self._next(deadline)
            if found is None:
                break
            message, n_bytes = found
            if (answer := self._take(message)) is not None:
                event = Event(kind=EventKind.FINAL, text=answer.text)
                replies.append(Reply(after_message=answer.revision, n_bytes=n_bytes, event=event))
        known = self._compute_s[: self._answers.newest + 1]
        unknown = [0.0] * (self._answers.newest + 1 - len(known))
        return RemoteTrace(compute_s=(*known, *unknown), replies=tuple(replies), notes=self.notes)

    def close(self) -> None:
        """Leave."""
        self._opened.close()

    def _take(self, message: ServerMessage) -> Rescored | None:
        """The answer in a message, if it is one that can be right. Stores a trace."""
        if isinstance(message, TraceMessage):
            self._compute_s = message.compute_s
            return None
        return self._answers.take(message)

    def _next(self, deadline: float, *, waits: bool = True) -> tuple[ServerMessage, int] | None:
        """The next message, with its bytes; None: nothing comes any more, or not in time, which is noted if it
        was waited for.
        """
        from websockets.exceptions import ConnectionClosed

        if self._broken:
            return None
        left_s = deadline - time.monotonic()
        try:
            if left_s < -_GRACE_S:
                raise TimeoutError
            text = self._connection.recv(max(0.0, left_s))
            if isinstance(text, str):
                return parse_server(text), len(text.encode())
            self._break(f"the server sent {len(text)} binary bytes, expected JSON")
        except TimeoutError:
            if waits:
                self._answers.notes.append(f"revision {self._answers.newest} was not answered in time")
        except ConnectionClosed as error:
            self._broken = True
            if not self._lost:
                self._answers.notes.append(f"the connection broke: {error}")
            self._lost = True
        except ProtocolError as error:
            self._break(str(error))
        return None

    def _break(self, note: str) -> None:
        self._answers.notes.append(note)
        self._broken = True

"""Arbitration between a device's result and a server's: the rule of a device with a second pass.

The device sends messages to the server; each is a revision of its hypothesis, and an answer refers to one of them. By
the times at which the device sends and receives:

* An answer counts if it is to the newest message, and the device has not withdrawn (`RESET`) that hypothesis.
* An answer before the device's final is stored: that final then has the answer's words. Until then it is a speculative
  result, if its words differ from the published ones.
* An answer after the device's final replaces it, if it arrives before the answer deadline.
* All others have no effect. So with no network, a slow one or a dead server the device's own result stands.

The same rule applies to a replayed trace and a live run (`edgespeech.harness.live`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgespeech.contracts import EventKind
from edgespeech.records.trace import Stamped


class Answer(NamedTuple):
    """An answer of the server, and the index of the device's message that it answers."""

    message: int
    stamped: Stamped


def arbitrate(
    device: Sequence[Stamped], answers: Sequence[Answer], answer_deadline_s: float
) -> tuple[list[Stamped], str | None]:
    """The events after arbitration, by time.

    Args:
        device: its own events by time, including messages (`SENT`).
        answers: to these messages, in any order.
        answer_deadline_s: how long after its final the device accepts an answer, in seconds.

    Returns:
        The events; and why the last final is the device's own, or None if its words came from the server.
    """
    state = _State(answer_deadline_s)
    events = [event for one in _by_time(device, answers) for event in state.take(one)]
    return events, state.why()


def _by_time(device: Sequence[Stamped], answers: Sequence[Answer]) -> list[Stamped | Answer]:
    """All events and answers by time; at the same time, the device's own first."""

    def time_of(one: Stamped | Answer) -> float:
        return one.stamped.t_s if isinstance(one, Answer) else one.t_s

    return sorted([*device, *answers], key=time_of)


@dataclass(slots=True)
class _State:
    """The state of the arbitration.

    Attributes:
        answer_deadline_s: see `arbitrate`.
        newest: the message sent last; -1 before the first.
        stands: whether its hypothesis has not been withdrawn.
        published: the words of the last speculative or final result.
        held: the stored answer to the newest message, for a later final.
        final: the device's, to the newest message.
        ours: whether the last final is the device's own.
        late_s: delay after the final of an answer that was too late.
    """

    answer_deadline_s: float
    newest: int = -1
    stands: bool = False
    published: str | None = None
    held: Stamped | None = None
    final: Stamped | None = None
    ours: bool = True
    late_s: float | None = None

    def take(self, one: Stamped | Answer) -> Iterator[Stamped]:
        """Process the next event or answer; yield the resulting events."""
        return self._answered(one) if isinstance(one, Answer) else self._said(one)

    def why(self) -> str | None:
        """Why the last final is the device's own."""
        if not self.ours:
            return None
        if self.newest < 0:
            return "nothing was sent"
        if self.late_s is None:
            return "no answer came"
        late = f"the answer came {self.late_s:.3f} s after the device's result"
        return f"{late}, expected {self.answer_deadline_s:g} s at most"

    def _said(self, one: Stamped) -> Iterator[Stamped]:
        kind = one.event.kind
        if kind is EventKind.SENT:
            self.newest += 1
            self.stands, self.held, self.final, self.late_s = True, None, None, None
        elif kind is EventKind.RESET:
            self.stands, self.held, self.published = False, None, None
        elif kind is EventKind.SPECULATIVE:
            self.published = one.event.text
        elif kind is EventKind.FINAL:
            self.final, self.ours = one, self.held is None
            if self.held is not None:
                told = self.held.event
                one = replace(one, remote=True, event=replace(one.event, text=told.text, words=told.words))
            self.published = one.event.text
        yield one

    def _answered(self, answer: Answer) -> Iterator[Stamped]:
        came = answer.stamped
        if answer.message != self.newest or not self.stands:
            return
        if self.final is None:
            self.held = came
            if came.event.text != self.published:
                self.published = came.event.text
                yield replace(came, event=replace(came.event, kind=EventKind.SPECULATIVE))
        elif came.t_s - self.final.t_s <= self.answer_deadline_s:
            self.held, self.ours, self.published = came, False, came.event.text
            yield replace(came, event=replace(came.event, kind=EventKind.FINAL))
        else:
            self.late_s = came.t_s - self.final.t_s

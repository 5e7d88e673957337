"""The device's side of a hybrid recogniser: recognition, end-pointing, and sending lattices for rescoring.

A speculative end-point publishes the result, which starts language understanding, and sends the lattice. If the words
are the same at the final end-point, the utterance is over, and the second pass had a head start; if there were further
words, the result is withdrawn, and a revised lattice is sent. The device never waits for an answer: its own result is
available at the end-point. `edgespeech.metrics.arbitration` decides which one counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.cloud.second_pass import Answered, SecondPassStream
from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, RemoteTrace, Samples, Word
from edgespeech.endpointing.frames import FrameStream
from edgespeech.endpointing.policy import EndPointer
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.codec import Precision, Vocabulary, encode
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import prune, spoken
from edgespeech.lattice.phrases import add_phrases
from edgespeech.lattice.search import LatticeDecoder
from edgespeech.model.checkpoint import Trained
from edgespeech.model.contextual import attending
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.partials import PartialsStream

Labels = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Search and messages of a device.

    Attributes:
        trained: the model and its word pieces.
        beam: number of states of the search, see `LatticeDecoder`.
        merge: number of last labels that distinguish states.
        width: pruning beam of sent lattices, in nats.
        vocabulary: of messages.
        precision: of their scores.
        answer_deadline_s: how long after its own final it accepts an answer, in seconds.
        timeout_s: how long a measurement waits for the last answers, independently of the deadline.
        second_bonus: in the scores of sent lattices, the share of the search's bonuses of phrases.
    """

    trained: Trained
    beam: int
    merge: int
    width: float
    vocabulary: Vocabulary
    precision: Precision
    answer_deadline_s: float
    timeout_s: float
    second_bonus: float = 1.0


MAX_S = 180.0
"""Maximum audio of one stream: the lattice of the whole stream is sent at each end-point, and grows with it."""


class HybridStream(PartialsStream):
    """One utterance; words after an end-point are another segment, as for the server.

    Attributes:
        answer_deadline_s: see `Device`.
        timeout_s: see `Device`.

    Args:
        device: its search and messages.
        policy: a speculative and a final end-pointer, for several segments.
        connection: to the second pass; None: without.
        notes: why there is no second pass.
        bias: phrases that are likely, to which a model with attention also attends; None: no bias.
    """

    def __init__(
        self,
        device: Device,
        policy: EndPointer,
        connection: SecondPassStream | None,
        notes: Sequence[str] = (),
        bias: PhraseBias | None = None,
    ) -> None:
        trained = attending(device.trained, bias)
        super().__init__(trained.tokeniser.pieces, trained.model.config.frame_s)
        self.answer_deadline_s, self.timeout_s = device.answer_deadline_s, device.timeout_s
        self._device = device
        self._policy = policy
        self._connection = connection
        self._notes = list(notes)
        self._bias = bias
        self._decoder = LatticeDecoder(
            trained.model, device.beam, device.merge, fusion=trained.fusion, bias=bias
        )
        self._frames = FrameStream(trained, self._decoder)
        self._sent: list[tuple[Lattice, float]] = []  # sent lattices, and the audio received by then
        self._newest: Labels = ()  # the hypothesis of the last one
        self._closed: Labels = ()  # the hypothesis of the last final
        self._events: list[Event] = []

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take any number of samples: return events of the end-pointers, then a partial if the text has changed."""
        self._segments.heard += len(samples)
        if self._segments.heard > MAX_S * SAMPLE_RATE:
            raise bad(
                "hybrid", "audio so far", f"over {MAX_S:g} s", f"at most {MAX_S:g} s: split it at pauses"
            )
        self._hear(samples)
        self._learn()
        self._events += self._news()
        return self._taken()

    def finish(self) -> Sequence[Event]:
        """The final with its words, unless it was returned already."""
        self._end()
        if self._open or self._decoder.best.labels != self._closed:
            self._publish(EventKind.FINAL)
        return self._taken()

    def remote(self) -> RemoteTrace:
        """Wait for the answers, and return what the server did.

        The answer to the newest lattice is a final result, if the device's own final had the same hypothesis; others
        are speculative, like their lattices.
        """
        notes = tuple(self._notes)
        if self._connection is None:
            return RemoteTrace(answer_deadline_s=self.answer_deadline_s, notes=notes)
        trace = self._connection.remote(self.timeout_s)
        last = len(self._sent) - 1 if self._newest == self._closed else None
        replies = []
        for reply in trace.replies:
            kind = EventKind.FINAL if reply.after_message == last else EventKind.SPECULATIVE
            replies.append(replace(reply, event=self.answer(reply.after_message, reply.event.text, kind)))
        notes += self._connection.notes
        return replace(trace, replies=tuple(replies), answer_deadline_s=self.answer_deadline_s, notes=notes)

    def poll(self, timeout_s: float) -> Answered | None:
        """The next answer, see `SecondPassStream.poll`; for live runs."""
        if self._connection is None:
            time.sleep(timeout_s)
            return None
        return self._connection.poll(timeout_s)

    @property
    def waits(self) -> bool:
        """Whether an answer may still come."""
        return self._connection is not None and self._connection.waits

    def answer(self, message: int, text: str, kind: EventKind = EventKind.FINAL) -> Event:
        """The event of an answer, with word times from the sent lattice."""
        lattice, heard_s = self._sent[message]
        path = spoken(lattice, text)
        words = () if path is None else path.words(lattice.frame_s)
        return Event(kind=kind, text=text, words=tuple(_within(word, heard_s) for word in words))

    def state_bytes(self) -> int:
        """Bytes of the search's and the transcriber's state, without the lattice."""
        return self._frames.state_bytes + self._decoder.state_bytes

    def close(self) -> None:
        """Close the connection to the server."""
        if self._connection is not None:
            self._connection.close()

    def _hear(self, samples: Samples) -> None:
        for frame in self._frames.each(samples):
            for kind in self._policy.accept(frame):
                self._decide(kind, frame.audio_s)

    def _end(self) -> None:
        self._frames.finish()

    def _best(self) -> Hypothesis:
        return self._decoder.best

    def _decide(self, kind: EventKind, audio_s: float) -> None:
        """Process an event of the end-pointer."""
        if kind is EventKind.SPECULATIVE:
            self._publish(kind)
            return
        self._events.append(Event(kind=kind, audio_s=audio_s))
        self._open = True
        if kind is EventKind.ENDPOINT:
            self._publish(EventKind.FINAL)

    def _publish(self, kind: EventKind) -> None:
        """Send the lattice, and publish its best hypothesis."""
        self._send()
        best = self._best()
        self._learn()
        event = self._event(kind)
        self._events.append(event)
        self._said, self._changed = event.text, False
        self._open = kind is not EventKind.FINAL
        if not self._open:
            self._closed = best.labels

    def _send(self) -> None:
        """Send the lattice, unless the last one had the same hypothesis, or there are no words."""
        labels = self._decoder.best.labels
        if labels in ((), self._newest) or self._connection is None:
            return
        try:
            lattice = prune(self._decoder.lattice(self._pieces), self._device.width)
            if self._bias is not None:
                lattice = add_phrases(lattice, self._bias, self._device.second_bonus - 1)
            message = encode(lattice, self._device.vocabulary, self._device.precision)
            sent = self._connection.send(message, lambda text: spoken(lattice, text) is not None)
        except EdgeSpeechError as error:  # a lattice that is too large, or too many of them
            self._notes.append(f"a lattice was not sent: {error}")
            return
        self._newest = labels
        self._sent.append((lattice, self._segments.heard / SAMPLE_RATE))
        self._events.append(sent)

    def _taken(self) -> tuple[Event, ...]:
        taken, self._events = tuple(self._events), []
        return taken


def _within(word: Word, heard_s: float) -> Word:
    """A word with its end clipped to the received audio."""
    return replace(word, start_s=min(word.start_s, heard_s), end_s=min(word.end_s, heard_s))

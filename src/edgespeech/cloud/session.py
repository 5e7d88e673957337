"""The server's side of one stream, without sockets: messages in, replies out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgespeech.audio.codec import OpusDecoder
from edgespeech.audio.vad import Detector, Segmenter, SegmentRule
from edgespeech.cloud.protocol import (
    End,
    Endpoint,
    Final,
    Hello,
    ProtocolError,
    Rescored,
    TraceMessage,
    encode,
    parse_client,
    unpack_audio,
    unpack_request,
)
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError

ServerReply = Endpoint | Final | Rescored
Pause = Callable[[], None]
"""Called by long work between its steps: others may go on there, and it may never return."""


def without_pause() -> None:
    """A pause in which nobody else goes on."""


class Backend(Protocol):
    """The recogniser behind a server; used by one thread at a time."""

    def transcribe(
        self, samples: Samples, context: Sequence[str], language: str, pause: Pause = without_pause
    ) -> str:
        """The words in a stretch of audio.

        Args:
            samples: with shape `(N,)`, 16 kHz, in [-1, 1].
            context: phrases that a speaker is likely to use; may be empty.
            language: ISO 639-1 code.
            pause: called between steps of the work.
        """
        ...


class TooLongError(EdgeSpeechError):
    """The utterance is longer than the server allows."""


class Rescorer(Protocol):
    """The second pass behind a server; used by one thread at a time."""

    def rescore(self, lattice: bytes, pause: Pause = without_pause) -> str:
        """The likeliest words of a lattice, as it came from the client.

        Args:
            lattice: the bytes.
            pause: called between steps of the work.

        Raises:
            EdgeSpeechError: it is no lattice, or one that would take too long.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recognition:
    """Audio for a `Backend`, see there."""

    samples: Samples
    context: Sequence[str]
    language: str


@dataclass(frozen=True, slots=True)
class Rescoring:
    """A lattice for a `Rescorer`."""

    lattice: bytes


Job = Recognition | Rescoring
"""Work for a model, which a session leaves to whoever runs it."""


@dataclass(frozen=True, slots=True)
class Pausing:
    """Between two packets of audio: other tasks run here, and the remaining packets may be dropped."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job, and the seconds that the model took."""

    text: str
    compute_s: float


Work = Generator[ServerReply | Job | Pausing, str | None, None]
"""Replies, pauses, and jobs whose text is sent back in."""


class Session(ABC):
    """One utterance on the server: measures the work that each message causes.

    Attributes:
        finished: True after the last message.
    """

    def __init__(self) -> None:
        self._compute_s: list[float] = []
        self._causes: list[int] = []
        self._after_s: list[float] = []
        self.finished = False

    def handle(self, message: str | bytes) -> Generator[str | Job | Pausing, Done | None, None]:
        """Take one message and do the work that it causes; give each reply, JSON, as soon as it is there.

        Jobs for a model are given too; what came of them must be sent in. Between two packets of audio, each of which
        is 120 ms at most (RFC 6716, section 3.2.5), there is a pause.

        Raises:
            EdgeSpeechError: the message breaks the protocol or a limit; the stream cannot go on.
        """
        index = len(self._compute_s)
        self._compute_s.append(0.0)
        work = self._handle(message)
        text: str | None = None
        while True:
            started = time.perf_counter()
            try:
                step = work.send(text)
            except StopIteration:
                return
            finally:
                self._compute_s[index] += time.perf_counter() - started
            if isinstance(step, Job):
                done = yield step
                assert done is not None
                self._compute_s[index] += done.compute_s
                text = done.text
            elif isinstance(step, Pausing):
                text = None
                yield step
            else:
                text = None
                started = time.perf_counter()
                reply = encode(step)
                self._compute_s[index] += time.perf_counter() - started
                self._causes.append(index)
                self._after_s.append(self._compute_s[index])
                yield reply

    def trace(self) -> str:
        """What each message cost and which replies it caused, JSON."""
        return encode(TraceMessage(compute_s=self._compute_s, causes=self._causes, after_s=self._after_s))

    @property
    def n_bytes(self) -> int:
        """Memory that it holds for its client."""
        return 0

    @abstractmethod
    def _handle(self, message: str | bytes) -> Work:
        """The replies to a message, as the work that it causes gets done."""


class ServerSession(Session):
    """One utterance to recognise: decodes the audio, finds the ends of speech, has the segments recognised.

    A segment's recognition belongs to the message that ended the segment: the client learns of the end-point
    at once, and gets the text when it is there. Where the detector never found speech, the whole audio is recognised at
    `end`, so that a deaf detector does not turn into deleted words. It is finished once `end` was handled.
    """

    def __init__(self, detector: Detector, *, rule: SegmentRule, max_audio_s: float) -> None:
        super().__init__()
        self._segmenter = Segmenter(detector, rule)
        self._max_audio_s = max_audio_s
        self._decoder = OpusDecoder()
        self._hello: Hello | None = None
        self._audio: list[Samples] = []
        self._n_samples = 0
        self._n_finals = 0

    @property
    def n_bytes(self) -> int:
        """Memory that its audio takes."""
        return 4 * self._n_samples

    def _handle(self, message: str | bytes) -> Work:
        if self.finished:
            raise ProtocolError("client message: came after end, expected nothing more")
        if isinstance(message, bytes):
            if self._hello is None:
                raise ProtocolError("client message: audio came first, expected hello")
            for packet in unpack_audio(message):
                yield from self._hear(self._decoder.decode(packet))
                yield Pausing()
            return
        control = parse_client(message)
        if isinstance(control, End):
            if self._hello is None:
                raise ProtocolError("client message: end came first, expected hello")
            yield from self._end()
            return
        if self._hello is not None:
            raise ProtocolError("client message: a second hello, expected audio or end")
        self._hello = control

    def _hear(self, samples: Samples) -> Work:
        self._audio.append(samples)
        self._n_samples += len(samples)
        if self._n_samples > self._max_audio_s * SAMPLE_RATE:
            raise TooLongError(f"utterance: over {self._max_audio_s:g} s, the most that this server takes")
        yield from self._close(self._segmenter.accept(samples))

    def _close(self, segments: Sequence[tuple[int, int]]) -> Work:
        for start, end in segments:
            yield Endpoint(segment=self._n_finals, audio_s=self._audio_s())
            yield from self._final(start, end)

    def _end(self) -> Work:
        self.finished = True
        yield from self._hear(self._decoder.finish())
        yield from self._close(self._segmenter.finish())
        if self._segmenter.start is not None:
            yield from self._final(self._segmenter.start, self._n_samples)
        elif self._segmenter.found == 0:
            yield from self._final(0, self._n_samples)

    def _final(self, start: int, end: int) -> Work:
        assert self._hello is not None
        audio = np.concatenate(self._audio)
        self._audio = [audio]
        text: str | None = None
        if len(audio) > 0:
            text = yield Recognition(audio[start:end], self._hello.context, self._hello.language)
        self._n_finals += 1
        yield Final(segment=self._n_finals - 1, text=(text or "").strip(), audio_s=self._audio_s())

    def _audio_s(self) -> float:
        return round(self._n_samples / SAMPLE_RATE, 3)


class RescoringSession(Session):
    """One utterance to rescore: every message is a revision of its lattice. It goes on until the client leaves."""

    def __init__(self) -> None:
        super().__init__()
        self._revision = -1

    def _handle(self, message: str | bytes) -> Work:
        if isinstance(message, str):
            raise ProtocolError("request: text came, expected a lattice in a binary message")
        revision, lattice = unpack_request(message)
        if revision <= self._revision:
            raise ProtocolError(
                f"request: revision {revision} came after {self._revision}, expected a higher one"
            )
        self._revision = revision
        text = yield Rescoring(lattice)
        yield Rescored(revision=revision, text=text or "")

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
"""Called between the steps of long work: other work may run in it, and it may never return."""


def without_pause() -> None:
    """A pause without other work."""


class Backend(Protocol):
    """The recogniser behind a server; used by one thread at a time."""

    def transcribe(
        self, samples: Samples, context: Sequence[str], language: str, pause: Pause = without_pause
    ) -> str:
        """Transcribe audio.

        Args:
            samples: with shape `(N,)`, 16 kHz, in [-1, 1].
            context: likely phrases; may be empty.
            language: ISO 639-1 code.
            pause: called between steps of the work.
        """
        ...


class TooLongError(EdgeSpeechError):
    """The utterance is longer than the server allows."""


class Rescorer(Protocol):
    """The second pass behind a server; used by one thread at a time."""

    def rescore(self, lattice: bytes, pause: Pause = without_pause) -> str:
        """The likeliest words of a client's lattice.

        Args:
            lattice: the bytes.
            pause: called between steps of the work.

        Raises:
            EdgeSpeechError: it is not a lattice, or one that would take too long.
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
"""Work for a model, which the caller of a session runs."""


@dataclass(frozen=True, slots=True)
class Pausing:
    """A pause after a packet of audio, with more to process: other work may run here, and the rest may be dropped."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a job, and the model's compute time in seconds."""

    text: str
    compute_s: float


Work = Generator[ServerReply | Job | Pausing, str | None, None]
"""A generator of replies, pauses, and jobs, whose results are sent into it."""


class Session(ABC):
    """One utterance on the server, with the compute time of each message.

    Attributes:
        finished: True after the last reply.
    """

    def __init__(self) -> None:
        self._compute_s: list[float] = []
        self._causes: list[int] = []
        self._after_s: list[float] = []
        self.finished = False

    def handle(self, message: str | bytes) -> Generator[str | Job | Pausing, Done | None, None]:
        """Process one message; yield each reply, JSON, as soon as it is available.

        Jobs for a model are yielded too, and their results must be sent in. Between two packets of audio, each of which
        is 120 ms at most (RFC 6716, section 3.2.5), there is a pause.

        Raises:
            EdgeSpeechError: the message violates the protocol or a limit; the stream cannot continue.
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
        """The compute time of each message and the replies it caused, JSON."""
        return encode(TraceMessage(compute_s=self._compute_s, causes=self._causes, after_s=self._after_s))

    @property
    def n_bytes(self) -> int:
        """Memory held for its client."""
        return 0

    @abstractmethod
    def _handle(self, message: str | bytes) -> Work:
        """The replies to a message, while it is processed."""


class ServerSession(Session):
    """One utterance to recognise: decodes the audio, detects the ends of speech, and recognises the segments.

    A segment's recognition belongs to the message that ended the segment: the end-point is sent at once, the text after
    recognition. If the detector never found speech, the whole audio is recognised at `end`, so that misses of the
    detector do not become deletions. The session is finished after `end`.
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
        """Memory of its audio."""
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
    """One utterance to rescore: every message is a revision of its lattice. It ends when the client leaves."""

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

"""The server's side of one stream, without sockets: messages in, replies out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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


class Backend(Protocol):
    """The recogniser behind a server; used by one thread at a time."""

    def transcribe(self, samples: Samples, context: Sequence[str], language: str) -> str:
        """The words in a stretch of audio.

        Args:
            samples: with shape `(N,)`, 16 kHz, in [-1, 1].
            context: phrases that are likely to be said; may be empty.
            language: ISO 639-1 code.
        """
        ...


class NoBackend:
    """Of a server for lattices alone."""

    def transcribe(self, samples: Samples, context: Sequence[str], language: str) -> str:
        """Refuse.

        Raises:
            EdgeSpeechError: always.
        """
        raise EdgeSpeechError("server: it rescores lattices, and recognises no audio")


class TooLongError(EdgeSpeechError):
    """The utterance is longer than the server allows."""


class Rescorer(Protocol):
    """The second pass behind a server; used by one thread at a time."""

    def rescore(self, lattice: bytes) -> str:
        """The likeliest words of a lattice, as it came from the client.

        Raises:
            EdgeSpeechError: it is no lattice, or one that would take too long.
        """
        ...


class Session(ABC):
    """One utterance on the server: measures the work that each message causes.

    Attributes:
        finished: True once everything is said.
    """

    def __init__(self) -> None:
        self._compute_s: list[float] = []
        self._causes: list[int] = []
        self._after_s: list[float] = []
        self.finished = False

    def handle(self, message: str | bytes) -> Iterator[str]:
        """Take one message and do the work that it causes; give each reply, JSON, as soon as it is there.

        Raises:
            EdgeSpeechError: the message breaks the protocol or a limit; the stream cannot go on.
        """
        index = len(self._compute_s)
        self._compute_s.append(0.0)
        work = self._handle(message)
        while True:
            started = time.perf_counter()
            reply = next(work, None)
            text = None if reply is None else encode(reply)
            self._compute_s[index] += time.perf_counter() - started
            if text is None:
                return
            self._causes.append(index)
            self._after_s.append(self._compute_s[index])
            yield text

    def trace(self) -> str:
        """What each message cost and which replies it caused, JSON."""
        return encode(TraceMessage(compute_s=self._compute_s, causes=self._causes, after_s=self._after_s))

    @abstractmethod
    def _handle(self, message: str | bytes) -> Iterator[ServerReply]:
        """The replies to a message, as the work that it causes gets done."""


class ServerSession(Session):
    """One utterance to recognise: decodes the audio, finds the ends of speech, has the segments recognised.

    A segment's recognition belongs to the message that ended the segment: the end-point is told at once, the
    text when it is there. Where the detector never found speech, the whole audio is recognised at `end`, so that a deaf
    detector does not turn into deleted words. It is finished once `end` was handled.
    """

    def __init__(
        self, backend: Backend, detector: Detector, *, rule: SegmentRule, max_audio_s: float
    ) -> None:
        super().__init__()
        self._backend = backend
        self._segmenter = Segmenter(detector, rule)
        self._max_audio_s = max_audio_s
        self._decoder = OpusDecoder()
        self._hello: Hello | None = None
        self._audio: list[Samples] = []
        self._n_samples = 0
        self._n_finals = 0

    def _handle(self, message: str | bytes) -> Iterator[ServerReply]:
        if self.finished:
            raise ProtocolError("client message: came after end, expected nothing more")
        if isinstance(message, bytes):
            if self._hello is None:
                raise ProtocolError("client message: audio came first, expected hello")
            for packet in unpack_audio(message):
                yield from self._hear(self._decoder.decode(packet))
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

    def _hear(self, samples: Samples) -> Iterator[ServerReply]:
        self._audio.append(samples)
        self._n_samples += len(samples)
        if self._n_samples > self._max_audio_s * SAMPLE_RATE:
            raise TooLongError(f"utterance: over {self._max_audio_s:g} s, the most that this server takes")
        yield from self._close(self._segmenter.accept(samples))

    def _close(self, segments: Sequence[tuple[int, int]]) -> Iterator[ServerReply]:
        for start, end in segments:
            yield Endpoint(segment=self._n_finals, audio_s=self._audio_s())
            yield self._final(start, end)

    def _end(self) -> Iterator[ServerReply]:
        self.finished = True
        yield from self._hear(self._decoder.finish())
        yield from self._close(self._segmenter.finish())
        if self._segmenter.start is not None:
            yield self._final(self._segmenter.start, self._n_samples)
        elif self._segmenter.found == 0:
            yield self._final(0, self._n_samples)

    def _final(self, start: int, end: int) -> Final:
        assert self._hello is not None
        audio = np.concatenate(self._audio)
        self._audio = [audio]
        text = ""
        if len(audio) > 0:
            text = self._backend.transcribe(audio[start:end], self._hello.context, self._hello.language)
        self._n_finals += 1
        return Final(segment=self._n_finals - 1, text=text.strip(), audio_s=self._audio_s())

    def _audio_s(self) -> float:
        return round(self._n_samples / SAMPLE_RATE, 3)


class RescoringSession(Session):
    """One utterance to rescore: every message is a revision of its lattice. It goes on until the client leaves."""

    def __init__(self, rescorer: Rescorer) -> None:
        super().__init__()
        self._rescorer = rescorer
        self._revision = -1

    def _handle(self, message: str | bytes) -> Iterator[ServerReply]:
        if isinstance(message, str):
            raise ProtocolError("request: text came, expected a lattice in a binary message")
        revision, lattice = unpack_request(message)
        if revision <= self._revision:
            raise ProtocolError(
                f"request: revision {revision} came after {self._revision}, expected a higher one"
            )
        self._revision = revision
        yield Rescored(revision=revision, text=self._rescorer.rescore(lattice))

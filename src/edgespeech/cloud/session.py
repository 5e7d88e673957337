"""The server's side of one stream, without sockets: messages in, replies out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from edgespeech.cloud.codec import OpusDecoder
from edgespeech.cloud.protocol import (
    End,
    Endpoint,
    Final,
    Hello,
    ProtocolError,
    TraceMessage,
    encode,
    parse_client,
    unpack_audio,
)
from edgespeech.cloud.vad import Detector, Segmenter, SegmentRule
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError


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


class TooLongError(EdgeSpeechError):
    """The utterance is longer than the server allows."""


class ServerSession:
    """One utterance on the server: decodes the audio, finds the ends of speech, has the segments recognised.

    A segment's recognition belongs to the message that ended the segment: the end-point is told at once, the
    text when it is there. Where the detector never found speech, the whole audio is recognised at `end`, so that a deaf
    detector does not turn into deleted words.

    Attributes:
        finished: True once `end` was handled.
    """

    def __init__(
        self, backend: Backend, detector: Detector, *, rule: SegmentRule, max_audio_s: float
    ) -> None:
        self._backend = backend
        self._segmenter = Segmenter(detector, rule)
        self._max_audio_s = max_audio_s
        self._decoder = OpusDecoder()
        self._hello: Hello | None = None
        self._audio: list[Samples] = []
        self._n_samples = 0
        self._n_finals = 0
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

    def _handle(self, message: str | bytes) -> Iterator[Endpoint | Final]:
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

    def _hear(self, samples: Samples) -> Iterator[Endpoint | Final]:
        self._audio.append(samples)
        self._n_samples += len(samples)
        if self._n_samples > self._max_audio_s * SAMPLE_RATE:
            raise TooLongError(f"utterance: over {self._max_audio_s:g} s, the most that this server takes")
        yield from self._close(self._segmenter.accept(samples))

    def _close(self, segments: Sequence[tuple[int, int]]) -> Iterator[Endpoint | Final]:
        for start, end in segments:
            yield Endpoint(segment=self._n_finals, audio_s=self._audio_s())
            yield self._final(start, end)

    def _end(self) -> Iterator[Endpoint | Final]:
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

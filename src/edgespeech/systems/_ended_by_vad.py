"""Base of recognisers whose utterances a voice activity detector ends, the same one for all.

Engines without an end-pointer of their own wait for the end of the audio, and those with one each have another: their
waits say more about that than about the recogniser. Here Silero VAD ends an utterance after a silence, as the server of
`cloud-whisper-base` does, and the recogniser's own end-pointer has no say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgespeech.audio.vad import Segmenter, SegmentRule, SileroDetector, silero_file
from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    Request,
    Samples,
    Stream,
    SystemInfo,
    Word,
)
from edgespeech.core.extras import missing
from edgespeech.core.files import sha256_file

_RULE = SegmentRule()


class EndedStream(Stream):
    """One utterance: a stream of the recogniser for each segment of speech, whose texts follow each other.

    The first begins with the audio; later ones with their speech, so that nobody recognises the silence between.
    """

    def __init__(
        self, begin: Callable[[], Stream], segmenter: Segmenter, *, chunk_s: float, padding_s: float
    ) -> None:
        """Open the first stream.

        Args:
            begin: opens a stream of the recogniser.
            segmenter: finds the segments.
            chunk_s: most audio that the recogniser takes at once.
            padding_s: so much before the detected speech may belong to its segment.
        """
        self._begin = begin
        self._segmenter = segmenter
        self._chunk = round(chunk_s * SAMPLE_RATE)
        self._kept = round(padding_s * SAMPLE_RATE)
        self._stream: Stream | None = begin()
        self._from = 0
        self._heard = 0
        self._recent = np.zeros(0, np.float32)
        self._text = ""
        self._words: tuple[Word, ...] = ()

    def accept(self, samples: Samples) -> Sequence[Event]:
        self._heard += len(samples)
        return self._go_on(samples, self._segmenter.accept(samples))

    def finish(self) -> Sequence[Event]:
        events = [*self._go_on(np.zeros(0, np.float32), self._segmenter.finish())]
        return [*events, *(self._end() if self._stream is not None else ())]

    def state_bytes(self) -> int | None:
        return None if self._stream is None else self._stream.state_bytes()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _go_on(self, samples: Samples, ended: Sequence[tuple[int, int]]) -> Sequence[Event]:
        events: list[Event] = []
        if self._stream is not None:
            if len(samples):
                events += self._relayed(self._stream.accept(samples))
        else:
            self._recent = np.concatenate([self._recent, samples])
            start = ended[0][0] if ended else self._segmenter.start
            if start is None:
                self._recent = self._recent[-self._kept - len(samples) :]
                return ()
            events += self._begin_at(start)
        if ended:
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=self._heard / SAMPLE_RATE))
            events += self._end()
        return events

    def _begin_at(self, start: int) -> list[Event]:
        """Open a stream for what was heard from this sample on."""
        first = self._heard - len(self._recent)
        audio, self._recent = self._recent[max(0, start - first) :], np.zeros(0, np.float32)
        self._stream, self._from = self._begin(), self._heard - len(audio)
        events: list[Event] = []
        for at in range(0, len(audio), self._chunk):
            events += self._relayed(self._stream.accept(audio[at : at + self._chunk]))
        return events

    def _end(self) -> list[Event]:
        """End the recogniser's stream: its last final is the segment's."""
        assert self._stream is not None
        finals = [event for event in self._stream.finish() if event.kind is EventKind.FINAL]
        self._stream.close()
        self._stream = None
        final = self._behind(finals[-1] if finals else Event(kind=EventKind.FINAL))
        self._text, self._words = final.text, final.words
        return [final]

    def _relayed(self, events: Sequence[Event]) -> list[Event]:
        """The hypotheses among a stream's events: its own end-pointer has no say."""
        told = []
        for event in events:
            if event.kind is EventKind.SETTLED:
                told.append(self._behind(event))
                self._text, self._words = "", ()
            elif event.kind in (EventKind.PARTIAL, EventKind.FINAL):
                told.append(replace(self._behind(event), kind=EventKind.PARTIAL))
        return told

    def _behind(self, event: Event) -> Event:
        """A hypothesis behind the text of the segments before, with word times of the whole utterance."""
        shift_s = self._from / SAMPLE_RATE
        words = tuple(
            replace(word, start_s=word.start_s + shift_s, end_s=word.end_s + shift_s) for word in event.words
        )
        text = " ".join(filter(None, (self._text, event.text)))
        return Event(kind=event.kind, text=text, words=self._words + words if words else ())


class EndedByVad(Recogniser):
    """A recogniser on the device with Silero VAD before it; a subclass names the recogniser.

    Attributes:
        of: the recogniser, whose name, languages and use of context are taken over.
        own: its option that, as None, turns its own end-pointer off; None: it has none, or it is always on.
    """

    kind = Kind.DEVICE
    of: ClassVar[type[Recogniser]]
    own: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        """Take over the recogniser's name, languages and use of context."""
        cls.name = f"{cls.of.name}-vad"
        cls.summary = f"{cls.of.name}, whose utterances Silero VAD ends"
        cls.languages, cls.takes_context = cls.of.languages, cls.of.takes_context
        cls.takes_lead_in = False  # each segment that the detector finds is a stream of its own

    def __init__(self, *, silence_s: float = _RULE.silence_s, **options: Any) -> None:
        """`silence_s`: of trailing silence end an utterance. The other options are the recogniser's.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        self._rule = SegmentRule(silence_s=silence_s)
        off = {} if self.own is None else {self.own: None}
        self._recogniser = self.of(**{**off, **options})
        self._chunk_s = 0.0

    def missing(self) -> str | None:
        """The missing package, weights or model."""
        return missing("faster_whisper") or self._recogniser.missing()

    def files(self) -> Mapping[str, Path]:
        """The recogniser's."""
        return self._recogniser.files()

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        """The recogniser's."""
        return self._recogniser.context_remarks(context, weights)

    def load(self) -> SystemInfo:
        """Load the recogniser and the detector.

        Raises:
            EdgeSpeechError: as the recogniser.
        """
        info, detector = self._recogniser.load(), silero_file()
        self._chunk_s = info.chunk_s
        SileroDetector()  # loads the network, which all detectors share
        return replace(
            info,
            name=self.name,
            model_bytes=info.model_bytes + detector.stat().st_size,
            model_sha256={**info.model_sha256, detector.name: sha256_file(detector)},
            citation=f"{info.citation}; Silero VAD, MIT",
            config={
                **info.config,
                "vad_silence_s": self._rule.silence_s,
                "vad_padding_s": self._rule.padding_s,
            },
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: as the recogniser.
        """
        return EndedStream(
            lambda: self._recogniser.open(request),
            Segmenter(SileroDetector(), self._rule),
            chunk_s=self._chunk_s,
            padding_s=self._rule.padding_s,
        )

    def helper_pids(self) -> Sequence[int]:
        """The recogniser's."""
        return self._recogniser.helper_pids()

    def close(self) -> None:
        """Close the recogniser."""
        self._recogniser.close()

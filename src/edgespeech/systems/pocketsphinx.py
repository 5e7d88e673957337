"""PocketSphinx 5: a streaming recogniser of the generation before neural networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.search.segments import Segments
from edgespeech.systems._shared import pcm16, ready

FRAMES_PER_S = 100
_VARIANT = re.compile(r"\(\d+\)$")


class _SphinxStream(Stream):
    """Owns its decoder until `close`, which returns it to the recogniser's pool.

    Long audio is split into several utterances of the decoder by `edgespeech.search.segments`.
    """

    def __init__(self, decoder: Any, pool: list[Any]) -> None:
        self._decoder = decoder
        self._pool = pool
        self._said = ""
        self._segments = Segments()
        self._listening = True
        decoder.reinit_feat()  # forgets the cepstral means and noise levels of the utterance before
        decoder.start_utt()

    def accept(self, samples: Samples) -> Sequence[Event]:
        self._decoder.process_raw(pcm16(samples))
        segments, events = self._segments, []
        segments.heard += len(samples)
        text = self._text()
        if text != self._said:
            self._said, segments.emitted = text, segments.heard
            events.append(Event(kind=EventKind.PARTIAL, text=text, words=self._words()))
        if segments.is_over:
            self._decoder.end_utt()
            events.append(Event(kind=EventKind.SETTLED, text=self._text(), words=self._words()))
            self._decoder.start_utt()
            self._said = ""
            segments.begin()
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        self._decoder.end_utt()
        self._listening = False
        return (Event(kind=EventKind.FINAL, text=self._text(), words=self._words()),)

    def _text(self) -> str:
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis is not None else ""

    def _words(self) -> tuple[Word, ...]:
        """The words without silences and noises (`<sil>`, `[NOISE]`) and pronunciation numbers (`the(2)`)."""
        start_s = self._segments.start / SAMPLE_RATE
        return tuple(
            Word(
                text=_VARIANT.sub("", segment.word),
                start_s=start_s + segment.start_frame / FRAMES_PER_S,
                end_s=start_s + (segment.end_frame + 1) / FRAMES_PER_S,
            )
            for segment in self._decoder.seg() or ()
            if segment.word[0] not in "<["
        )

    def close(self) -> None:
        if self._decoder is None:
            return
        if self._listening:
            self._decoder.end_utt()
        self._pool.append(self._decoder)
        self._decoder = None


class PocketSphinx(Recogniser):
    """PocketSphinx 5 with the US English models of its wheel and default settings."""

    name = "pocketsphinx"
    kind = Kind.DEVICE
    languages = ("en",)
    takes_context = False
    summary = "PocketSphinx 5, HMM and trigrams, streaming, its own US English models"

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._folder: Path | None = None

    def missing(self) -> str | None:
        """The missing package, which includes the models."""
        if find_spec("pocketsphinx") is None:
            return "package pocketsphinx is not installed"
        return weights_available("pocketsphinx-en-us")

    def load(self) -> SystemInfo:
        """Verify the models and load one decoder.

        Raises:
            EdgeSpeechError: the models are missing or have another hash.
        """
        weights = resolve_weights("pocketsphinx-en-us")
        self._folder = weights.folder
        self._idle = [self._decoder()]
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=weights.n_bytes,
            parameters=None,
            chunk_s=0.1,
            citation=f"PocketSphinx {version('pocketsphinx')}, BSD-2-Clause "
            f"(Huggins-Daines et al., ICASSP 2006); {weights.citation}",
            config={"search": "fwdtree + fwdflat + bestpath, defaults", "lm": "en-us trigram"},
            model_sha256=weights.files,
            notes=("the final comes from a second pass at the end of the file",),
        )

    def _decoder(self) -> Any:
        import pocketsphinx

        assert self._folder is not None
        return pocketsphinx.Decoder(
            hmm=str(self._folder / "en-us"),
            lm=str(self._folder / "en-us.lm.bin"),
            dict=str(self._folder / "cmudict-en-us.dict"),
            loglevel="FATAL",
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance on an idle decoder; load one more when all are busy.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        ready(self, self._folder, request)
        return _SphinxStream(self._idle.pop() if self._idle else self._decoder(), self._idle)

    def close(self) -> None:
        """Release the decoders."""
        self._idle = []
        self._folder = None

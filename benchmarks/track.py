"""Figures that are not times: word errors of an outside engine on the shipped corpus, and bytes."""

from __future__ import annotations

from benchmarks.common import noise
from edgespeech.contracts import EventKind, Request
from edgespeech.corpora.weights import load_spec, model_names
from edgespeech.errors import EdgeSpeechError

N_UTTERANCES = 8
OPUS_AUDIO_S = 30


class PocketSphinx:
    """Eight utterances of `assistant_mini`, the same ones in every run."""

    timeout = 300

    def setup(self) -> None:
        from edgespeech.corpora.fetch import manifest_of
        from edgespeech.systems.pocketsphinx import PocketSphinx as System

        self.recogniser = System()
        if reason := self.recogniser.missing():
            raise NotImplementedError(reason)
        try:
            self.manifest = manifest_of("assistant_mini").subset(N_UTTERANCES, seed=0)
        except EdgeSpeechError as error:
            raise NotImplementedError(str(error)) from error
        self.chunk_s = self.recogniser.load().chunk_s

    def track_wer(self) -> float:
        from edgespeech.harness.runner import run_utterance
        from edgespeech.metrics.wer import count_errors, wer
        from edgespeech.text.normalise import normalisers

        normalise = normalisers()["basic"]
        hypotheses: list[str] = []
        for line in self.manifest.utterances:
            samples = self.manifest.read(line)
            trace = run_utterance(
                self.recogniser, samples, Request(utterance_id=line.id), chunk_s=self.chunk_s
            )
            finals = [event.text for _, event in trace.events if event.kind is EventKind.FINAL]
            hypotheses.append(normalise(finals[-1] if finals and trace.failure is None else ""))
        references = [normalise(line.text) for line in self.manifest.utterances]
        return wer(count_errors(references, hypotheses))

    track_wer.unit = "WER"  # type: ignore[attr-defined]  # asv reads it from the function


class Opus:
    def setup(self) -> None:
        from edgespeech.audio.codec import OpusEncoder

        self.encoder = OpusEncoder()
        self.samples = noise(OPUS_AUDIO_S)

    def track_bytes_per_second(self) -> float:
        packets = self.encoder.encode(self.samples) + self.encoder.finish()
        return sum(map(len, packets)) / OPUS_AUDIO_S

    track_bytes_per_second.unit = "bytes/s of audio"  # type: ignore[attr-defined]


class Model:
    """What the first source of each model weighs."""

    params = tuple(model_names())
    param_names = ("model",)

    def track_bytes(self, name: str) -> int:
        return sum(file.n_bytes for file in load_spec(name).sources[0].files.values())

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]

"""Scoring 1,000 utterances of 10 words: normalisers, word errors, intervals."""

from __future__ import annotations

from benchmarks.common import error_counts, texts
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio
from edgespeech.metrics.wer import count_errors
from edgespeech.text.normalise import normalisers


class Wer:
    def setup(self) -> None:
        self.references, self.hypotheses = texts()
        count_errors(self.references[:1], self.hypotheses[:1])  # the import is not the scoring

    def time_count_errors(self) -> None:
        count_errors(self.references, self.hypotheses)


class Normalise:
    params = tuple(normalisers())
    param_names = ("normaliser",)

    def setup(self, name: str) -> None:
        self.normalise = normalisers()[name]
        self.references, _ = texts()
        self.normalise(self.references[0])

    def time_normalise(self, name: str) -> None:
        for text in self.references:
            self.normalise(text)


class Bootstrap:
    def setup(self) -> None:
        self.errors, self.words, self.speakers = error_counts()
        self.values = [[float(error), float(error) / 2] for error in self.errors]

    def time_ratio(self) -> None:
        bootstrap_ratio(self.errors, self.words, self.speakers, seed=0)

    def time_quantile(self) -> None:
        bootstrap_quantile(self.values, 0.9, self.speakers, seed=0)

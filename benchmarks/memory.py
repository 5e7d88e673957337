"""Peak memory of a process that does only this."""

from __future__ import annotations

from benchmarks.common import error_counts, noise, texts


class Peak:
    def peakmem_features(self) -> None:
        from edgespeech.audio.features import log_mel

        log_mel(noise(60))

    def peakmem_count_errors(self) -> None:
        from edgespeech.metrics.wer import count_errors

        count_errors(*texts())

    def peakmem_bootstrap(self) -> None:
        from edgespeech.metrics.statistics import bootstrap_ratio

        errors, words, speakers = error_counts()
        bootstrap_ratio(errors, words, speakers, seed=0)

from __future__ import annotations

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics import silence
from edgespeech.metrics.registry import Scored
from edgespeech.metrics.silence import words_invented_per_minute


def test_words_per_minute_is_one_ratio() -> None:
    assert words_invented_per_minute(["thank you", "", "thanks for watching bye"], [30, 60, 30]) == 3.0


@pytest.mark.parametrize(("hyps", "durations_s"), [([], []), (["a"], [0.0]), (["a", "b"], [1.0])])
def test_what_cannot_be_divided_is_refused(hyps: list[str], durations_s: list[float]) -> None:
    with pytest.raises(EdgeSpeechError, match="silence"):
        words_invented_per_minute(hyps, durations_s)


def test_only_audio_without_words_counts() -> None:
    scored = [
        Scored(duration_s=60.0, reference="", hypothesis="you you"),
        Scored(duration_s=60.0, reference="", hypothesis=""),
        Scored(duration_s=60.0, reference="a", hypothesis="a b c d"),
    ]
    figure = silence.measure(scored, seed=0)["invented_wpm"]
    assert (figure.value, figure.n, figure.unit) == (1.0, 2, "wpm")
    assert silence.measure(scored[2:], seed=0) == {}

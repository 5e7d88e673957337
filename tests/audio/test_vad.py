from __future__ import annotations

import numpy as np
import pytest

from cloud.fakes import EnergyDetector, silence, tone
from edgespeech.audio.vad import WINDOW, Segmenter, SegmentRule, SileroDetector
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError

RULE = SegmentRule(silence_s=0.7, padding_s=0.2)


def windows(n: int, loud: bool) -> Samples:
    return tone(n * WINDOW / 16000) if loud else silence(n * WINDOW / 16000)


def run(samples: Samples, chunk: int, rule: SegmentRule = RULE) -> tuple[list[tuple[int, int]], Segmenter]:
    segmenter = Segmenter(EnergyDetector(), rule)
    ended = [s for i in range(0, len(samples), chunk) for s in segmenter.accept(samples[i : i + chunk])]
    return ended + segmenter.finish(), segmenter


def test_a_segment_ends_after_the_stated_silence() -> None:
    samples = np.concatenate([windows(20, False), windows(30, True), windows(40, False)])
    ended, segmenter = run(samples, 1600)
    # Speech from window 20 to 50; 0.7 s are 21.9 windows, so the 22nd silent one decides; 0.2 s of padding.
    assert ended == [(20 * WINDOW - 3200, (50 + 22) * WINDOW)]
    assert segmenter.start is None
    assert segmenter.found == 1


def test_a_shorter_pause_does_not_end_it() -> None:
    samples = np.concatenate([windows(10, True), windows(21, False), windows(10, True)])
    ended, segmenter = run(samples, 1600)
    assert ended == []
    assert segmenter.start == 0


def test_later_speech_opens_a_new_segment_that_does_not_reach_back_into_the_first() -> None:
    samples = np.concatenate([windows(10, True), windows(25, False), windows(10, True), windows(30, False)])
    ended, segmenter = run(samples, 1600)
    assert ended == [(0, 32 * WINDOW), (32 * WINDOW, (45 + 22) * WINDOW)]
    assert segmenter.found == 2


def test_silence_alone_finds_nothing() -> None:
    ended, segmenter = run(windows(100, False), 1600)
    assert (ended, segmenter.found) == ([], 0)


@pytest.mark.parametrize("chunk", [1, 511, 512, 513, 5000, 10**6])
def test_chunks_do_not_matter(chunk: int) -> None:
    samples = np.concatenate([silence(0.31), tone(0.5), silence(1.0), tone(0.2)])
    ended, segmenter = run(samples, chunk)
    expected, other = run(samples, 1600)
    assert (ended, segmenter.start) == (expected, other.start)
    assert len(ended) == 1


def test_the_last_partial_window_counts() -> None:
    segmenter = Segmenter(EnergyDetector(), RULE)
    assert segmenter.accept(tone(0.02)) == []
    assert segmenter.found == 0
    segmenter.finish()
    assert segmenter.found == 1


def test_between_the_thresholds_what_was_goes_on() -> None:
    probabilities = iter([0.4, 0.6, 0.4, 0.3, 0.4, 0.4, 0.6, 0.4, 0.4, 0.4, 0.2, 0.4, 0.4])
    rule = SegmentRule(silence_s=3 * WINDOW / 16000, padding_s=0)
    segmenter = Segmenter(lambda window: next(probabilities), rule)
    ended = segmenter.accept(silence(13 * WINDOW / 16000))
    # Opens at window 1; the silence from 3 reaches its length with window 5.
    assert ended == [(WINDOW, 6 * WINDOW), (6 * WINDOW, 13 * WINDOW)]


def test_silero_in_a_stream_equals_silero_on_the_whole() -> None:
    from faster_whisper.vad import get_vad_model

    rng = np.random.default_rng(0)
    t = np.arange(60 * WINDOW) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 120 * t)) * (0.2 + 0.2 * np.sin(2 * np.pi * 4 * t))
    samples = (buzz + 0.01 * rng.standard_normal(len(t))).astype(np.float32)
    detector = SileroDetector()
    streamed = [detector(samples[i : i + WINDOW]) for i in range(0, len(samples), WINDOW)]
    # The batch code clears the very last samples in place, so a last window of silence is left out.
    whole = np.asarray(get_vad_model()(np.concatenate([samples, silence(WINDOW / 16000)]))).reshape(-1)[:-1]
    np.testing.assert_allclose(streamed, whole, atol=1e-4)
    assert np.ptp(whole) > 0.01


@pytest.mark.parametrize("silence_s", [-0.1, 11, float("nan")])
def test_rule_out_of_range(silence_s: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"segment rule: silence_s is .*, expected 0 to 10 s"):
        SegmentRule(silence_s=silence_s)

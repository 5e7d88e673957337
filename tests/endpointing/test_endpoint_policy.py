"""Policies: when they fire, publish, withdraw and end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgespeech.contracts import SAMPLE_RATE, EventKind
from edgespeech.endpointing.frames import Frame
from edgespeech.endpointing.policy import EndPointer, Gate, Guarded, Scorer, Shared
from edgespeech.endpointing.scorers import silence_policy
from edgespeech.endpointing.silence import DecoderSilence, DetectedSilence, EnergySilence
from edgespeech.errors import EdgeSpeechError

RESET, SPECULATIVE, ENDPOINT = EventKind.RESET, EventKind.SPECULATIVE, EventKind.ENDPOINT
STEP = 640


def frame(labels: Sequence[int] = (), pause_s: float = math.inf, samples: np.ndarray | None = None) -> Frame:
    silence = np.zeros(STEP, np.float32)
    return Frame(
        audio_s=0.0,
        samples=silence if samples is None else samples.astype(np.float32),
        encoded=np.zeros(4, np.float32),
        labels=tuple(labels),
        pause_s=pause_s,
    )


class Given(Scorer):
    def __init__(self, *scores: float) -> None:
        self._scores = iter(scores)

    def accept(self, frame: Frame) -> float:
        return next(self._scores)


def test_a_single_policy_ends_once() -> None:
    policy = EndPointer(Gate(Given(0.1, 0.5, 0.9), 0.5))
    assert [policy.accept(frame((1,), 0.1)) for _ in range(3)] == [(), (ENDPOINT,), ()]
    assert policy.ended


def test_further_words_are_a_further_segment_where_that_is_wanted() -> None:
    policy = EndPointer(Gate(Given(0, 1, 1, 1, 0, 1, 1), 1), Gate(Given(1, 1, 1, 0, 1, 1, 1), 1), again=True)
    said = [(1,), (1,), (1,), (1, 2), (1, 2), (1, 2), (1, 2)]
    assert [policy.accept(frame(labels, 0.1)) for labels in said] == [
        (SPECULATIVE,), (ENDPOINT,), (), (ENDPOINT,), (), (), (),
    ]  # fmt: skip
    policy = EndPointer(Gate(Given(1, 0, 0, 1), 1), Gate(Given(0, 1, 0, 1), 1), again=True)
    said = [(1,), (1, 2), (1, 2, 3), (1, 2, 3)]
    assert [policy.accept(frame(labels, 0.1)) for labels in said] == [
        (ENDPOINT,), (SPECULATIVE,), (RESET,), (ENDPOINT,),
    ]  # fmt: skip


def test_a_speculative_result_that_stays_is_not_reset() -> None:
    policy = EndPointer(Gate(Given(0, 0, 0, 1), 1), Gate(Given(0, 1, 1, 1), 1))
    assert [policy.accept(frame((1,), 0.1)) for _ in range(4)] == [(), (SPECULATIVE,), (), (ENDPOINT,)]


def test_words_after_a_speculative_result_withdraw_it() -> None:
    policy = EndPointer(Gate(Given(0, 0, 0, 1), 1), Gate(Given(1, 0, 1, 1), 1))
    said = [(1,), (1, 2), (1, 2), (1, 2)]
    assert [policy.accept(frame(labels, 0.1)) for labels in said] == [
        (SPECULATIVE,), (RESET,), (SPECULATIVE,), (ENDPOINT,),
    ]  # fmt: skip


def test_words_that_come_with_the_end_point_withdraw_what_was_published() -> None:
    policy = EndPointer(Gate(Given(0, 1), 1), Gate(Given(1, 1), 1))
    assert [policy.accept(frame(labels, 0.1)) for labels in [(1,), (1, 2)]] == [
        (SPECULATIVE,),
        (RESET, ENDPOINT),
    ]


def test_a_shared_scorer_scores_every_frame_once() -> None:
    shared = Shared(Given(0.1, 0.4, 0.9))
    policy = EndPointer(Gate(shared, 0.8), Gate(shared, 0.3))
    assert [policy.accept(frame((1,), 0.1)) for _ in range(3)] == [(), (SPECULATIVE,), (ENDPOINT,)]


def test_silence_speculates_before_it_ends() -> None:
    policy = silence_policy(0.5, 0.2)
    assert [policy.accept(frame((1,), pause_s)) for pause_s in (0.2, 0.3, 0.4, 0.5)] == [
        (), (SPECULATIVE,), (), (ENDPOINT,),
    ]  # fmt: skip


def test_guards_bound_a_scorer_by_the_pause() -> None:
    scorer = Guarded(Given(*[0.5] * 4), shortest_s=0.2, longest_s=1.0)
    scores = [scorer.accept(frame((1,), pause_s)) for pause_s in (math.inf, 0.16, 0.2, 1.0)]
    assert scores == [-math.inf, -math.inf, 0.5, math.inf]


@pytest.mark.parametrize("bounds", [(-0.1, 1.0), (1.0, 0.5), (math.nan, 1.0)])
def test_guards_out_of_order_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(EdgeSpeechError, match="bounds"):
        Guarded(Given(), shortest_s=bounds[0], longest_s=bounds[1])


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="threshold"):
        Gate(Given(), math.nan)


def test_the_decoder_is_silent_only_behind_words() -> None:
    scorer = DecoderSilence()
    assert [scorer.accept(frame((), math.inf)), scorer.accept(frame((1,), 0.28))] == [0.0, 0.28]


def tone(db: float) -> np.ndarray:
    times = np.arange(STEP) / SAMPLE_RATE
    return 10 ** (db / 20) * math.sqrt(2) * np.sin(2 * np.pi * 250 * times)


def test_the_sound_is_silent_behind_speech_at_any_level_of_noise() -> None:
    for noise_db in (-90.0, -50.0, -35.0):
        scorer = EnergySilence()
        levels = [noise_db] * 10 + [-20.0] * 10 + [noise_db] * 10
        scores = [scorer.accept(frame(samples=tone(level))) for level in levels]
        assert scores[:20] == [0.0] * 20
        assert scores[20:] == pytest.approx([0.04 * (i + 1) for i in range(10)])


def test_a_detector_is_asked_by_windows_with_hysteresis() -> None:
    answers = iter([0.1, 0.9, 0.4, 0.3, 0.4, 0.6])  # below, speech, undecided, silence, still silence, speech
    windows: list[int] = []

    def detector(window: np.ndarray) -> float:
        windows.append(len(window))
        return next(answers)

    scorer = DetectedSilence(detector)
    scores = [scorer.accept(frame(samples=np.zeros(512))) for _ in range(6)]
    assert scores == pytest.approx([0, 0, 0, 0.032, 0.064, 0])
    assert windows == [512] * 6

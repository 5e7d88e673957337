"""Streams of a lead-in and an utterance: levels, places, and what does not change."""

from __future__ import annotations

import numpy as np
import pytest

from edgespeech.audio.streams import Stream, generator, joined, level_of, spoken_part, talk
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError


def tone(seconds: float, hertz: float, level: float) -> Samples:
    t = np.arange(round(16_000 * seconds)) / 16_000
    made: Samples = (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)
    return made


def silence(seconds: float) -> Samples:
    return np.zeros(round(16_000 * seconds), np.float32)


LEAD = np.concatenate([silence(0.6), tone(0.5, 300, 0.4), silence(1.0)])
UTTERANCE = np.concatenate([silence(0.3), tone(0.8, 500, 0.05), silence(0.4)])
OTHER = tone(0.7, 900, 0.3)


def stream(lead_in: Samples = LEAD, **changes: object) -> Stream:
    given = {"pause_s": (0.2, 0.0, 0.0), "rng": generator(1, "u"), "where": "u7", **changes}
    return joined(lead_in, UTTERANCE, **given)  # type: ignore[arg-type]  # of a test's own table


def test_what_is_spoken_is_found_with_a_little_around_it() -> None:
    found = spoken_part(LEAD)
    assert abs(found.start - round(0.5 * 16_000)) <= 400
    assert abs(found.stop - round(1.2 * 16_000)) <= 400
    assert spoken_part(tone(0.01, 300, 0.1)) == slice(0, 160)
    assert level_of(LEAD, "x") == pytest.approx(0.4 / 2**0.5, rel=0.25)


def test_the_lead_in_is_as_loud_as_the_utterance_and_that_does_not_change() -> None:
    made = stream()
    np.testing.assert_array_equal(made.samples, UTTERANCE)
    assert level_of(made.lead_in, "x") == pytest.approx(level_of(UTTERANCE, "x"), rel=0.1)
    spoken = spoken_part(LEAD)
    assert len(made.lead_in) == spoken.stop - spoken.start + 3_200
    later = stream(pause_s=(0.2, 0.1, 0.3))
    np.testing.assert_array_equal(later.samples[1_600:-4_800], UTTERANCE)
    assert len(later.lead_in) == len(made.lead_in)


def test_the_ratio_is_that_which_was_asked_for() -> None:
    for snr_db in (0.0, 6.0, 12.0):
        other = stream(other=OTHER, snr_db=snr_db).samples - UTTERANCE
        spoken = spoken_part(UTTERANCE)
        powers = [float(np.square(one[spoken], dtype=np.float64).mean()) for one in (UTTERANCE, other)]
        assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(snr_db, abs=0.1)


def test_another_sound_lies_over_both_or_over_the_utterance_alone() -> None:
    clean, both, late = stream(), stream(other=OTHER), stream(other=OTHER, over_all=False)
    np.testing.assert_array_equal(both.samples, late.samples)
    np.testing.assert_array_equal(late.lead_in, clean.lead_in)
    added = np.concatenate([both.lead_in - clean.lead_in, both.samples - clean.samples])
    levels = np.sqrt(np.square(added[: len(added) // 400 * 400].reshape(-1, 400)).mean(axis=1))
    assert levels.min() > 0.5 * levels.max(), "all the time"


def test_the_utterance_does_not_hang_on_its_lead_in() -> None:
    other = stream(tone(1.7, 200, 0.1), other=OTHER, snr_db=3.0)
    np.testing.assert_array_equal(other.samples, stream(other=OTHER, snr_db=3.0).samples)
    assert not np.array_equal(stream(rng=generator(1, "v"), other=OTHER).samples, stream(other=OTHER).samples)


def test_a_talker_goes_on_until_it_is_long_enough() -> None:
    assert len(talk([LEAD, LEAD, LEAD], 100)) < 16_000
    assert len(talk([LEAD, LEAD, LEAD], 20_000)) >= 20_000


@pytest.mark.parametrize(
    ("lead_in", "changes", "message"),
    [
        (silence(0), {}, r"u7: lead-in: samples is \(0,\), expected \(N,\) with N >= 1"),
        (silence(1), {}, "u7: lead-in: is silent"),
        (np.full(4_000, np.nan, np.float32), {}, "u7: lead-in: samples is 'NaN or infinity'"),
        (LEAD, {"other": silence(1)}, "u7: other sound: is silent"),
        (LEAD, {"snr_db": float("nan")}, "u7: snr_db is nan"),
        (LEAD, {"pause_s": (-1.0, 0.0, 0.0)}, "u7: pause_s is"),
    ],
)
def test_what_makes_no_stream_is_refused(lead_in: Samples, changes: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        stream(lead_in, **changes)

"""Hesitation: where pauses come, what they are made of, and that times stay true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis.pauses import (
    Hesitant,
    Hesitation,
    cut_places,
    drawn_out,
    gated,
    hesitate,
    pick,
    with_noise,
)

WORDS = [(0.2, 0.6), (0.7, 1.1), (1.2, 1.6)]
GAPS = [(0.5, 0.8), (1.0, 1.3)]


def spoken(*, hum: bool = True) -> Samples:
    """Three words, tones of 160 Hz or noise, 0.1 s between them, and a little background."""
    rng = np.random.default_rng(0)
    samples = 1e-4 * rng.standard_normal(round(1.8 * SAMPLE_RATE))
    times = np.arange(len(samples)) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * 160 * times) if hum else rng.standard_normal(len(samples))
    for start, end in WORDS:
        inside = (times >= start) & (times < end)
        samples[inside] += 0.2 * sound[inside]
    return samples.astype(np.float32)


def made(key: str = "a", **changes: object) -> Hesitant:
    what = Hesitation.model_validate({"pauses": 2, "filler": 0.0, **changes})
    return hesitate(spoken(), GAPS, sos_s=0.2, eos_s=1.6, what=what, key=key)


def test_pauses_come_where_it_is_quiet_between_words() -> None:
    places = cut_places(spoken(), GAPS, sos_s=0.2, eos_s=1.6, dip_db=12)
    assert [0.6 <= place / SAMPLE_RATE <= 0.7 or 1.1 <= place / SAMPLE_RATE <= 1.2 for place in places] == [
        True
    ] * 2
    assert cut_places(spoken(), [(0.3, 0.5)], sos_s=0.2, eos_s=1.6, dip_db=12) == []
    assert cut_places(spoken(), [(0.0, 0.19)], sos_s=0.2, eos_s=1.6, dip_db=12) == []


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=5), st.integers(0, 3), st.floats(0, 1))
def test_time_is_only_ever_added(key: str, pauses: int, filler: float) -> None:
    found = hesitate(
        spoken(), GAPS, sos_s=0.2, eos_s=1.6, what=Hesitation(pauses=pauses, filler=filler), key=key
    )
    added = sum(end - start for start, end in found.pauses)
    assert len(found.pauses) <= min(pauses, 2)
    assert found.eos_s == pytest.approx(1.6 + added, abs=1e-6)
    assert 2.0 - 1e-3 <= len(found.samples) / SAMPLE_RATE - found.eos_s <= 3.0 + 1e-3
    for start, end in found.pauses:
        assert 0.3 - 1e-3 <= end - start <= 1.6 + 1e-3
        assert found.sos_s < start < end < found.eos_s
    assert np.isfinite(found.samples).all()


def test_the_words_are_there_unchanged_and_the_pauses_are_quiet() -> None:
    found = next(one for one in map(made, "abcdefgh") if len(one.pauses) == 2)
    kept = np.ones(len(found.samples), dtype=bool)
    for start, end in found.pauses:
        inside = slice(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        assert 0 < np.abs(found.samples[inside]).max() < 1e-2
        kept[inside] = False
    words = found.samples[kept][: len(spoken())]
    assert np.abs(words - spoken()).max() < 1e-2  # but for the softened cuts


def test_the_same_key_gives_the_same_and_another_another() -> None:
    assert np.array_equal(made("a").samples, made("a").samples)
    assert len(made("a").samples) != len(made("b").samples)


def test_a_filler_is_audible_in_its_pause() -> None:
    found = next(one for one in (made(key, filler=1.0) for key in "abcdefgh") if one.pauses)
    start, end = (round(at * SAMPLE_RATE) for at in found.pauses[0])
    pause = found.samples[start:end]
    assert np.abs(pause[: len(pause) // 4]).max() > 0.05
    assert np.abs(pause[-round(0.25 * SAMPLE_RATE) :]).max() < 1e-2
    assert drawn_out(spoken(hum=False)) is None


def test_noise_has_the_ratio_asked_for_while_somebody_speaks() -> None:
    noise = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    noisy = with_noise(spoken(), noise, 10.0, sos_s=0.2, eos_s=1.6, key="x")
    speech = spoken()[3200:25600].astype(np.float64)
    under = (noisy[3200:25600] - spoken()[3200:25600]).astype(np.float64)
    assert 10 * np.log10(np.mean(speech**2) / np.mean(under**2)) == pytest.approx(10.0, abs=0.01)
    assert np.abs(with_noise(spoken(), noise, -20.0, sos_s=0.2, eos_s=1.6, key="x")).max() <= 1.0


def test_bad_input_is_refused() -> None:
    quiet = np.zeros(28800, np.float32)
    with pytest.raises(EdgeSpeechError, match="speech"):
        hesitate(spoken(), [], sos_s=0.2, eos_s=2.5, what=Hesitation(), key="a")
    with pytest.raises(EdgeSpeechError, match="power"):
        with_noise(quiet, quiet + 1, 10.0, sos_s=0.2, eos_s=1.6, key="a")
    with pytest.raises(EdgeSpeechError, match="snr_db"):
        with_noise(spoken(), quiet + 1, float("nan"), sos_s=0.2, eos_s=1.6, key="a")
    with pytest.raises(EdgeSpeechError, match="noises"):
        pick({}, "a")
    with pytest.raises(ValidationError, match="must not be above"):
        Hesitation(pause_s=(1.0, 0.5))


def test_a_gate_passes_on_what_is_spoken_alone() -> None:
    samples = np.ones(SAMPLE_RATE, np.float32)
    kept = gated(samples, [(0.0, 0.2), (0.5, 0.6)], 0.05)
    wanted = np.zeros(SAMPLE_RATE, np.float32)
    wanted[: round(0.25 * SAMPLE_RATE)] = 1
    wanted[round(0.45 * SAMPLE_RATE) : round(0.65 * SAMPLE_RATE)] = 1
    assert np.array_equal(kept, wanted)

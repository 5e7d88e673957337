import subprocess
import sys

import numpy as np
import pytest

from edgespeech.audio.mix import PEAK_FRAME, SnrRule, measure_snr, mix_at_snr
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError


def signal(seed: int, length: int, level: float = 0.05) -> Samples:
    """Noise whose loudness goes up and down, so that the two rules differ."""
    random = np.random.default_rng(seed)
    swell = 0.2 + np.abs(np.sin(np.arange(length) / 3000))
    return (level * swell * random.standard_normal(length)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 6.0, 12.0, 24.0])
@pytest.mark.parametrize("noise_length", [5_000, 32_000, 100_000])
def test_mean_power_ratio_is_the_one_asked_for(snr_db: float, noise_length: int) -> None:
    speech = signal(1, 32_000)
    mixed = mix_at_snr(speech, signal(2, noise_length, 0.01), snr_db, rule="mean", seed=3)
    assert np.abs(mixed).max() < 1
    under = (mixed.astype(np.float64) - speech).astype(np.float32)
    assert measure_snr(speech, under, rule="mean") == pytest.approx(snr_db, abs=0.1)


def test_mean_power_ratio_survives_the_limit_at_full_scale() -> None:
    speech = signal(1, 32_000, 0.2)
    mixed = mix_at_snr(speech, signal(2, 50_000), -6.0, rule="mean", seed=3)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    # The scale that was applied is the one that makes what is left fit the ratio: solve for it.
    scales = np.linspace(0.1, 1.0, 2000)
    ratios = [measure_snr(s * speech, (mixed - s * speech).astype(np.float32), rule="mean") for s in scales]
    assert min(abs(np.array(ratios) + 6.0)) < 0.1


def test_the_peak_frame_rule_on_a_case_worked_by_hand() -> None:
    # Speech: two frames, of 0.1 and of 0.2, and 100 samples of a frame that is not whole and does not count.
    speech = np.concatenate([np.full(PEAK_FRAME, 0.1), np.full(PEAK_FRAME, 0.2), np.full(100, 0.9)])
    # Noise of the same length, so that there is one segment only: frames of 0.4 and of 0.1.
    noise = np.concatenate([np.full(PEAK_FRAME, 0.4), np.full(PEAK_FRAME, 0.1), np.full(100, 0.7)])
    # Powers: 2048 * 0.2^2 and 2048 * 0.4^2. For 20 dB the gain is 0.2 / (0.4 * 10) = 0.05.
    raw = speech + 0.05 * noise
    expected = 0.5 * raw / (0.9 + 0.05 * 0.7)
    mixed = mix_at_snr(speech.astype(np.float32), noise.astype(np.float32), 20.0, rule="peak-frame", seed=0)
    assert mixed == pytest.approx(expected, abs=1e-6)
    assert np.abs(mixed).max() == pytest.approx(0.5)


def test_the_peak_frame_ratio_is_the_one_asked_for_and_not_that_of_the_mean() -> None:
    speech, noise = signal(1, 32_000), signal(2, 32_000)
    noise[:2048] *= 20
    mixed = mix_at_snr(speech, noise, 12.0, rule="peak-frame", seed=0)
    # The mix is a * speech + b * noise; both factors follow from it.
    (scale, _), *_ = np.linalg.lstsq(np.stack([speech, noise], axis=1), mixed, rcond=None)
    under = (mixed - scale * speech).astype(np.float32)
    assert measure_snr((scale * speech).astype(np.float32), under, rule="peak-frame") == pytest.approx(
        12.0, abs=0.1
    )
    assert abs(measure_snr((scale * speech).astype(np.float32), under, rule="mean") - 12.0) > 1.0


def test_speech_shorter_than_a_frame_is_one_frame() -> None:
    mixed = mix_at_snr(signal(1, 500), signal(2, 9_000), 6.0, rule="peak-frame", seed=0)
    assert mixed.shape == (500,)
    assert np.abs(mixed).max() == pytest.approx(0.5)


def test_noise_that_is_too_short_goes_round() -> None:
    speech = np.full(1000, 0.01, dtype=np.float32)
    noise = signal(5, 300)
    under = mix_at_snr(speech, noise, 10.0, rule="mean", seed=1) - speech
    assert under[:700] == pytest.approx(under[300:1000], abs=1e-7)
    assert np.ptp(under) > 0


def test_the_segment_follows_from_seed_and_utterance() -> None:
    speech, noise = signal(1, 4_000), signal(2, 90_000)

    def mix(seed: int, utterance: str) -> bytes:
        return mix_at_snr(speech, noise, 6.0, rule="mean", seed=seed, utterance_id=utterance).tobytes()

    assert mix(1, "a") == mix(1, "a")
    assert len({mix(1, "a"), mix(1, "b"), mix(2, "a"), mix(2, "b")}) == 4


def test_the_segment_is_the_same_in_another_process() -> None:
    program = (
        "import numpy as np, hashlib; from edgespeech.audio.mix import mix_at_snr;"
        "noise = (np.arange(50000) % 977 / 2000).astype('f4');"
        "mixed = mix_at_snr(np.full(900, .1, 'f4'), noise, 3.0, rule='mean', seed=7, utterance_id='u');"
        "print(hashlib.sha256(mixed.tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


@pytest.mark.parametrize("rule", ["mean", "peak-frame"])
def test_silence_has_no_ratio(rule: SnrRule) -> None:
    loud, silent = signal(1, 3_000), np.zeros(3_000, dtype=np.float32)
    with pytest.raises(EdgeSpeechError, match="the speech is silent"):
        mix_at_snr(silent, loud, 6.0, rule=rule, seed=0)
    with pytest.raises(EdgeSpeechError, match="the noise is silent"):
        mix_at_snr(loud, silent, 6.0, rule=rule, seed=0)


def test_what_makes_no_sense_is_refused() -> None:
    loud = signal(1, 3_000)
    with pytest.raises(EdgeSpeechError, match="rule is 'rms', expected one of mean, peak-frame"):
        mix_at_snr(loud, loud, 6.0, rule="rms", seed=0)  # type: ignore[arg-type]
    with pytest.raises(EdgeSpeechError, match="snr_db is nan"):
        mix_at_snr(loud, loud, float("nan"), rule="mean", seed=0)
    with pytest.raises(EdgeSpeechError, match="at least one of each"):
        mix_at_snr(loud, loud[:0], 6.0, rule="mean", seed=0)
    with pytest.raises(EdgeSpeechError, match="length of the noise is 5"):
        measure_snr(loud, loud[:5], rule="mean")

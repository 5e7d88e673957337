"""Made voices: pulses of a pitch through resonances, in syllables; a speaker has a pitch and resonances of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from edgespeech.audio.features import log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.speakers.network import Saved, SpeakerNet, Thresholds
from edgespeech.speakers.training import Schedule, Voices, train

QUICK = Schedule(steps=60, batch=6, rate=0.01, crop_s=(0.4, 0.8), microphone_db=1.0)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Pitch in Hz and a factor of all resonances."""

    pitch: float
    tract: float

    def says(self, seed: int, seconds: float = 1.5) -> Samples:
        """Syllables of random vowels, with pauses between them."""
        rng = np.random.default_rng(seed)
        count = round(seconds * SAMPLE_RATE)
        phase = np.cumsum(self.pitch * (1 + 0.05 * rng.standard_normal(count // 800 + 1).repeat(800)[:count]))
        pulses = np.diff(np.floor(phase / SAMPLE_RATE), prepend=0)
        made = np.zeros(count)
        times = np.arange(300) / SAMPLE_RATE
        syllable = SAMPLE_RATE // 4
        for start in range(0, count, syllable):
            piece = pulses[start : start + syllable]
            for low, high in ((300, 700), (1000, 2000), (2300, 2700)):
                hertz = self.tract * rng.uniform(low, high)
                resonance = np.exp(-300 * times) * np.sin(2 * np.pi * hertz * times)
                made[start : start + len(piece)] += np.convolve(piece, resonance)[: len(piece)]
            made[start : start + len(piece)] *= np.sin(np.pi * np.arange(len(piece)) / syllable) ** 2
        noisy = made / max(np.abs(made).max(), 1e-9) * 0.3 + 1e-4 * rng.standard_normal(count)
        found: Samples = noisy.astype(np.float32)
        return found


def speakers(count: int, seed: int = 0) -> list[Speaker]:
    """Different ones."""
    rng = np.random.default_rng(seed)
    pitches = np.linspace(85, 260, count)
    return [Speaker(float(pitch), float(rng.uniform(0.8, 1.25))) for pitch in pitches]


def voices(own: Sequence[Speaker], utterances: int = 4) -> Voices:
    """Training material of these speakers."""
    parts = [
        log_mel_at_once(one.says(100 * number + n, 1.0)).astype(np.float16)
        for number, one in enumerate(own)
        for n in range(utterances)
    ]
    lengths = np.array([len(part) for part in parts], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Voices(
        np.concatenate(parts), starts, lengths, np.arange(len(own), dtype=np.int64).repeat(utterances)
    )


def trained() -> Saved:
    """A network that tells made voices apart, with thresholds that fit them."""
    return Saved(train(voices(speakers(10)), QUICK, seed=1), Thresholds(0.5, 0.2), "made")


def untrained() -> SpeakerNet:
    """A network as it begins."""
    return SpeakerNet().eval()


def write_corpus(folder: Path, own: Sequence[Speaker], utterances: int, first: int = 500) -> Path:
    """A corpus of these speakers with its manifest `voices.jsonl`."""
    lines = []
    for number, one in enumerate(own):
        for n in range(utterances):
            samples = one.says(first + 100 * number + n, 1.2)
            name = f"s{number}_{n}"
            soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
            line = {"audio_filepath": f"{name}.wav", "duration": len(samples) / SAMPLE_RATE, "id": name}
            lines.append(json.dumps(line | {"text": "one" if n % 2 else "two", "speaker": f"s{number}"}))
    path = folder / "voices.jsonl"
    path.write_text("\n".join(lines))
    return path

"""Sets of utterances for end-pointing and its training: recordings, or with hesitation, tail and noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file
from edgespeech.corpora.manifest import Manifest, Utterance, write_manifest
from edgespeech.endpointing.alignment import gaps
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.checkpoint import Trained
from edgespeech.synthesis.pauses import Hesitant, Hesitation, gated, hesitate, pick, with_noise

Noises = Mapping[str, Samples]


class SetConfig(BaseModel):
    """A set of utterances.

    Attributes:
        corpus: a split, or a manifest (`.jsonl`).
        utterances: maximum number, drawn by the seed; None takes all.
        quick: the same in the quick profile.
        hesitation: to insert; None leaves the recordings unchanged.
        noises: corpus of recorded noises; None: no noise.
        snr_db: each utterance is used once with each of these ratios.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    corpus: str
    utterances: Annotated[int, Field(gt=0)] | None = None
    quick: Annotated[int, Field(gt=0)] | None = None
    hesitation: Hesitation | None = None
    noises: str | None = None
    snr_db: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An utterance for end-pointing.

    Attributes:
        id: unique in its set.
        condition: of its audio, e.g. `15 dB`; empty if unchanged.
        text: its transcript.
        speaker: its speaker; None if unknown.
        samples: 16 kHz, with shape `(N,)`.
        sos_s: start of speech; `eos_s` its end.
        pauses: start and end of inserted pauses, in seconds.
    """

    id: str
    condition: str
    text: str
    speaker: str | None
    samples: Samples
    sos_s: float
    eos_s: float
    pauses: tuple[tuple[float, float], ...] = ()


def cases(manifest: Manifest, what: SetConfig, trained: Trained, noises: Noises, seed: int) -> Iterator[Case]:
    """The utterances of a set with a known end of speech, in the manifest's order.

    Args:
        manifest: of the set's corpus, or some of it.
        what: the set.
        trained: the recogniser for word boundaries.
        noises: the recordings of `what.noises`, by id.
        seed: with an utterance's id it determines all random draws.

    Raises:
        EdgeSpeechError: no utterance has an end of speech, audio is missing, or words cannot be aligned.
    """
    known = [item for item in manifest.utterances if item.eos_s is not None]
    if not known:
        raise bad(manifest.name, "eos_s", None, "the end of speech of some utterance")
    for item in known:
        key = f"{seed}:{item.id}"
        made = _hesitant(manifest, item, what.hesitation, trained, key)
        for snr_db in what.snr_db or (None,):
            samples = made.samples
            if snr_db is not None:
                times = {"sos_s": made.sos_s, "eos_s": made.eos_s}
                samples = with_noise(samples, pick(noises, key), snr_db, **times, key=key)
            yield Case(
                id=item.id if snr_db is None else f"{item.id}-{snr_db:g}dB",
                condition="" if snr_db is None else f"{snr_db:g} dB",
                text=item.text,
                speaker=item.speaker,
                samples=samples,
                sos_s=made.sos_s,
                eos_s=made.eos_s,
                pauses=made.pauses,
            )


_HANG_S = (0.05, 0.4)
"""How long a gate is open before and after speech, in seconds."""


def lessons_cases(
    manifest: Manifest,
    what: Hesitation,
    trained: Trained,
    augment: Augmenter,
    seed: int,
    *,
    gate: float = 0.0,
) -> Iterator[Case]:
    """Utterances for training: with hesitation, then augmented by a room, a microphone and noise.

    Args:
        manifest: of a trainable split; utterances without an end of speech are left out.
        what: the set, with its hesitation.
        trained: the recogniser for word boundaries.
        augment: must not change lengths.
        seed: as for `cases`.
        gate: the share of utterances with pauses replaced by digital silence.

    Raises:
        EdgeSpeechError: as for `cases`, or the augmentation changes a length.
    """
    for case in cases(
        manifest, SetConfig(corpus=manifest.name, hesitation=what), trained, noises={}, seed=seed
    ):
        heard = augment(case.samples, key=case.id)
        if len(heard) != len(case.samples):
            raise bad("end-pointing", "augment", "speed or silence", "none: ends of speech would move")
        rng = np.random.default_rng([seed, *case.id.encode()])
        if rng.random() < gate:
            ends = [case.sos_s, *(time_s for pause in case.pauses for time_s in pause), case.eos_s]
            heard = gated(heard, list(zip(ends[::2], ends[1::2], strict=True)), rng.uniform(*_HANG_S))
        yield replace(case, condition="augmented", samples=heard)


def wordless(seconds: float, seed: int) -> dict[str, Samples]:
    """Sounds without speech: silence, white noise, and tones like music, each with this duration."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(seed)
    notes = 220 * 2 ** (rng.integers(0, 24, math.ceil(2 * seconds)) / 12)
    played = notes[(2 * times).astype(int)]
    tones = sum(np.sin(2 * np.pi * k * played * times) / k for k in (1, 2, 3))
    beats = np.exp(-4 * (2 * times % 1))
    sounds = {
        "silence": np.zeros(len(times)),
        "white noise": 0.01 * rng.standard_normal(len(times)),
        "tones": 0.1 * tones * beats,
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}


def write_set(folder: Path, name: str, made: Iterable[Case]) -> Path:
    """Write a set as a corpus, so that any system can be run on it.

    Returns:
        The manifest, `<folder>/<name>.jsonl`, its audio in `<folder>/audio`.

    Raises:
        EdgeSpeechError: a file cannot be written, or the set is empty.
    """
    utterances = []
    for case in made:
        file = f"audio/{name}-{case.id.replace('/', '_')}.flac"
        write_audio(folder / file, case.samples)
        utterances.append(
            Utterance(
                id=case.id,
                audio_filepath=file,
                duration=len(case.samples) / SAMPLE_RATE,
                text=case.text,
                sha256=sha256_file(folder / file),
                speaker=case.speaker,
                sos_s=round(case.sos_s, 4),
                eos_s=round(case.eos_s, 4),
            )
        )
    write_manifest(folder / f"{name}.jsonl", utterances)
    return folder / f"{name}.jsonl"


def _hesitant(
    manifest: Manifest, item: Utterance, what: Hesitation | None, trained: Trained, key: str
) -> Hesitant:
    samples = manifest.read(item)
    eos_s = min(item.eos_s or 0.0, len(samples) / SAMPLE_RATE)
    sos_s = item.sos_s or 0.0
    if what is None:
        return Hesitant(samples=samples, sos_s=sos_s, eos_s=eos_s, pauses=())
    try:
        between = gaps(trained, samples, item.text) if what.pauses else []
    except EdgeSpeechError as error:
        raise EdgeSpeechError(f"{manifest.name}: utterance {item.id}: {error}") from error
    return hesitate(samples, between, sos_s=sos_s, eos_s=eos_s, what=what, key=key)

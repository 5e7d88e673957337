"""Enrolment of voices from a few recordings, and the voice of a further one, known or not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.audio.io import read_audio
from edgespeech.audio.voicing import HOP, autocorrelations, frames_of, periodicity, windowed
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.config import explain
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import shipped_models, work_dir
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.speakers.network import DIMENSIONS, Saved, Vector, load_network, voice_of

FEWEST, MOST = 3, 5
"""Recordings of an enrolment."""
SHORTEST_SPEECH_S = 0.4
"""A wake word is about so long."""
SILENT_DB = -65.0
"""The loudest tenth of a second of a recording with anybody in it is above this, in dB of full scale."""
_BELOW_DB = 25.0
"""Frames at most so far below the loudest may be speech."""
_VOICED = 0.6
"""`voicing` of vowels is above this, that of noise below."""
_VOICED_SHARE = 0.2
_STEADY_DB = 8.0
"""The level of speech moves by more than this between its soft and loud frames; that of a hum does not."""
_HALF_S = 1.0
"""Speech that each half of a recording needs for being compared with the other half."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Strict):
    """An enrolled voice.

    Attributes:
        name: of the speaker, as given.
        voice: the direction of the mean embedding.
        speech_s: seconds of speech in all recordings.
        recordings: how many there were.
        warnings: what is doubtful about them.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    voice: Annotated[tuple[Finite, ...], Field(min_length=DIMENSIONS, max_length=DIMENSIONS)]
    speech_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    recordings: Annotated[int, Field(ge=1)]
    warnings: tuple[str, ...] = ()


class Profiles(_Strict):
    """The voices of a household.

    Attributes:
        network_sha256: of the network's file that made them; voices of another one cannot be compared.
        profiles: in the order of enrolment, each name once.
    """

    network_sha256: str
    profiles: tuple[Profile, ...] = ()

    def with_profile(self, profile: Profile) -> Profiles:
        """These and one more, which replaces one of the same name."""
        others = [one for one in self.profiles if one.name != profile.name]
        return self.model_copy(update={"profiles": (*others, profile)})


class Identified(NamedTuple):
    """Who a recording is of.

    Attributes:
        name: of the enrolled speaker; None if it is nobody's voice.
        cosines: with every voice, by name.
    """

    name: str | None
    cosines: Mapping[str, float]


def speech_seconds(where: str, samples: Samples) -> float:
    """How much speech a recording has; one without any is refused.

    Args:
        where: the file, for messages.
        samples: at 16 kHz, with shape `(N,)`.

    Raises:
        EdgeSpeechError: silence, noise or a hum alone, or less than `SHORTEST_SPEECH_S` of speech.
    """
    shortest = f"at least {SHORTEST_SPEECH_S} s of speech"
    if len(samples) < SHORTEST_SPEECH_S * SAMPLE_RATE:
        raise bad(where, "length", f"{len(samples) / SAMPLE_RATE:.2f} s", shortest)
    # The loudest tenth of a second, not the loudest sample: a click is nobody's voice.
    steps = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64) ** 2, SAMPLE_RATE // 10)
    loudest = 10 * np.log10(max(float(steps[:: SAMPLE_RATE // 100].mean(1).max()), 1e-20))
    if loudest < SILENT_DB:
        raise bad(where, "level", f"{loudest:.0f} dB of full scale", f"speech above {SILENT_DB:.0f} dB")
    framed = windowed(where, samples)
    normal, power = autocorrelations(framed)
    levels = 10 * np.log10(power[:, 0])
    loud = levels >= levels.max() - _BELOW_DB
    voiced = loud & (periodicity(normal) >= _VOICED)
    share = float(voiced.sum() / loud.sum())
    if share < _VOICED_SHARE:
        expected = f"speech: at least {100 * _VOICED_SHARE:.0f} %"
        raise bad(where, "share of frames with a voice", f"{100 * share:.0f} %", expected)
    range_db = float(np.ptp(np.quantile(levels[1:-1], [0.1, 0.95])))
    if range_db < _STEADY_DB:
        expected = f"speech, which moves by {_STEADY_DB:.0f} dB and more"
        raise bad(where, "range of levels", f"{range_db:.1f} dB", expected)
    seconds = float(loud.sum()) * HOP / SAMPLE_RATE
    if seconds < SHORTEST_SPEECH_S:
        raise bad(where, "speech", f"{seconds:.2f} s", shortest)
    return seconds


def enrol(saved: Saved, name: str, recordings: Sequence[tuple[str, Samples]]) -> Profile:
    """Enrol a speaker.

    Args:
        saved: the network, with its thresholds.
        name: of the speaker.
        recordings: 3 to 5 of them, each with its file's name and samples at 16 kHz with shape `(N,)`.

    Returns:
        The voice. Where a recording sounds unlike the others, or its halves unlike each other, as two speakers do,
        a warning says so: neither is certain.

    Raises:
        EdgeSpeechError: too few or too many recordings, the same one twice, or as `speech_seconds`.
    """
    if not FEWEST <= len(recordings) <= MOST:
        raise bad(f"enrol {name}", "recordings", len(recordings), f"{FEWEST} to {MOST} of one speaker")
    seen: dict[str, str] = {}
    for where, samples in recordings:
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        if digest in seen:
            raise bad(where, "audio", f"that of {seen[digest]}", "each recording once")
        seen[digest] = where
    seconds = [speech_seconds(where, samples) for where, samples in recordings]
    embeddings = np.stack([saved.network.embed(samples) for _, samples in recordings])
    warnings = [
        *_unlike_others(recordings, embeddings, saved.thresholds.pair),
        *_of_two(saved, recordings, seconds),
    ]
    return Profile(
        name=name,
        voice=tuple(voice_of(embeddings).tolist()),
        speech_s=round(sum(seconds), 2),
        recordings=len(recordings),
        warnings=tuple(warnings),
    )


def _unlike_others(
    recordings: Sequence[tuple[str, Samples]], embeddings: Vector, threshold: float
) -> list[str]:
    """Warnings about recordings that sound like another speaker's than the rest."""
    cosines = embeddings @ embeddings.T
    others = (cosines.sum(1) - np.diag(cosines)) / (len(cosines) - 1)
    return [
        f"{where}: sounds unlike the others (cosine {value:.2f}, expected at least {threshold:.2f}): two speakers?"
        for (where, _), value in zip(recordings, others, strict=True)
        if value < threshold
    ]


def _of_two(saved: Saved, recordings: Sequence[tuple[str, Samples]], seconds: Sequence[float]) -> list[str]:
    """Warnings about recordings whose halves sound like two speakers."""
    found = []
    for (where, samples), speech_s in zip(recordings, seconds, strict=True):
        if speech_s < 2 * _HALF_S:
            continue
        # Halves of the speech, not of the file: a pause may be anywhere.
        energy = (frames_of(samples) ** 2).sum(1)
        middle = int(np.searchsorted(np.cumsum(energy), energy.sum() / 2)) * HOP
        halves = [part for part in (samples[:middle], samples[middle:]) if len(part) >= _HALF_S * SAMPLE_RATE]
        if len(halves) < 2:
            continue
        first, second = (saved.network.embed(part) for part in halves)
        value = float(first @ second)
        if value < saved.thresholds.pair:
            expected = f"expected at least {saved.thresholds.pair:.2f}"
            found.append(
                f"{where}: its halves sound unlike each other (cosine {value:.2f}, {expected}): two speakers?"
            )
    return found


def identify(saved: Saved, profiles: Profiles, samples: Samples) -> Identified:
    """The enrolled speaker whose voice a recording has, if any.

    Args:
        saved: the network that made the profiles.
        profiles: at least one.
        samples: at 16 kHz, with shape `(N,)`.

    Raises:
        EdgeSpeechError: nobody is enrolled, or the recording is too short to have an embedding.
    """
    if not profiles.profiles:
        raise EdgeSpeechError("identify: nobody is enrolled, expected `edgespeech speaker enrol` before")
    embedding = saved.network.embed(samples)
    cosines = {one.name: float(np.asarray(one.voice) @ embedding) for one in profiles.profiles}
    nearest = max(cosines, key=lambda name: cosines[name])
    return Identified(nearest if cosines[nearest] >= saved.thresholds.voice else None, cosines)


def shipped_network() -> Path:
    """The packed network that ships."""
    return shipped_models() / "speakers" / "packed.safetensors"


def default_profiles() -> Path:
    """Where enrolled voices are kept unless a file is named."""
    return work_dir() / "voices.json"


def load_profiles(path: Path, network: Path) -> Profiles:
    """Read enrolled voices; a file that does not exist has none.

    Args:
        path: written by `save_profiles`.
        network: the file of the network that is to compare them.

    Raises:
        EdgeSpeechError: it cannot be read, has another form, or its voices were made by another network.
    """
    own = sha256_file(network)
    if not path.exists():
        return Profiles(network_sha256=own)
    try:
        found = Profiles.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror}") from error
    except ValidationError as error:
        raise explain(str(path), error, tuple(Profiles.model_fields)) from error
    if found.network_sha256 != own:
        raise bad(str(path), "network_sha256", found.network_sha256, f"{own}: enrol again with this network")
    names = sorted(one.name for one in found.profiles)
    for first, second in pairwise(names):
        if first == second:
            raise bad(str(path), "name", first, "each speaker once")
    return found


def save_profiles(path: Path, profiles: Profiles) -> None:
    """Write enrolled voices."""
    write_atomic(path, profiles.model_dump_json(indent=1) + "\n")


def load_shipped(path: Path) -> Saved:
    """A network for enrolment and identification.

    Raises:
        EdgeSpeechError: there is none, or as `load_network`.
    """
    if not path.is_file():
        raise EdgeSpeechError(
            f"{path}: no such file, expected a network that `edgespeech replicate speakers --profile full` trains"
        )
    return load_network(path)


def read_recording(path: Path) -> tuple[str, Samples]:
    """A recording's name for messages, and its samples.

    Raises:
        EdgeSpeechError: as `read_audio`.
    """
    return str(path), read_audio(path)

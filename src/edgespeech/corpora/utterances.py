"""The utterances of a measurement: whose they are, what is said in them, and how their audio is made.

A manifest says which audio there is. `Utterances` says which of it is measured (corpora, a seeded subset), under
which condition (noise mixed in, a telephone's band), and how each corpus's texts are normalised. The audio of an
utterance is made when it is asked for, the same by every way of measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from edgespeech.audio.channel import telephone_band
from edgespeech.audio.io import MONO, read_audio
from edgespeech.audio.mix import mix_at_snr
from edgespeech.contracts import Samples
from edgespeech.core.places import work_dir
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.records import without_paths
from edgespeech.records.schema import Band

BANDS: tuple[Band, ...] = get_args(Band)
"""What a channel may leave of the speech."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Noise to mix in: the file, the ratio in dB, the rule that defines it (`audio.mix.SnrRule`), the file's hash."""

    path: Path
    snr_db: float
    rule: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioCondition:
    """What is done to the audio of every utterance.

    Attributes:
        noise: mixed in first; None leaves it out.
        band: what a channel leaves of speech and noise; None leaves all.
        seed: of the noise; with an utterance's id it decides which part is mixed in.
        channels: what to do with audio of several (`edgespeech.audio.io.check_channels`).
    """

    noise: Noise | None = None
    band: Band | None = None
    seed: int = 0
    channels: str = MONO

    def __post_init__(self) -> None:
        if self.band is not None and self.band not in BANDS:
            raise bad("condition", "band", self.band, "one of " + ", ".join(BANDS))

    def applied(self, samples: Samples, utterance_id: str) -> Samples:
        """An utterance's samples, with shape `(N,)`, under this condition: as many."""
        if self.noise is not None:
            samples = mix_at_snr(
                samples,
                read_audio(self.noise.path, sha256=self.noise.sha256),
                self.noise.snr_db,
                rule=self.noise.rule,  # type: ignore[arg-type]  # mix_at_snr validates it
                seed=self.seed,
                utterance_id=utterance_id,
            )
        return samples if self.band is None else telephone_band(samples)


CLEAN = AudioCondition()


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """One utterance of a measurement.

    Attributes:
        corpus: whose it is.
        item: its line of the manifest.
        audio: the file.
        condition: what is done to its audio.
    """

    corpus: str
    item: Utterance
    audio: Path
    condition: AudioCondition = CLEAN

    @property
    def id(self) -> str:
        """Unique in its corpus."""
        return self.item.id

    @property
    def text(self) -> str:
        """What is said, as the corpus writes it."""
        return self.item.text

    @property
    def speaker(self) -> str | None:
        """Who says it; None where the corpus does not tell."""
        return self.item.speaker

    def samples(self) -> Samples:
        """The audio that a recogniser gets: 16 kHz, with shape `(N,)`.

        Raises:
            EdgeSpeechError: as `read_audio`: among others the file is another one, or of another length.
        """
        samples = read_audio(
            self.audio,
            offset=self.item.offset,
            duration=self.item.duration,
            channels=self.condition.channels,
            sha256=self.item.sha256,
        )
        return self.condition.applied(samples, self.item.id)


@dataclass(frozen=True, kw_only=True)
class Utterances:
    """The utterances of a measurement, corpus by corpus.

    Attributes:
        items: all of them.
        normalisers: by corpus the name of the one that its texts are scored by.
        manifests: by corpus the hash of its manifest.
        missing: by corpus the reason why it is not here.
        seed: of the subset, the noise and the intervals.
    """

    items: tuple[Spoken, ...]
    normalisers: Mapping[str, str]
    manifests: Mapping[str, str]
    missing: Mapping[str, str]
    seed: int

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Spoken]:
        return iter(self.items)


def spoken_of(
    manifest: Manifest, condition: AudioCondition = CLEAN, corpus: str | None = None
) -> tuple[Spoken, ...]:
    """Every utterance of a manifest.

    Args:
        manifest: the whole, or a subset.
        condition: what is done to the audio.
        corpus: what to call it; the manifest's name by default.
    """
    return tuple(
        Spoken(
            corpus=corpus or manifest.name, item=item, audio=manifest.audio_path(item), condition=condition
        )
        for item in manifest.utterances
    )


def utterances_of(
    corpora: Mapping[str, str],
    *,
    seed: int,
    count: int | None = None,
    noise: Noise | None = None,
    band: Band | None = None,
) -> Utterances:
    """The utterances of several corpora, or a seeded subset of so many of each.

    Args:
        corpora: splits, or manifests (`.jsonl`; in the work folder, unless they are there as named), each with the
            name of a normaliser.
        seed: of the subset, the noise and the intervals.
        count: of each corpus; None takes all.
        noise: mixed in.
        band: what a channel leaves.

    Raises:
        EdgeSpeechError: none of the corpora is here.
    """
    condition = AudioCondition(noise=noise, band=band, seed=seed)
    items: list[Spoken] = []
    normalisers: dict[str, str] = {}
    manifests: dict[str, str] = {}
    missing: dict[str, str] = {}
    for corpus, normaliser in corpora.items():
        name = Path(corpus).stem if corpus.endswith(".jsonl") else corpus
        try:
            manifest = manifest_of(_found(corpus))
        except EdgeSpeechError as error:
            missing[name] = without_paths(str(error))
            continue
        manifests[name], normalisers[name] = manifest.sha256, normaliser
        chosen = manifest if count is None else manifest.subset(count, seed)
        items += spoken_of(chosen, condition, name)
    if not items:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in missing.items())
        raise EdgeSpeechError(f"none of these corpora is here: {reasons}")
    return Utterances(
        items=tuple(items), normalisers=normalisers, manifests=manifests, missing=missing, seed=seed
    )


def _found(corpus: str) -> str:
    """A manifest's file as named, or in the work folder; a split's name as it is."""
    if not corpus.endswith(".jsonl") or Path(corpus).exists():
        return corpus
    return str(work_dir() / corpus)

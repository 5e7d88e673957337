"""The utterances of a measurement: corpus, transcript, and audio under a condition.

A manifest lists the available audio. `Utterances` selects what is measured (corpora, a seeded subset), under which
condition (added noise, a telephone's band, a lead-in), and how each corpus's texts are normalised. The audio of an
utterance is made on demand, identically for every measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from edgespeech.audio.channel import telephone_band
from edgespeech.audio.io import MONO, read_audio
from edgespeech.audio.mix import mix_at_snr
from edgespeech.contracts import LeadIn, Samples
from edgespeech.core.places import work_dir
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.corpora.streams import Scene, StreamPlan, scenes_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.records import without_paths
from edgespeech.records.schema import Band

BANDS: tuple[Band, ...] = get_args(Band)
"""The frequency bands that a condition may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Noise to mix in: the file, the ratio in dB, the rule that defines it (`audio.mix.SnrRule`), the file's hash."""

    path: Path
    snr_db: float
    rule: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioCondition:
    """The acoustic condition of every utterance.

    Attributes:
        noise: mixed in first; None leaves it out.
        band: the frequency band of the channel; None: unlimited.
        seed: of the noise; with an utterance's id it determines which segment is mixed in.
        channels: how to treat multi-channel audio (`edgespeech.audio.io.check_channels`).
    """

    noise: Noise | None = None
    band: Band | None = None
    seed: int = 0
    channels: str = MONO

    def __post_init__(self) -> None:
        if self.band is not None and self.band not in BANDS:
            raise bad("condition", "band", self.band, "one of " + ", ".join(BANDS))

    def applied(self, samples: Samples, utterance_id: str) -> Samples:
        """An utterance's samples, with shape `(N,)`, under this condition, with the same shape."""
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
        corpus: its corpus.
        item: its line of the manifest.
        audio: the file.
        condition: applied to its audio.
        scene: what surrounds it in a stream; None: it is heard alone.
    """

    corpus: str
    item: Utterance
    audio: Path
    condition: AudioCondition = CLEAN
    scene: Scene | None = None

    @property
    def id(self) -> str:
        """Unique in its corpus."""
        return self.item.id

    @property
    def text(self) -> str:
        """The transcript, as written in the corpus."""
        return self.item.text

    @property
    def speaker(self) -> str | None:
        """The speaker; None if the corpus does not state it."""
        return self.item.speaker

    def samples(self) -> Samples:
        """The audio for a recogniser: 16 kHz, with shape `(N,)`.

        Raises:
            EdgeSpeechError: as `read_audio`, for example if the file's hash or length differs.
        """
        return self.stream()[1]

    def stream(self) -> tuple[LeadIn | None, Samples]:
        """The lead-in, and the audio behind it as `samples` gives it; a lead-in is that of the scene, or what the
        manifest says of the file. It has the condition's band, and no noise but the scene's.

        Raises:
            EdgeSpeechError: as `read_audio`; or as `Scene.around`, with the utterance's id.
        """
        item = self.item
        own = self._read(item.offset, item.duration)
        if self.scene is not None:
            lead_in, samples = self.scene.around(own, item.id)
        elif item.lead_in_s is not None:
            assert item.offset is not None, "the manifest's line is checked"
            lead_in, samples = self._read(item.offset - item.lead_in_s, item.lead_in_s), own
        else:
            return None, self.condition.applied(own, item.id)
        if self.condition.band is not None:
            lead_in = telephone_band(lead_in)
        return LeadIn(lead_in), self.condition.applied(samples, item.id)

    def _read(self, offset: float | None, duration: float) -> Samples:
        return read_audio(
            self.audio,
            offset=offset,
            duration=duration,
            channels=self.condition.channels,
            sha256=self.item.sha256,
        )


@dataclass(frozen=True, kw_only=True)
class Utterances:
    """The utterances of a measurement, corpus by corpus.

    Attributes:
        items: all of them.
        normalisers: by corpus, the name of the normaliser for scoring.
        manifests: by corpus the hash of its manifest.
        missing: by corpus, the reason why it is not available.
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
    manifest: Manifest,
    condition: AudioCondition = CLEAN,
    corpus: str | None = None,
    scenes: Mapping[str, Scene] | None = None,
) -> tuple[Spoken, ...]:
    """Every utterance of a manifest.

    Args:
        manifest: the whole, or a subset.
        condition: what is done to the audio.
        corpus: its name; the manifest's name by default.
        scenes: what surrounds each utterance, by id; None: nothing.
    """
    return tuple(
        Spoken(
            corpus=corpus or manifest.name,
            item=item,
            audio=manifest.audio_path(item),
            condition=condition,
            scene=None if scenes is None else scenes[item.id],
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
    stream: StreamPlan | None = None,
) -> Utterances:
    """The utterances of several corpora, or a seeded subset of each.

    Args:
        corpora: splits, or manifests (`.jsonl`; looked up as named, then in the work folder), each with the name of a
            normaliser.
        seed: of the subset, the noise and the intervals.
        count: of each corpus; None takes all.
        noise: mixed in.
        band: what a channel leaves.
        stream: what surrounds each utterance; None: nothing.

    Raises:
        EdgeSpeechError: none of the corpora is available, or as `edgespeech.corpora.streams.scenes_of`.
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
        scenes = None if stream is None else scenes_of(stream, manifest, chosen.utterances, seed)
        items += spoken_of(chosen, condition, name, scenes)
    if not items:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in missing.items())
        raise EdgeSpeechError(f"none of these corpora is available: {reasons}")
    return Utterances(
        items=tuple(items), normalisers=normalisers, manifests=manifests, missing=missing, seed=seed
    )


def _found(corpus: str) -> str:
    """A manifest's file as named, or in the work folder; a split's name as it is."""
    if not corpus.endswith(".jsonl") or Path(corpus).exists():
        return corpus
    return str(work_dir() / corpus)

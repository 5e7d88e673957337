"""The speech of a training run: checked, and decoded once into a memory-mapped file per corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import work_dir
from edgespeech.corpora.corpora import assert_trainable, corpus_names, find_split, load_corpus
from edgespeech.corpora.fetch import evaluation_audio, manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.corpora.real_dev import held_out
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.config import Source, TrainConfig
from edgespeech.training.shards import Shards
from edgespeech.training.store import Store, as_float, decoded


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An utterance to train on: the position of its samples, and its words.

    Attributes:
        sounds_only: see `Source`.
        learns_words: likewise.
        names: phrases that its manifest gives it: the values of its slots, and its context.
        speaker: who speaks; None if its manifest does not say.
    """

    id: str
    text: str
    corpus: int
    start: int
    samples: int
    sounds_only: str | None = None
    learns_words: bool = True
    names: tuple[str, ...] = ()
    speaker: str | None = None

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.samples / SAMPLE_RATE


class Speech:
    """Utterances of several corpora, with their samples. Obtain one from `load_speech`.

    Attributes:
        items: all utterances, corpus after corpus.
        repeats: of each corpus, as configured.
        sha256: of all manifests.
    """

    def __init__(
        self, items: Sequence[Item], stores: Sequence[Store], repeats: Sequence[float], sha256: str
    ) -> None:
        self.items = tuple(items)
        self.repeats = tuple(repeats)
        self.sha256 = sha256
        self._stores = tuple(stores)
        self._open: list[NDArray[np.int16]] = []

    def samples(self, item: Item) -> Samples:
        """An utterance's samples in [-1, 1], with shape `(N,)`."""
        return as_float(self._stored(item))

    def audio_sha256(self, item: Item) -> str:
        """A hash of an utterance's samples."""
        return hashlib.sha256(self._stored(item).tobytes()).hexdigest()

    def _stored(self, item: Item) -> NDArray[np.int16]:
        if not self._open:  # each process opens it separately
            self._open = [store.open() for store in self._stores]
        return self._open[item.corpus][item.start : item.start + item.samples]


def load_speech(sources: Sequence[Source], *, longest_s: float, shards: Shards | None = None) -> Speech:
    """Read, check and decode the speech of a run. Decoded speech is cached.

    Args:
        sources: the corpora.
        longest_s: of an utterance, in seconds.
        shards: with the corpora; None uses the corpora themselves.

    Raises:
        EdgeSpeechError: a split or manifest for evaluation, audio that is missing or damaged, an utterance
            without words or above `longest_s`, or the same corpus twice.
    """
    items: list[Item] = []
    stores: list[Store] = []
    digests: list[str] = []
    parts: list[str] = []
    for number, source in enumerate(sources):
        manifest, store = corpus_audio(source.corpus, shards)
        if manifest.identity() in digests:
            raise bad("train", "speech", source.corpus, "each corpus once (use repeat)")
        # The hash of the file does not depend on the held-out speakers.
        digests.append(manifest.identity())
        parts.append(f"{manifest.identity()}:{_ids(manifest.utterances)}")
        stores.append(store)
        for utterance, (start, samples) in zip(manifest.utterances, store.spans, strict=True):
            where = f"{manifest.name}: utterance {utterance.id}"
            if not (utterance.text.strip() or source.teacher_only):
                raise bad(where, "text", utterance.text, "words to learn")
            if samples > longest_s * SAMPLE_RATE:
                raise bad(where, "duration", samples / SAMPLE_RATE, f"at most longest_s, {longest_s} s")
            items.append(
                Item(
                    id=utterance.id,
                    text=utterance.text,
                    corpus=number,
                    start=start,
                    samples=samples,
                    sounds_only=source.sounds_only,
                    learns_words=source.learns_words,
                    names=(*(utterance.slots or {}).values(), *utterance.context),
                    speaker=utterance.speaker,
                )
            )
    sha256 = hashlib.sha256("".join(parts).encode()).hexdigest()
    return Speech(items, stores, [source.repeat for source in sources], sha256)


def corpus_audio(corpus: str, shards: Shards | None = None) -> tuple[Manifest, Store]:
    """A trainable corpus, and its samples: from shards, or from the corpus itself.

    Raises:
        EdgeSpeechError: as `trainable`, or it is not in the shards.
    """
    if shards is None:
        manifest = trainable(corpus)
        return manifest, decoded(manifest)
    if not corpus.endswith(".jsonl"):
        assert_trainable(corpus)
    return shards.corpus(corpus)


def trainable(corpus: str) -> Manifest:
    """The manifest of a trainable split, or of a `.jsonl` file (looked up as named, then in the work folder), without
    the speakers that are held out for tuning (`real_dev`).

    Raises:
        EdgeSpeechError: it is a split for evaluation or tuning, or has utterances of one.
    """
    tuned_on = _held_out_splits()
    if not corpus.endswith(".jsonl"):
        assert_trainable(corpus)
        manifest = manifest_of(corpus)
        return held_out(manifest)[0] if corpus in tuned_on else manifest
    manifest = manifest_of(corpus if Path(corpus).exists() else str(work_dir() / corpus))
    for name in corpus_names():
        for split_name, split in load_corpus(name).splits.items():
            if split.sha256 != manifest.sha256:
                continue
            if split.evaluation_only:
                raise EdgeSpeechError(
                    f"{corpus}: is the evaluation split {split_name}, expected a training split"
                )
            if split_name in tuned_on:
                raise EdgeSpeechError(
                    f"{corpus}: is {split_name}, expected that name: some speakers are held out"
                )
    guarded = evaluation_audio()
    for utterance in manifest.utterances:
        content = utterance.sha256 or sha256_file(manifest.audio_path(utterance))
        if content in guarded:
            raise EdgeSpeechError(
                f"{corpus}: utterance {utterance.id} is audio of the evaluation split {guarded[content]}, "
                "expected none that is for evaluation only"
            )
    held = tuple(f"{name}/" for name in tuned_on)  # the prefixes of `named_by_split`
    for utterance in manifest.utterances:
        if utterance.id.startswith(held):
            raise bad(f"{corpus}: utterance", "id", utterance.id, "none that is held out for tuning")
        if utterance.split not in (None, "train"):
            raise bad(f"{corpus}: utterance {utterance.id}", "split", utterance.split, "train")
    return manifest


def _held_out_splits() -> set[str]:
    """The splits with held-out speakers."""
    sources = [source.held_out for name in corpus_names() for source in load_corpus(name).sources]
    return {split for source in sources if source is not None for split in source.splits}


def load_noises(*corpora: str, shards: Shards | None = None) -> dict[str, Samples]:
    """Recordings of noise corpora, or the impulse responses of rooms, by id.

    Args:
        corpora: their names.
        shards: as for `load_speech`.

    Raises:
        EdgeSpeechError: a split is for evaluation only, or unknown; two recordings with the same id; an unreadable
            file.
    """
    found: dict[str, Samples] = {}
    for corpus in corpora:
        manifest, store = corpus_audio(corpus, shards)
        samples = store.open()
        for noise, (start, length) in zip(manifest.utterances, store.spans, strict=True):
            if noise.id in found:
                raise bad(
                    f"{corpus}: recording", "id", noise.id, "an id that no other noise corpus of the run has"
                )
            found[noise.id] = as_float(samples[start : start + length])
    return found


def tuning_manifest(corpus: str) -> Manifest:
    """The manifest of a corpus that may be used for tuning.

    Raises:
        EdgeSpeechError: the corpus is not available, or is for evaluation only.
    """
    if corpus.endswith(".jsonl"):
        return manifest_of(str(work_dir() / corpus))
    described, split = find_split(corpus)
    if described.splits[split].evaluation_only:
        raise EdgeSpeechError(f"{corpus}: is for evaluation only, expected a split for tuning")
    return manifest_of(corpus)


def run_manifests(config: TrainConfig) -> dict[str, Manifest]:
    """The manifests of all audio of a run, by the names in its configuration.

    Raises:
        EdgeSpeechError: a corpus is not available, or must not be used for this purpose.
    """
    trained = [*config.speech_corpora, *config.noise_corpora, *config.room_corpora]
    found = {name: trainable(name) for name in trained}
    if config.watch is not None:
        found |= {name: tuning_manifest(name) for name in config.watch.tuning}
    return found


def encode_items(items: Sequence[Item], tokeniser: Tokeniser, model: ModelConfig) -> list[list[int]]:
    """The labels of each utterance; empty if its words are not learned.

    Raises:
        EdgeSpeechError: words that cannot be spelled by pieces, or more labels than transcriber frames.
    """
    encoded: list[list[int]] = []
    for item in items:
        if not item.learns_words:
            encoded.append([])
            continue
        labels = tokeniser.encode(item.text)
        frames = int(item.seconds / model.frame_s)
        if len(labels) > frames:
            raise bad(
                f"train: utterance {item.id}",
                "labels",
                len(labels),
                f"at most its frames, {frames} of {1000 * model.frame_s:.0f} ms",
            )
        encoded.append(labels)
    return encoded


def _ids(utterances: Sequence[Utterance]) -> str:
    return "\n".join(utterance.id for utterance in utterances)

"""Real speech for tuning: some speakers of training corpora are held out, by a hash of their names.

A hash of a name does not depend on the order of a manifest or on a random generator, so that every machine holds out
the same speakers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from edgespeech.corpora.manifest import Manifest, Utterance

_SHARE = 0.1


def held_out(manifest: Manifest) -> tuple[Manifest, Manifest]:
    """Split a training corpus by speaker.

    Args:
        manifest: of the whole split. Where it names no speakers, each utterance counts as one.

    Returns:
        The utterances for training; and those of a tenth of the speakers, at least of one.
    """
    speakers = sorted({_speaker(item) for item in manifest.utterances}, key=_rank)
    chosen = set(speakers[: max(1, round(_SHARE * len(speakers)))])
    rest = tuple(item for item in manifest.utterances if _speaker(item) not in chosen)
    held = tuple(item for item in manifest.utterances if _speaker(item) in chosen)
    return replace(manifest, utterances=rest), replace(manifest, utterances=held)


def named_by_split(manifest: Manifest) -> Iterator[Utterance]:
    """The utterances for a manifest of several splits: ids and speakers with the split as a prefix."""
    for item in manifest.utterances:
        change = {
            "id": f"{manifest.name}/{item.id}",
            "audio_filepath": str(manifest.audio_path(item).resolve()),
            "speaker": f"{manifest.name}/{_speaker(item)}",
            "split": None,
        }
        yield item.model_copy(update=change)


def _speaker(item: Utterance) -> str:
    return item.speaker or item.id


def _rank(speaker: str) -> str:
    return hashlib.sha256(f"real_dev:{speaker}".encode()).hexdigest()

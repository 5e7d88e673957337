"""What a step of the pipeline reads beside what other steps made: splits that it fetches, single recordings."""

from __future__ import annotations

from collections.abc import Iterable

from edgespeech.contracts import Samples
from edgespeech.corpora.download import UnavailableError
from edgespeech.corpora.fetch import fetch, manifest_of
from edgespeech.errors import bad
from edgespeech.steps.store import SkippedError


def fetch_all(splits: Iterable[str]) -> None:
    """Get the splits that a step reads.

    Raises:
        SkippedError: no source gives one of them here.
    """
    try:
        for split in splits:
            fetch(split)
    except UnavailableError as error:
        raise SkippedError(str(error)) from error


def recording(corpus: str, name: str) -> Samples:
    """One recording of a corpus, such as a noise.

    Args:
        corpus: a split, or a corpus of one.
        name: its id there.

    Returns:
        At 16 kHz, with shape `(N,)`.

    Raises:
        EdgeSpeechError: the corpus is not here, or has no such recording.
    """
    manifest = manifest_of(corpus)
    found = next((one for one in manifest.utterances if one.id == name), None)
    if found is None:
        raise bad(corpus, "recording", name, "the id of one of its recordings")
    return manifest.read(found)

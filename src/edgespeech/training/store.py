"""Decoded speech on disk: the concatenated samples of a corpus in one memory-mapped file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from edgespeech.contracts import Samples
from edgespeech.core.files import TEMPORARY, owned, write_atomic
from edgespeech.core.places import work_dir
from edgespeech.corpora.manifest import Manifest
from edgespeech.errors import EdgeSpeechError

FULL_SCALE = 32768.0
_FORMAT = 2

Span = tuple[int, int]
"""Start and number of an utterance's samples in its file."""


@dataclass(frozen=True, slots=True)
class Store:
    """The samples of a corpus: 16 bit, 16 kHz.

    Attributes:
        path: of the file.
        spans: of each utterance, in the manifest's order.
    """

    path: Path
    spans: Sequence[Span]

    def open(self) -> NDArray[np.int16]:
        """All samples, memory-mapped, with shape `(N,)`."""
        return np.memmap(self.path, np.int16, "r")


def as_float(samples: NDArray[np.int16]) -> Samples:
    """Stored samples in [-1, 1]."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def decoded(manifest: Manifest) -> Store:
    """The samples of all utterances of a manifest, which are cached.

    Raises:
        EdgeSpeechError: audio that is missing or damaged.
    """
    ids = "\n".join(utterance.id for utterance in manifest.utterances)
    key = hashlib.sha256(f"{_FORMAT}:{manifest.identity()}:{ids}".encode()).hexdigest()
    path = work_dir() / "training" / "speech" / f"{key}.raw"
    index = path.with_suffix(".json")
    if not (index.is_file() and path.is_file()):
        pieces = (
            manifest.read(utterance)
            for utterance in track(manifest.utterances, f"decode {manifest.name}", transient=True)
        )
        spans = write_raw(path, pieces)
        write_atomic(index, json.dumps(spans))
    return Store(path, json.loads(index.read_text(encoding="utf-8")))


def append_samples(file: BinaryIO, samples: Samples) -> Span:
    """Append an utterance's samples to a file."""
    start = file.tell() // 2
    file.write(np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype(np.int16).tobytes())
    return start, samples.size


def write_raw(path: Path, pieces: Iterable[Samples]) -> list[Span]:
    """Write samples from an iterator into a file that appears only when complete; return their positions.

    Raises:
        EdgeSpeechError: the file cannot be written, or as the iterator does.
    """
    part = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with owned(part) as file:
            try:
                spans = [append_samples(file, samples) for samples in pieces]
                file.flush()
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be written: {error.strerror or error}") from error
    return spans

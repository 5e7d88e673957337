"""A cache of a teacher's features on disk: reduced by principal components and rounded to 8 bits.

A store is a folder with three files. `basis.safetensors` has the reduction of features, and the teacher's identity.
`features.int8` has the concatenated rows of all utterances, `index.jsonl` a line for each utterance: the SHA-256 of its
samples, and the start and number of its rows. Utterances are only appended, the rows before the line, so that an
interrupted fill resumes. An hour of audio takes `3600 / frame_s * dims` bytes: 23 MB for 128 numbers every
20 ms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgespeech.contracts import Samples
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.locks import locked
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.training.store import Span
from edgespeech.training.teacher import Teacher

BASIS, FEATURES, INDEX = "basis.safetensors", "features.int8", "index.jsonl"
_FORMAT = "edgespeech-teacher-1"
_FITTED_ON = 200
"""Number of utterances for estimating the principal components."""
_STEPS_PER_DEVIATION = 32.0
"""Range of the 8 bits: four standard deviations either way; values beyond are clipped."""
_SEED = 29

Audio = Mapping[str, Callable[[], Samples]]
"""Utterances: the SHA-256 of each one's samples, and a function that returns them."""


@dataclass(frozen=True, slots=True)
class Basis:
    """The reduction of a teacher's features.

    Attributes:
        mean, scale: of each of the teacher's W features, with shape `(W,)`; scale is one over its deviation.
        components: with shape `(W, D)`, the first D principal components of the scaled features.
        deviation: of each of the D components, with shape `(D,)`.
        about: the teacher's name, hash, settings and frame, and the share of the variance in the D components.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    deviation: NDArray[np.float32]
    about: Mapping[str, str]

    @property
    def frame_s(self) -> float:
        """Time between rows."""
        return float(self.about["frame_s"])

    def reduce(self, features: NDArray[np.float32]) -> NDArray[np.int8]:
        """Reduce a teacher's rows `(J, W)` to stored ones, `(J, D)`."""
        reduced = ((features - self.mean) * self.scale) @ self.components
        return np.clip(np.rint(reduced * (_STEPS_PER_DEVIATION / self.deviation)), -127, 127).astype(np.int8)

    def restore(self, stored: NDArray[np.int8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Stored rows as floats whose mean square over all rows and components is 1."""
        root = math.sqrt(float(np.mean(np.square(self.deviation))))
        restored: NDArray[np.float32] = stored * (self.deviation / np.float32(_STEPS_PER_DEVIATION * root))
        return restored


def fit_basis(features: Sequence[NDArray[np.float32]], dims: int, about: Mapping[str, str]) -> Basis:
    """Principal components of a sample of a teacher's features, each scaled to deviation 1.

    Args:
        features: of some utterances, each with shape `(J, W)`.
        dims: number of components, at most W.
        about: see `Basis`, without the variance.
    """
    rows = np.concatenate(features).astype(np.float64)
    mean, scale = rows.mean(0), 1 / np.maximum(rows.std(0), 1e-6)
    normal = (rows - mean) * scale
    variances, vectors = np.linalg.eigh(normal.T @ normal / len(normal))
    kept = variances[::-1][:dims].clip(min=1e-12)
    return Basis(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        components=np.ascontiguousarray(vectors[:, ::-1][:, :dims], dtype=np.float32),
        deviation=np.sqrt(kept).astype(np.float32),
        about={**about, "variance": f"{kept.sum() / variances.clip(min=0).sum():.4f}"},
    )


class TeacherStore:
    """Stored features of a teacher, by the hash of the audio.

    Args:
        folder: of the store; made by `fill`.
        name: of the teacher.
        dims: number of components.
    """

    def __init__(self, folder: Path, name: str, dims: int) -> None:
        self._folder, self._name, self._dims = folder, name, dims
        self._rows: NDArray[np.int8] | None = None

    @property
    def basis(self) -> Basis:
        """The reduction of the features.

        Raises:
            EdgeSpeechError: there is no store, or it is damaged, of another teacher, or of another number of dims.
        """
        path = self._folder / BASIS
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError) as error:
            raise EdgeSpeechError(f"{path}: not a readable store of a teacher's features: {error}") from error
        for field, wanted in (("format", _FORMAT), ("teacher", self._name), ("dims", str(self._dims))):
            if about.get(field) != wanted:
                raise bad(str(path), field, about.get(field), wanted)
        return Basis(**tensors, about=about)

    @property
    def sha256(self) -> str:
        """The hash of the basis, which determines every feature together with the audio."""
        return sha256_file(self._folder / BASIS)

    def spans(self) -> dict[str, Span]:
        """The position of each utterance's rows, by the hash of its audio; empty if there is no store yet.

        Raises:
            EdgeSpeechError: the index is damaged, or the features are truncated.
        """
        index, features = self._folder / INDEX, self._folder / FEATURES
        if not index.is_file():
            return {}
        found: dict[str, Span] = {}
        lines = index.read_bytes().split(b"\n")  # the last one is empty or incomplete
        for number, line in enumerate(lines[:-1], 1):
            try:
                about = json.loads(line)
                found[str(about["audio"])] = (int(about["start"]), int(about["rows"]))
            except (ValueError, KeyError, TypeError) as error:
                raise bad(
                    f"{index}: line {number}",
                    "utterance",
                    line[:80].decode(errors="replace"),
                    "audio, start, rows",
                ) from error
        size = features.stat().st_size if features.is_file() else 0
        if size < (needed := self._dims * max((start + rows for start, rows in found.values()), default=0)):
            raise bad(str(features), "bytes", size, f"{needed} or more, as {INDEX} says: it was cut short")
        return found

    def rows(self, span: Span) -> NDArray[np.int8]:
        """An utterance's rows, with shape `(J, D)`. Each process opens the file separately."""
        if self._rows is None:
            whole = np.memmap(self._folder / FEATURES, np.int8, "r")
            self._rows = whole[: whole.size // self._dims * self._dims].reshape(-1, self._dims)
        start, count = span
        return self._rows[start : start + count]

    def fill(self, audio: Audio, teacher: Callable[[], Teacher], *, quiet: bool = False) -> dict[str, Span]:
        """Compute the missing features, after waiting for any other process that fills the same store.

        Args:
            audio: the utterances.
            teacher: constructor, called if a feature or the basis is missing.
            quiet: no progress bar.

        Returns:
            The position of the rows of each utterance.

        Raises:
            EdgeSpeechError: the store is damaged, of another teacher or frame, or the teacher is not available.
        """
        with self._locked():
            begun = any((self._folder / name).is_file() for name in (BASIS, INDEX))
            basis = self.basis if begun else None
            spans = self.spans()
            if wanted := [key for key in audio if key not in spans]:
                opened = teacher()
                basis = self._fit(audio, opened, quiet=quiet) if basis is None else basis
                self._check(basis, opened)
                shown = track(wanted, f"features of {self._name}", transient=True, disable=quiet)
                made = ((key, basis.reduce(opened.features(audio[key]()))) for key in shown)
                spans |= self._append(made, spans)
        self._rows = None
        return {key: spans[key] for key in audio}

    def _check(self, basis: Basis, teacher: Teacher) -> None:
        """Refuse the basis of another teacher."""
        for field, wanted in _about(self._name, teacher, self._dims).items():
            if basis.about[field] != wanted:
                path = str(self._folder / BASIS)
                raise bad(path, field, basis.about[field], f"{wanted}, that of the present teacher")

    def _fit(self, audio: Audio, teacher: Teacher, *, quiet: bool) -> Basis:
        if self._dims > teacher.width:
            raise bad("train: teacher", "dims", self._dims, f"at most {teacher.width}, as {self._name} has")
        keys = sorted(audio)
        chosen = np.random.default_rng(_SEED).permutation(len(keys))[:_FITTED_ON].tolist()
        shown = track(chosen, f"components of {self._name}", transient=True, disable=quiet)
        sample = [teacher.features(audio[keys[place]]()) for place in shown]
        basis = fit_basis(sample, self._dims, _about(self._name, teacher, self._dims))
        tensors: dict[str, NDArray[Any]] = {
            field: getattr(basis, field) for field in ("mean", "scale", "components", "deviation")
        }
        write_atomic(self._folder / BASIS, save(tensors, dict(basis.about)))
        return basis

    def _append(
        self, made: Iterator[tuple[str, NDArray[np.int8]]], spans: Mapping[str, Span]
    ) -> dict[str, Span]:
        """Append utterances to the store, each one's rows before its line in the index."""
        end = max((start + count for start, count in spans.values()), default=0)
        added: dict[str, Span] = {}
        with (self._folder / FEATURES).open("ab") as features, (self._folder / INDEX).open("ab") as index:
            features.truncate(end * self._dims)  # rows of an interrupted run without a line
            index.truncate(_whole_lines(self._folder / INDEX))
            for key, rows in made:
                features.write(rows.tobytes())
                features.flush()
                added[key] = (end, len(rows))
                line = {"audio": key, "start": end, "rows": len(rows)}
                index.write(json.dumps(line).encode() + b"\n")
                index.flush()
                end += len(rows)
        return added

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeSpeechError(f"{self._folder}: could not be made: {error.strerror}") from error
        with locked(self._folder / "lock"):
            yield


def _about(name: str, teacher: Teacher, dims: int) -> dict[str, str]:
    """The identity that a store must match."""
    return {
        "format": _FORMAT,
        "teacher": name,
        "teacher_sha256": teacher.sha256,
        "settings": teacher.settings,
        "frame_s": f"{teacher.frame_s:g}",
        "dims": str(dims),
    }


def _whole_lines(path: Path) -> int:
    """Bytes of a file up to its last line end."""
    return path.read_bytes().rfind(b"\n") + 1

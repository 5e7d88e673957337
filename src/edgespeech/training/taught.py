"""What a teacher says of each frame that a student sees: features found, moved in time, and put into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.audio.augment import Timing
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.places import work_dir
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.config import Teach
from edgespeech.training.speech import Item, Speech
from edgespeech.training.store import Span
from edgespeech.training.teacher import Taught, Teacher, teacher_kind
from edgespeech.training.teacher_store import TeacherStore


class Lessons:
    """The teacher's features of a run's speech. Obtain one from `learn_from`.

    Args:
        store: that has them.
        spans: where those of each utterance are, in the order of `Speech.items`.
        frame_s: of the student.
        delay_frames: see `edgespeech.training.config.Teach`.
    """

    def __init__(self, store: TeacherStore, spans: Sequence[Span], frame_s: float, delay_frames: int) -> None:
        self._store, self._spans = store, tuple(spans)
        self._frame_s, self._delay_frames = frame_s, delay_frames
        self._basis = store.basis

    @property
    def dims(self) -> int:
        """Numbers of a target."""
        return int(self._basis.components.shape[1])

    @property
    def sha256(self) -> str:
        """Of the store's basis."""
        return self._store.sha256

    def of(
        self, places: Sequence[int], frames: Sequence[int], timings: Sequence[Timing], audio_s: float
    ) -> Taught:
        """The targets of a process's share of a step.

        Args:
            places: of its utterances among the run's.
            frames: transcriber frames of each.
            timings: how each was moved in time.
            audio_s: of the whole step before augmentation, of all processes.
        """
        longest = max(frames, default=0)
        targets = torch.zeros(len(places), longest, self.dims)
        known = torch.zeros(len(places), longest, dtype=torch.bool)
        for row, (place, count, timing) in enumerate(zip(places, frames, timings, strict=True)):
            rows = self._store.rows(self._spans[place])
            at = teacher_rows(count, self._frame_s, self._basis.frame_s, timing, self._delay_frames)
            found, inside = between_rows(rows, at)
            targets[row, :count] = torch.from_numpy(self._basis.restore(found))
            known[row, :count] = torch.from_numpy(inside)
        return Taught(targets, known, audio_s / self._frame_s)


def teacher_rows(
    frames: int, student_s: float, teacher_s: float, timing: Timing, delay_frames: int
) -> NDArray[np.float64]:
    """Which row of a teacher, in fractions, each frame of a student is to imitate.

    The middle of frame t, less the delay, is a moment of the augmented audio; less the silence before the speech, and
    at the clean speech's rate, one of the clean audio; row j of the teacher is about `j * teacher_s`.

    Args:
        frames: T of the student.
        student_s: of a frame.
        teacher_s: of a row.
        timing: of the augmentation.
        delay_frames: so many frames the student comes after the teacher.

    Returns:
        With shape `(T,)`; below 0 before the speech.
    """
    middle = (np.arange(frames) + 0.5 - delay_frames) * student_s
    clean = (middle - timing.before / SAMPLE_RATE) * timing.speed
    return np.asarray(clean / teacher_s, np.float64)


def between_rows(
    rows: NDArray[np.int8], at: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows at fractions of places, by linear interpolation.

    Args:
        rows: with shape `(J, D)`, J >= 1.
        at: with shape `(T,)`.

    Returns:
        The values with shape `(T, D)`, zeros outside of the rows; and whether each is inside, with shape `(T,)`.
    """
    inside = (at >= 0) & (at <= len(rows) - 1)
    found = np.zeros((len(at), rows.shape[1]), np.float32)
    low = np.floor(at[inside]).astype(np.int64)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (at[inside] - low).astype(np.float32)[:, None]
    found[inside] = (1 - share) * rows[low] + share * rows[high]
    return found, inside


def learn_from(teach: Teach, speech: Speech, frame_s: float, *, quiet: bool = False) -> Lessons:
    """The teacher's features of all of a run's speech; those that are not stored yet are made.

    Args:
        teach: which teacher, and how.
        speech: of the run.
        frame_s: of the student's transcriber.
        quiet: no progress bar.

    Raises:
        EdgeSpeechError: the teacher cannot be had, or the store is damaged or of another one.
    """
    store = TeacherStore(store_folder(teach), teach.name, teach.dims)
    keys = [speech.audio_sha256(item) for item in speech.items]
    audio = {key: _samples_of(speech, item) for key, item in zip(keys, speech.items, strict=True)}
    spans = store.fill(audio, lambda: open_teacher(teach.name), quiet=quiet)
    return Lessons(store, [spans[key] for key in keys], frame_s, teach.delay_frames)


def store_folder(teach: Teach) -> Path:
    """The folder of a teacher's features."""
    return work_dir() / "training" / "teacher" / f"{teach.name}-{teach.dims}"


def open_teacher(name: str) -> Teacher:
    """The teacher of a name.

    Raises:
        EdgeSpeechError: it cannot be had here; the reason is given.
    """
    kind = teacher_kind(name)
    if (missing := kind.missing()) is not None:
        raise EdgeSpeechError(f"train: teacher {name} is not available: {missing}")
    return kind.open()


def _samples_of(speech: Speech, item: Item) -> Callable[[], Samples]:
    return lambda: speech.samples(item)

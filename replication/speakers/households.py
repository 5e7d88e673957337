"""Open-set identification: a device knows a few voices, and strangers speak too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from replication.speakers.trials import Trials


class Outcomes(NamedTuple):
    """What becomes of test utterances, each of which is once at home and once at the next household.

    Attributes:
        speakers: of each test utterance.
        right: at home: whether it gets its speaker's name.
        accepted: at the next household: whether it gets a name.
    """

    speakers: list[str]
    right: NDArray[np.bool_]
    accepted: NDArray[np.bool_]


def outcomes(trials: Trials, cosines: NDArray[np.float32], threshold: float, size: int) -> Outcomes:
    """Identify all test utterances, at home and among strangers.

    Speakers live together in the order of the list, `size` of them in a household and the rest in the last; with one
    household alone nobody is a stranger, and it is cut in two.

    Args:
        trials: with one voice for each speaker.
        cosines: of every voice with every test, with shape `(V, T)`.
        threshold: from which on a voice is accepted.
        size: of a household.
    """
    count = len(trials.voices)
    size = max(1, min(size, count // 2))
    homes = np.minimum(np.arange(count) // size, count // size - 1)
    of_speaker = {voice.speaker: number for number, voice in enumerate(trials.voices)}
    own = np.array([of_speaker[speaker] for speaker, _ in trials.tests])
    right = _nearest(cosines, homes[:, None] == homes[own], threshold) == own
    next_home = (homes[own] + 1) % (homes.max() + 1)
    accepted = _nearest(cosines, homes[:, None] == next_home, threshold) >= 0
    return Outcomes([speaker for speaker, _ in trials.tests], right, accepted)


def _nearest(cosines: NDArray[np.float32], known: NDArray[np.bool_], threshold: float) -> NDArray[np.intp]:
    """The nearest voice of those that are known to each test's household; -1 where none is near enough."""
    seen = np.where(known, cosines, -np.inf)
    nearest = seen.argmax(0)
    return np.where(seen.max(0) >= threshold, nearest, -1)


def mean_over_runs(runs: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """The share of runs in which something happens, of each utterance."""
    found: NDArray[np.float64] = np.stack(runs).mean(0)
    return found

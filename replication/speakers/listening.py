"""Scores of trials by several systems: every utterance is decoded and embedded once for each condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from replication.speakers.sets import CLEAN, Condition, read
from replication.speakers.trials import Trials

from edgespeech.contracts import Samples
from edgespeech.corpora.manifest import Manifest
from edgespeech.metrics.verification import Floats
from edgespeech.speakers.network import Vector, voice_of

Embed = Callable[[Samples], Vector]
Systems = Mapping[str, Sequence[Embed]]
"""Of each system the embedders of its training runs."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A list of trials as one run of a system hears it.

    Attributes:
        voices: with shape `(V, D)`, of length 1.
        tests: with shape `(T, D)`, of length 1.
    """

    voices: Vector
    tests: Vector

    def scores(self, trials: Trials) -> Floats:
        """The cosine of each trial, with shape `(N,)`."""
        pairs = np.array(trials.pairs)
        found: Floats = (self.voices[pairs[:, 0]] * self.tests[pairs[:, 1]]).sum(1, dtype=np.float64)
        return found

    def matrix(self) -> NDArray[np.float32]:
        """The cosine of every voice with every test, with shape `(V, T)`."""
        found: NDArray[np.float32] = self.voices @ self.tests.T
        return found


@dataclass(slots=True)
class Listener:
    """Embeds utterances of one corpus.

    Attributes:
        manifest: of the corpus.
        systems: that listen.
    """

    manifest: Manifest
    systems: Systems
    _known: dict[tuple[str, str], dict[str, list[Vector]]] = field(default_factory=dict)

    def vectors(self, trials: Trials, name: str, condition: Condition) -> dict[str, list[Vectors]]:
        """Of each system's runs, voices that are enrolled as recorded and tests under a condition.

        Args:
            trials: on this corpus.
            name: of the condition.
            condition: what it does.
        """
        enrolled = list(dict.fromkeys(one for voice in trials.voices for one in voice.utterances))
        tested = [one for _, one in trials.tests]
        self._hear(enrolled, CLEAN, lambda samples, _: samples)
        self._hear(tested, name, condition)
        found: dict[str, list[Vectors]] = {}
        for system, runs in self.systems.items():
            found[system] = [
                Vectors(
                    np.stack(
                        [voice_of(self._of(voice.utterances, CLEAN, system, run)) for voice in trials.voices]
                    ),
                    self._of(tested, name, system, run),
                )
                for run in range(len(runs))
            ]
        return found

    def embeddings(self, names: Sequence[str], system: str, run: int) -> Vector:
        """Embeddings of utterances as recorded, which `vectors` has heard as such; with shape `(N, D)`."""
        return self._of(names, CLEAN, system, run)

    def _of(self, names: Sequence[str], condition: str, system: str, run: int) -> Vector:
        return np.stack([self._known[one, condition][system][run] for one in names])

    def _hear(self, names: Sequence[str], name: str, condition: Condition) -> None:
        new = [one for one in names if (one, name) not in self._known]
        for one, samples in read(self.manifest, new):
            changed = condition(samples, one)
            self._known[one, name] = {
                system: [embed(changed) for embed in runs] for system, runs in self.systems.items()
            }

"""The scales of the second pass: tuned on a development set, and stored with their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from edgespeech.core.files import write_atomic
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.corpora import corpus_names, load_corpus
from edgespeech.corpora.manifest import Manifest
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import PLAIN, Scales, n_best
from edgespeech.metrics.word_errors import errors_against

LANGUAGE = tuple(round(0.05 * n, 2) for n in range(25))
PREDICTION = tuple(round(0.05 * n, 2) for n in range(13))
WORD = tuple(round(0.25 * n, 2) for n in range(-4, 13))
"""The values to try, the smallest language and prediction scales first."""
START = Scales(language=0.4)
"""Initial scales, close to those of icefall's recipes (papers.md section 8)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of an utterance: N paths, the transducer's own best one first.

    Attributes:
        scores: the transducer's, the language model's, the prediction, and the number of words, with shape `(N, 4)`.
        errors: of words against the reference, with shape `(N,)`.
        words: of the reference.
    """

    scores: NDArray[np.float64]
    errors: NDArray[np.int64]
    words: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """The scales with the fewest errors, and the errors on the tuning set.

    Attributes:
        scales: the smallest among the best ones.
        errors: word errors with them.
        errors_before: word errors of the transducer's own best paths.
        words: of the references.
    """

    scales: Scales
    errors: int
    errors_before: int
    words: int


def candidates(lattice: Lattice, reference: str, count: int = 50) -> Candidates:
    """The best paths of a lattice, those by the transducer alone and those with the language model.

    Args:
        lattice: with language scores, see `composed`.
        reference: in the lattice's spelling.
        count: of each.
    """
    found = {path.text: path for path in n_best(lattice, count)}
    found |= {path.text: path for path in n_best(lattice, count, START) if path.text not in found}
    scores = []
    for path in found.values():
        end = lattice.final[path.arcs[-1].target if path.arcs else 0]
        scores.append(
            (
                sum(arc.score for arc in path.arcs) + end.score,
                sum(arc.language for arc in path.arcs) + end.language,
                sum(arc.prediction for arc in path.arcs),
                len(path.arcs),
            )
        )
    errors = errors_against(reference, list(found))
    return Candidates(np.array(scores, np.float64), np.array(errors, np.int64), len(reference.split()))


def tune(cases: Sequence[Candidates], *, internal: bool) -> Tuned:
    """The scales with the fewest word errors over all utterances, among `LANGUAGE`, `PREDICTION` and `WORD`.

    Args:
        cases: one per utterance.
        internal: whether prediction scores may be subtracted; else their scale is 0.

    Raises:
        EdgeSpeechError: there are no utterances.
    """
    if not cases:
        raise bad("tuning", "utterances", 0, "at least one")
    scores = np.concatenate([case.scores for case in cases])
    errors = np.concatenate([case.errors for case in cases])
    starts = np.cumsum([0, *(len(case.errors) for case in cases)])[:-1]
    lengths = np.diff([*starts, len(errors)])
    predictions = PREDICTION if internal else (0.0,)
    best: tuple[int, Scales] | None = None
    for language, prediction, word in product(LANGUAGE, predictions, sorted(WORD, key=abs)):
        worth = scores @ np.array([1.0, language, -prediction, word])
        top = np.repeat(np.maximum.reduceat(worth, starts), lengths)
        # Ties go to the first path.
        place = np.where(worth == top, np.arange(len(worth)), len(worth))
        made = int(errors[np.minimum.reduceat(place, starts)].sum())
        if best is None or made < best[0]:
            best = made, Scales(language=language, prediction=prediction, word=word)
    assert best is not None
    return Tuned(
        scales=best[1],
        errors=best[0],
        errors_before=int(errors[starts].sum()),
        words=sum(case.words for case in cases),
    )


def assert_tunable(manifest: Manifest) -> None:
    """Refuse a manifest that is for evaluation only.

    Raises:
        EdgeSpeechError: it is, or has utterances of a part for tests.
    """
    for corpus in corpus_names():
        for name, split in load_corpus(corpus).splits.items():
            if split.evaluation_only and manifest.sha256 == split.sha256:
                raise EdgeSpeechError(f"tuning: {name} is for evaluation only, expected a development set")
    for utterance in manifest.utterances:
        if utterance.split not in (None, "dev", "train"):
            raise bad(f"tuning: utterance {utterance.id}", "split", utterance.split, "dev or train")


def save_scales(path: Path, scales: Mapping[str, Scales], provenance: Mapping[str, object]) -> None:
    """Write scales with their provenance, atomically.

    Args:
        path: the file to write.
        scales: by name.
        provenance: inputs and results of the tuning; any YAML values.
    """
    content = {
        "scales": {name: asdict(each) for name, each in scales.items()},
        "provenance": dict(provenance),
    }
    told = "# Found on a development set by edgespeech.secondpass.tuning.\n"
    write_atomic(path, told + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def load_scales(path: Path) -> dict[str, Scales]:
    """Read scales by their names.

    Raises:
        EdgeSpeechError: the file is missing, not YAML, or has other content.
    """
    try:
        content = load_yaml(path)
    except OSError as error:
        raise bad("rescoring", "scales", str(path), "a text file that exists") from error
    told = content.get("scales") if isinstance(content, dict) else None
    if not isinstance(told, dict):
        raise bad(str(path), "scales", told, "a mapping of names to scales")
    wanted = asdict(PLAIN)
    for name, values in told.items():
        if not isinstance(values, dict) or values.keys() != wanted.keys():
            raise bad(str(path), f"scales of {name}", values, "a mapping of " + ", ".join(wanted))
        for field, value in values.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
                raise bad(str(path), f"{field} of {name}", value, "a finite number")
    return {str(name): Scales(**values) for name, values in told.items()}

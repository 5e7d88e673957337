"""The gain of the second pass on test sets: rows of a record, and their table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from replication.lattices.lists import ARMS, LatticeCodec, rescored, sent

from edgespeech.contracts import Samples
from edgespeech.corpora.utterances import Utterances
from edgespeech.errors import bad
from edgespeech.harness.hear import hear
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import Scales, best_path, oracle
from edgespeech.lattice.search import lattice_of
from edgespeech.metrics.statistics import PairedDifference, bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.word_errors import errors_against
from edgespeech.model.checkpoint import Trained
from edgespeech.report.text import markdown_table, number
from edgespeech.search.settings import SearchSettings
from edgespeech.secondpass.scoring import InternalScorer, RememberingScorer, WordScorer
from edgespeech.text.normalise import Normaliser

Row = dict[str, Any]
FIRST, LISTED = ARMS[0], ARMS[2]
"""The lattice, and the control at equal bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An utterance of a test set.

    Attributes:
        corpus: its name.
        speaker: of the utterance; None if unknown.
        words: its reference, in the lattices' spelling.
        lattice: from the search.
    """

    corpus: str
    speaker: str | None
    words: tuple[str, ...]
    lattice: Lattice


def heard_with_lattices(
    trained: Trained, utterances: Utterances, normalise: Normaliser, *, beam: int, merge: int
) -> list[Heard]:
    """Utterances with the lattices of the device's search.

    Args:
        trained: the device's model.
        utterances: to decode.
        normalise: converts references to the lattices' spelling.
        beam: of the search, see `LatticeDecoder`.
        merge: see `LatticeDecoder`.
    """

    def recognised(samples: Samples) -> tuple[str, Lattice]:
        lattice = lattice_of(trained, samples, beam, merge)
        return best_path(lattice).text, lattice

    settings = SearchSettings(
        beam=beam, language_model=trained.fusion is not None, final_s=None, chunk_s=None
    )
    heard = hear(recognised, utterances, settings=settings)
    return [
        Heard(
            corpus=one.corpus,
            speaker=one.speaker,
            words=tuple(normalise(one.text).split()),
            lattice=lattice,
        )
        for one, lattice in zip(utterances, heard.beside, strict=True)
    ]


def measured(
    heard: Sequence[Heard],
    scorer: WordScorer,
    internal: InternalScorer,
    scales: Mapping[str, Scales],
    codec: LatticeCodec,
    *,
    seed: int,
    pooled: Collection[str] | None = None,
) -> Iterator[Row]:
    """Every arm on all utterances: rows for the claims `lattices.second_pass*`.

    The first row has `second_pass`: for each corpus and arm, including the device alone, its `errors`, `oracle`
    (errors of the oracle of what arrived), `bytes` (mean), `words` and `utterances`.

    Args:
        heard: of all corpora, at least one.
        scorer: the language model.
        internal: of the device's model.
        scales: by the arms' names; found on a development set.
        codec: the encoding of lattices.
        seed: of the intervals.
        pooled: the corpora of the claims; None: all.

    Raises:
        EdgeSpeechError: there are no utterances of the pooled corpora, an arm has no scales, or a lattice has a word
            that cannot be spelled.
    """
    places = [n for n, one in enumerate(heard) if pooled is None or one.corpus in pooled]
    if not places:
        raise bad("second pass", "utterances", 0, "at least one")
    for arm in ARMS:
        if arm.name not in scales:
            raise bad("second pass", "scales", list(scales), f"some for {arm.name!r}")
    device = "the device alone"
    errors = {device: [_errors(one, best_path(one.lattice).text) for one in heard]}
    errors |= {arm.name: [] for arm in ARMS}
    oracles: dict[str, list[int]] = {**errors, **{arm.name: [] for arm in ARMS}}
    sizes: dict[str, list[int]] = {device: [0] * len(heard), **{arm.name: [] for arm in ARMS}}
    for one in heard:
        for arm in ARMS:
            arrived, size = sent(one.lattice, arm, codec)
            text = rescored(arrived, scorer, internal, scales[arm.name])
            errors[arm.name].append(_errors(one, text))
            oracles[arm.name].append(oracle(arrived, one.words)[1])
            sizes[arm.name].append(size)
        if isinstance(scorer, RememberingScorer):
            scorer.forget()
    table = [
        _cell(heard, name, corpus, errors[name], oracles[name], sizes[name])
        for corpus in dict.fromkeys(one.corpus for one in heard)
        for name in errors
    ]

    some = [heard[place] for place in places]
    groups = [one.speaker for one in some]
    errors = {name: [each[place] for place in places] for name, each in errors.items()}

    def against(a: Sequence[int], b: Sequence[int]) -> PairedDifference:
        return paired_ratio_difference(a, b, [len(one.words) for one in some], groups, seed=seed)

    n, before = len(some), errors[device]
    for arm in ARMS:
        here = errors[arm.name]
        points = f"{100 * against(here, before).difference:.2f} points"
        row = {
            "claim": "lattices.second_pass",
            "detail": f"{arm.name}, {points} against the device alone",
            "n": n,
        }
        if arm is FIRST:
            row["second_pass"] = table
        if sum(before):
            left = bootstrap_ratio(here, before, groups, seed=seed)
            ends = {"low": 1 - left.high, "high": 1 - left.low, "resampled": (f"{left.method}s",)}
            yield {**row, "measured": 1 - sum(here) / sum(before), **ends}
        else:
            yield {**row, "skipped": "the device alone makes no errors"}
    for claim, other, detail in (
        ("lattices.second_pass_better", device, FIRST.name),
        ("lattices.second_pass_n_best", LISTED.name, f"{FIRST.name} against {LISTED.name}"),
    ):
        told = against(errors[FIRST.name], errors[other])
        yield {
            "claim": claim,
            "detail": detail,
            "measured": told.difference,
            "n": n,
            **told.interval.as_row(),
        }


def second_pass_table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Every arm on every corpus, see `measured`."""
    head = ("Corpus", "Rescored", "WER", "Oracle WER of what is sent", "Bytes, mean")
    return markdown_table(
        head,
        [
            (
                cell["corpus"],
                cell["arm"],
                number(cell["errors"] / cell["words"], "percent"),
                number(cell["oracle"] / cell["words"], "percent"),
                f"{cell['bytes']:.0f}",
            )
            for cell in cells
        ],
    )


def _errors(one: Heard, text: str) -> int:
    return errors_against(" ".join(one.words), [text])[0]


def _cell(
    heard: Sequence[Heard],
    arm: str,
    corpus: str,
    errors: Sequence[int],
    oracles: Sequence[int],
    sizes: Sequence[int],
) -> Row:
    places = [place for place, one in enumerate(heard) if one.corpus == corpus]
    return {
        "corpus": corpus,
        "arm": arm,
        "utterances": len(places),
        "words": sum(len(heard[place].words) for place in places),
        "errors": sum(errors[place] for place in places),
        "oracle": sum(oracles[place] for place in places),
        "bytes": fmean(sizes[place] for place in places),
    }

"""Word error rate: corpus level, by jiwer, over texts that are already normalised.

WER is the sum of substitutions, deletions and insertions over the sum of reference words; it is never a mean
of per-utterance ratios. A failed utterance has an empty hypothesis and so counts as full deletions. An utterance with
an empty reference adds its insertions and no reference words; `n_empty` counts these.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgespeech.errors import bad
from edgespeech.metrics.registry import Scored, lower, ratio_figure
from edgespeech.records.records import Figure

METRICS = (
    lower(
        "wer",
        "ratio",
        "substitutions + deletions + insertions over reference words, corpus level",
        words=True,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorCounts:
    """Word errors of one utterance, or summed over many.

    Attributes:
        hits: reference words recognised.
        ref_words: `hits + substitutions + deletions`.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def ref_words(self) -> int:
        """Words of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            hits=self.hits + other.hits,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum over utterances."""
    return sum(counts, ErrorCounts())


def count_errors(refs: Sequence[str], hyps: Sequence[str]) -> list[ErrorCounts]:
    """Errors per utterance, by jiwer's alignment (unit costs).

    Args:
        refs: normalised references; words are separated by white space.
        hyps: normalised hypotheses in the same order; empty if the recogniser failed or returned nothing.

    Returns:
        One count per utterance.

    Raises:
        EdgeSpeechError: the two do not have the same length.
    """
    counts = []
    for ops in _align(refs, hyps):
        n = Counter[str]()
        for op in ops:
            n[op.type] += max(len(op.ref), len(op.hyp))
        counts.append(
            ErrorCounts(
                hits=n["equal"],
                substitutions=n["substitute"],
                deletions=n["delete"],
                insertions=n["insert"],
            )
        )
    return counts


def wer(counts: Iterable[ErrorCounts]) -> float:
    """Corpus word error rate as a ratio; it exceeds 1 if there are many insertions.

    Without any reference word it is 0 if nothing was inserted and infinite otherwise.
    """
    summed = total(counts)
    if summed.ref_words == 0:
        return math.inf if summed.errors else 0.0
    return summed.errors / summed.ref_words


def n_empty(counts: Iterable[ErrorCounts]) -> int:
    """How many utterances have an empty reference."""
    return sum(count.ref_words == 0 for count in counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusions:
    """The most frequent errors, most frequent first, ties in alphabetical order.

    Attributes:
        substitutions: (reference word, hypothesis word, how often).
        deletions: (reference word, how often).
        insertions: (hypothesis word, how often).
    """

    substitutions: tuple[tuple[str, str, int], ...]
    deletions: tuple[tuple[str, int], ...]
    insertions: tuple[tuple[str, int], ...]


def confusions(refs: Sequence[str], hyps: Sequence[str], *, top: int = 20) -> Confusions:
    """The `top` errors of each kind over a corpus; arguments as for `count_errors`."""
    substituted: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for ops in _align(refs, hyps):
        for op in ops:
            if op.type == "substitute":
                substituted.update(zip(op.ref, op.hyp, strict=True))
            elif op.type == "delete":
                deleted.update(op.ref)
            elif op.type == "insert":
                inserted.update(op.hyp)
    pairs = sorted(substituted.items(), key=lambda item: (-item[1], item[0]))[:top]
    return Confusions(
        substitutions=tuple((ref, hyp, n) for (ref, hyp), n in pairs),
        deletions=_most(deleted, top),
        insertions=_most(inserted, top),
    )


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """The corpus WER with its interval; `n` is the number of reference words."""
    counts = count_errors([item.reference for item in scored], [item.hypothesis for item in scored])
    return ratio_figure(
        METRICS[0],
        [count.errors for count in counts],
        [count.ref_words for count in counts],
        [item.speaker for item in scored],
        n=total(counts).ref_words,
        seed=seed,
    )


class _Op(NamedTuple):
    type: str
    ref: list[str]
    hyp: list[str]


def _align(refs: Sequence[str], hyps: Sequence[str]) -> Iterator[list[_Op]]:
    if len(refs) != len(hyps):
        raise bad("wer", "hypotheses", len(hyps), f"as many as references, {len(refs)}")
    if not refs:
        return
    import jiwer

    words = jiwer.Compose([jiwer.ReduceToListOfListOfWords()])
    output = jiwer.process_words(
        [" ".join(ref.split()) for ref in refs],
        [" ".join(hyp.split()) for hyp in hyps],
        reference_transform=words,
        hypothesis_transform=words,
    )
    for ref, hyp, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True):
        yield [
            _Op(
                chunk.type,
                ref[chunk.ref_start_idx : chunk.ref_end_idx],
                hyp[chunk.hyp_start_idx : chunk.hyp_end_idx],
            )
            for chunk in chunks
        ]


def _most(counter: Counter[str], top: int) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:top])

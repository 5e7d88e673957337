"""B-WER and U-WER: word errors on the words of a bias list, and on all others.

As defined by the scorer published with "Contextualized streaming end-to-end speech recognition with
trie-based deep biasing and shallow fusion" (Le et al., Interspeech 2021; facebookresearch/fbai-speech,
is21_deep_bias): a reference word belongs to the biased part when it is in the utterance's list, and so does
an insertion when the inserted word is in the list. Words are aligned at cost 4 for a substitution and 3 for a
deletion or an insertion; where two paths cost the same, a match or substitution is preferred to an insertion,
and that to a deletion, from the end of the utterance backwards. That alignment is not jiwer's, so on rare
utterances `all` differs from `wer.count_errors`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from edgespeech.errors import bad
from edgespeech.metrics.registry import Scored, lower, ratio_figure
from edgespeech.metrics.wer import ErrorCounts, total
from edgespeech.records.records import Figure

METRICS = (
    lower(
        "u_wer", "ratio", "WER over the reference words that are not in the utterance's bias list", words=True
    ),
    lower("b_wer", "ratio", "WER over the reference words that are in the utterance's bias list", words=True),
)

_SUBSTITUTION, _GAP = 4, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class BiasCounts:
    """Word errors of one utterance: over all words, and split by the bias list."""

    all: ErrorCounts
    unbiased: ErrorCounts
    biased: ErrorCounts


def count_bias_errors(
    refs: Sequence[str], hyps: Sequence[str], bias_words: Sequence[Collection[str]]
) -> list[BiasCounts]:
    """Errors per utterance, split by the utterance's bias list.

    Args:
        refs: normalised references.
        hyps: normalised hypotheses in the same order.
        bias_words: per utterance, the single words of its list, normalised alike.

    Raises:
        EdgeSpeechError: the three do not have the same length.
    """
    if not len(refs) == len(hyps) == len(bias_words):
        raise bad(
            "bias",
            "references, hypotheses, lists",
            (len(refs), len(hyps), len(bias_words)),
            "three of one length",
        )
    return [
        _count(ref.split(), hyp.split(), frozenset(words))
        for ref, hyp, words in zip(refs, hyps, bias_words, strict=True)
    ]


def bias_totals(
    refs: Sequence[str], hyps: Sequence[str], bias_words: Sequence[Collection[str]]
) -> BiasCounts:
    """The sum over all utterances; arguments as for `count_bias_errors`."""
    counts = count_bias_errors(refs, hyps, bias_words)
    return BiasCounts(
        all=total(count.all for count in counts),
        unbiased=total(count.unbiased for count in counts),
        biased=total(count.biased for count in counts),
    )


def words_of(phrases: Iterable[str]) -> frozenset[str]:
    """The single words of normalised context phrases: the bias list of an utterance."""
    return frozenset(word for phrase in phrases for word in phrase.split())


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """Both rates over the utterances with context phrases; nothing if there are none.

    `n` is the number of reference words of each part.
    """
    listed = [item for item in scored if item.context]
    counts = count_bias_errors(
        [item.reference for item in listed],
        [item.hypothesis for item in listed],
        [words_of(item.context) for item in listed],
    )
    figures: dict[str, Figure] = {}
    for metric, part in zip(METRICS, (attrgetter("unbiased"), attrgetter("biased")), strict=True):
        parts: list[ErrorCounts] = [part(count) for count in counts]
        figures |= ratio_figure(
            metric,
            [count.errors for count in parts],
            [count.ref_words for count in parts],
            [item.speaker for item in listed],
            n=total(parts).ref_words,
            used_share=len(listed) / len(scored) if scored else 0.0,
            seed=seed,
        )
    return figures


def _count(ref: list[str], hyp: list[str], bias: frozenset[str]) -> BiasCounts:
    unbiased, biased = [0, 0, 0, 0], [0, 0, 0, 0]  # hits, substitutions, deletions, insertions
    for said, heard in _align(ref, hyp):
        word = heard if said is None else said
        kind = 3 if said is None else 2 if heard is None else int(said != heard)
        (biased if word in bias else unbiased)[kind] += 1
    halves = [
        ErrorCounts(hits=hits, substitutions=substitutions, deletions=deletions, insertions=insertions)
        for hits, substitutions, deletions, insertions in (unbiased, biased)
    ]
    return BiasCounts(all=halves[0] + halves[1], unbiased=halves[0], biased=halves[1])


def _align(ref: list[str], hyp: list[str]) -> Iterator[tuple[str | None, str | None]]:
    """Pairs of aligned words from the last to the first; None stands for a gap."""
    costs = [[_GAP * j for j in range(len(hyp) + 1)]]
    for i, said in enumerate(ref, 1):
        above, left = costs[-1], _GAP * i
        row = [left]
        for j, heard in enumerate(hyp, 1):
            left = min(above[j - 1] + (0 if said == heard else _SUBSTITUTION), left + _GAP, above[j] + _GAP)
            row.append(left)
        costs.append(row)
    i, j = len(ref), len(hyp)
    while i or j:
        if i and j:
            step = 0 if ref[i - 1] == hyp[j - 1] else _SUBSTITUTION
            if costs[i][j] == costs[i - 1][j - 1] + step:
                i, j = i - 1, j - 1
                yield ref[i], hyp[j]
                continue
        if j and costs[i][j] == costs[i][j - 1] + _GAP:
            j -= 1
            yield None, hyp[j]
        else:
            i -= 1
            yield ref[i], None

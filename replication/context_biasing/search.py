"""Searches of utterances with their lists, and the word errors of the list's words and of all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from replication.context_biasing.lists import Case, Set
from torch import Tensor

from edgespeech.biasing.phrases import HEAD, PhraseBias
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import best_path, oracle, prune
from edgespeech.lattice.phrases import add_phrases
from edgespeech.lattice.search import LatticeDecoder
from edgespeech.metrics.bias import bias_totals, words_of
from edgespeech.metrics.statistics import bootstrap_ratio, paired_ratio_difference
from edgespeech.model.checkpoint import Trained
from edgespeech.packed.runtime import PackedModel
from edgespeech.search import hypothesis
from edgespeech.search.settings import SearchSettings
from edgespeech.search.streaming import StreamingTranscriber, decoder_of
from edgespeech.text.normalise import Normaliser, normalisers

Row = dict[str, Any]
Transcribe = Callable[[Case, tuple[str, ...]], str]
"""The transcript of a case with a list."""


@dataclass(frozen=True)
class Counted:
    """Errors of one arm: of each case, in the set's order.

    Attributes:
        errors: of all words.
        biased: of the words of the right phrases, and insertions of words of the list.
        unbiased: of the other words.
        words: reference words; `biased_words` and `unbiased_words` their parts.
        invented: phrases of the list in the transcript that the reference does not have.
        seconds: of audio.
        texts: the normalised transcripts.
    """

    errors: list[int]
    biased: list[int]
    unbiased: list[int]
    words: list[int]
    biased_words: list[int]
    unbiased_words: list[int]
    invented: list[int]
    seconds: list[float]
    groups: list[str | None]
    texts: list[str]

    def rates(self, seed: int) -> Row:
        """WER, U-WER and B-WER with their intervals, and invented phrases per hour, as data of a row."""
        found: Row = {"invented_per_hour": 3600 * sum(self.invented) / sum(self.seconds)}
        for name, errors, words in (
            ("wer", self.errors, self.words),
            ("u_wer", self.unbiased, self.unbiased_words),
            ("b_wer", self.biased, self.biased_words),
        ):
            if sum(words) and len(words) > 1:
                interval = bootstrap_ratio(errors, words, self.groups, seed=seed)
                found[name] = [sum(errors) / sum(words), interval.low, interval.high]
        return found


def packed_arm(model: PackedModel, boost: float, beam: int, head: int = HEAD) -> Transcribe:
    """Transcription by a packed model."""

    def transcribe(case: Case, phrases: tuple[str, ...]) -> str:
        bias = PhraseBias(model.pieces, phrases, (), boost, head) if phrases else None
        with closing(model.open(beam, bias)) as stream:
            stream.accept(case.features)
            return text_of(stream.best, model.pieces)

    return transcribe


def torch_arm(trained: Trained, boost: float, settings: SearchSettings) -> Transcribe:
    """Transcription by torch; the network runs once for each utterance."""
    encoded: dict[str, Tensor] = {}

    def transcribe(case: Case, phrases: tuple[str, ...]) -> str:
        if case.spoken.id not in encoded:
            encoded[case.spoken.id] = encoded_of(trained, case)
        bias = PhraseBias(trained.tokeniser.pieces, phrases, boost=boost) if phrases else None
        decoder = decoder_of(trained, settings, bias=bias)
        decoder.accept(encoded[case.spoken.id])
        return text_of(decoder.best, trained.tokeniser.pieces)

    return transcribe


def encoded_of(trained: Trained, case: Case) -> Tensor:
    """The transcriber's frames of an utterance, with shape `(T, J)`."""
    transcriber = StreamingTranscriber(trained.model)
    return torch.cat([transcriber.accept(case.samples), transcriber.finish()])


def text_of(best: hypothesis.Hypothesis, pieces: Sequence[str]) -> str:
    """The words of a hypothesis."""
    return " ".join(word.text for word in hypothesis.words_of(best, pieces, 1.0, float("inf")))


def counted(
    one: Set, normaliser: str, count: int, kind: str, transcribe: Transcribe, *, told: bool
) -> Counted:
    """Errors of a set's transcripts.

    Args:
        one: the set.
        normaliser: of transcripts.
        count: length of the lists.
        kind: of the lists, see `lists.KINDS`.
        transcribe: makes a transcript.
        told: whether the recogniser has the list; else it is used to divide the errors alone.
    """
    normalise = normalisers()[normaliser]
    lists = [one.phrases(case, count, kind) for case in one.cases]
    texts = [
        normalise(transcribe(case, phrases if told else ()))
        for case, phrases in zip(one.cases, lists, strict=True)
    ]
    return count_texts(one, normalise, lists, texts)


def count_texts(
    one: Set, normalise: Normaliser, lists: Sequence[tuple[str, ...]], texts: Sequence[str]
) -> Counted:
    """Errors of normalised transcripts, divided by the words of each case's list."""
    found = Counted([], [], [], [], [], [], [], [], [], list(texts))
    for case, phrases, text in zip(one.cases, lists, texts, strict=True):
        listed = [*case.right, *(normalise(phrase) for phrase in phrases)]
        totals = bias_totals([case.text], [text], [words_of(listed)])
        found.errors.append(totals.all.errors)
        found.biased.append(totals.biased.errors)
        found.unbiased.append(totals.unbiased.errors)
        found.words.append(totals.all.ref_words)
        found.biased_words.append(totals.biased.ref_words)
        found.unbiased_words.append(totals.unbiased.ref_words)
        found.invented.append(invented(text, case.text, listed))
        found.seconds.append(case.spoken.item.duration)
        found.groups.append(case.spoken.speaker)
    return found


def invented(text: str, reference: str, phrases: Sequence[str]) -> int:
    """How many phrases a transcript has that its reference has not."""
    heard, said = f" {text} ", f" {reference} "
    return sum(max(0, heard.count(f" {one} ") - said.count(f" {one} ")) for one in set(phrases))


def gain(before: Counted, after: Counted, part: str, seed: int) -> Row:
    """The relative reduction of errors of a part (`errors`, `biased`, `unbiased`), as fields of a row."""
    ours, theirs = getattr(after, part), getattr(before, part)
    row: Row = {"n": len(ours)}
    if not sum(theirs):
        return row | {"measured": 0.0}
    interval = bootstrap_ratio(ours, theirs, before.groups, seed=seed)
    ends = {"low": 1 - interval.high, "high": 1 - interval.low, "resampled": (f"{interval.method}s",)}
    return row | {"measured": 1 - sum(ours) / sum(theirs), **ends}


def difference(before: Counted, after: Counted, seed: int) -> Row:
    """The difference of the rates over words outside of the list, after minus before, as fields of a row."""
    if not sum(before.unbiased_words):
        return {"skipped": "the references have no word outside of the lists"}
    paired = paired_ratio_difference(
        after.unbiased, before.unbiased, before.unbiased_words, before.groups, seed=seed
    )
    return {"measured": paired.difference, **paired.interval.as_row(), "n": len(before.errors)}


@dataclass(frozen=True)
class Lattices:
    """The two ways to use a list with a lattice, of one utterance.

    Attributes:
        inside: of a search that was given the list, pruned.
        behind: of a search without it; the bonuses were added to its arcs before it was pruned.
        plain: of a search without it, pruned.
    """

    inside: Lattice
    behind: Lattice
    plain: Lattice


def lattices_of(
    trained: Trained, case: Case, phrases: tuple[str, ...], how: dict[str, Any], boost: float
) -> Lattices:
    """The lattices of an utterance, as `hybrid` makes them."""
    bias = PhraseBias(trained.tokeniser.pieces, phrases, boost=boost)
    encoded = encoded_of(trained, case)
    found = []
    for one in (bias, None):
        decoder = LatticeDecoder(trained.model, how["beam"], how["merge"], fusion=trained.fusion, bias=one)
        decoder.accept(encoded)
        found.append(decoder.lattice(trained.tokeniser.pieces))
    inside, plain = found
    width = how["width"]
    return Lattices(prune(inside, width), prune(add_phrases(plain, bias, 1.0), width), prune(plain, width))


def lattice_texts(lattice: Lattice, words: Sequence[str]) -> tuple[str, str]:
    """The words of the best path, and of the path with the fewest errors."""
    return best_path(lattice).text, oracle(lattice, words)[0].text

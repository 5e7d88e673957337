"""Searches of utterances with their lists, and the word errors of the list's words and of all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from replication.context_biasing.lists import Case, Set
from torch import Tensor

from edgespeech.biasing.phrases import HEAD, PhraseBias
from edgespeech.biasing.pieces import piece_labels
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import best_path, oracle, prune
from edgespeech.lattice.phrases import add_phrases
from edgespeech.lattice.search import LatticeDecoder
from edgespeech.metrics.bias import bias_totals, words_of
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.metrics.word_errors import paired_over_seeds
from edgespeech.model.biasing import MAX_PIECES
from edgespeech.model.checkpoint import Trained
from edgespeech.model.contextual import attending
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search import hypothesis
from edgespeech.search.settings import SearchSettings
from edgespeech.search.shortlist import first_pass, shortlist
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
    """Transcription by torch. A model with attention attends to the list too; with a boost of 0 that is all it does."""

    def transcribe(case: Case, phrases: tuple[str, ...]) -> str:
        bias = PhraseBias(trained.tokeniser.pieces, phrases, boost=boost) if phrases else None
        told = attending(trained, bias)
        decoder = decoder_of(told, settings, bias=bias)
        decoder.accept(encoded_of(told, case))
        return text_of(decoder.best, trained.tokeniser.pieces)

    return transcribe


@contextmanager
def engine_of(trained: Trained, name: str) -> Iterator[PackedModel]:
    """A model in single precision, run by the native engine, which is faster than torch.

    Args:
        trained: the model, with its language model if it has one.
        name: as records have it.
    """
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.edge"
        pack(trained, Layout(matrices=Encoding(bits=32)), path)
        with PackedModel(path) as model:
            yield model


def hypotheses(
    model: PackedModel, case: Case, biases: Sequence[PhraseBias | None], beam: int
) -> list[hypothesis.Hypothesis]:
    """The best hypothesis of a case with each list; the network runs once for all of them.

    Args:
        model: the engine's; one with attention attends to each list too.
        case: the utterance.
        biases: of the lists; None: no list.
        beam: of the search.
    """
    encoded = model.transcribe(case.features)
    found = []
    for bias in biases:
        with closing(model.open(beam, bias)) as stream:
            stream.accept_encoded(encoded)
            found.append(stream.best)
    return found


def shortened(trained: Trained, case: Case, phrases: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The phrases of a list that a first pass without it makes likeliest, see `edgespeech.search.shortlist`.

    Args:
        trained: its network makes the first pass.
        case: the utterance.
        phrases: any number.
        most: so many are left; those that the word pieces cannot spell are left out.
    """
    labels = {piece: label for label, piece in enumerate(trained.tokeniser.pieces)}
    spelled = [(phrase, piece_labels(phrase, labels)) for phrase in phrases]
    usable = [(phrase, pieces) for phrase, pieces in spelled if pieces and len(pieces) <= MAX_PIECES]
    posteriors = first_pass(trained.model, encoded_of(trained, case))
    return tuple(usable[at][0] for at in shortlist(posteriors, [pieces for _, pieces in usable], most))


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


def increase(before: Counted, after: Counted, part: str, seed: int) -> Row:
    """The relative increase of errors of a part (`errors`, `biased`, `unbiased`), as fields of a row."""
    return increase_over_seeds([before], [after], part, seed)


def gain(before: Counted, after: Counted, part: str, seed: int) -> Row:
    """The relative reduction of errors of a part, as fields of a row."""
    return gain_over_seeds([before], [after], part, seed)


def gain_over_seeds(before: Sequence[Counted], after: Sequence[Counted], part: str, seed: int) -> Row:
    """The relative reduction of errors of a part, of models of several seeds, as fields of a row."""
    row = increase_over_seeds(before, after, part, seed)
    if "measured" not in row:
        return row
    ends = {"low": -row["high"], "high": -row["low"]} if "low" in row else {}
    return {**row, "measured": -row["measured"], **ends}


def increase_over_seeds(before: Sequence[Counted], after: Sequence[Counted], part: str, seed: int) -> Row:
    """The relative increase of errors of a part, of models of several seeds, as fields of a row.

    Args:
        before: by seed.
        after: by seed, as many, of the same utterances.
        part: `errors`, `biased` or `unbiased`.
        seed: of the interval.
    """
    theirs, ours = (np.array([getattr(one, part) for one in each]) for each in (before, after))
    groups = before[0].groups
    if not theirs.sum():
        return {"skipped": f"no errors without it, {ours.sum()} with it"}
    # Over the errors before, a difference is relative.
    found, units = paired_over_seeds(ours, theirs, theirs.mean(axis=0), groups, seed=seed)
    ends = found.interval.as_row() | {"resampled": units}
    return {"measured": found.difference, **ends, "n": ours.shape[1], "seeds": len(ours)}


def difference(before: Counted, after: Counted, seed: int) -> Row:
    """The difference of the rates over words outside of the list, after minus before, as fields of a row."""
    return difference_over_seeds([before], [after], seed)


def difference_over_seeds(before: Sequence[Counted], after: Sequence[Counted], seed: int) -> Row:
    """The same of models of several seeds, which are as many, on the same utterances."""
    words, groups = before[0].unbiased_words, before[0].groups
    if not sum(words):
        return {"skipped": "the references have no word outside of the lists"}
    theirs, ours = ([one.unbiased for one in each] for each in (before, after))
    found, units = paired_over_seeds(ours, theirs, words, groups, seed=seed)
    ends = found.interval.as_row() | {"resampled": units}
    return {"measured": found.difference, **ends, "n": len(words), "seeds": len(ours)}


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

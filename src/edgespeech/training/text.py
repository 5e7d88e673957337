"""The training text of a language model, without any sentence for evaluation."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from edgespeech.core.config import Strict
from edgespeech.corpora.written import lines_of, written
from edgespeech.errors import EdgeSpeechError
from edgespeech.text.grammar import load_grammar
from edgespeech.text.spoken import plain
from edgespeech.training.speech import trainable

Positive = Annotated[int, Field(gt=0)]

_WORDS = re.compile(r"[a-z']+(?: [a-z']+)*")
"""Sentences that pieces can spell: words of letters and apostrophes, separated by single spaces."""


class TextSource(Strict):
    """A source of sentences: exactly one of `grammar`, `written` and `transcripts`.

    Attributes:
        grammar: a grammar's name; sentences are sampled from its training part (`split_of`), by the grammar's weights.
        sentences: number of samples.
        written: a text split, such as `slurp_lm`, of which the training part is used.
        transcripts: a speech split that may be trained on.
        repeat: how often each sentence of `written` or `transcripts` is used per epoch.
    """

    grammar: str | None = None
    sentences: Positive | None = None
    written: str | None = None
    transcripts: str | None = None
    repeat: Positive = 1

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.grammar, self.written, self.transcripts)) != 1:
            raise ValueError("exactly one of grammar, written, transcripts")
        if (self.grammar is None) != (self.sentences is None):
            raise ValueError("sentences with a grammar, and only there")
        if self.grammar is not None and self.repeat != 1:
            raise ValueError("repeat with written or transcripts only")
        return self


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences to learn from.

    Attributes:
        sentences: lower-case words, in the order of the sources, with repetitions by frequency.
        left_out: number of sentences that are held out or have other characters.
    """

    sentences: tuple[str, ...]
    left_out: int

    @property
    def sha256(self) -> str:
        """The hash of the sentences, in order."""
        return hashlib.sha256("\n".join(self.sentences).encode()).hexdigest()


def load_text(sources: Sequence[TextSource], held_out: Iterable[str], seed: int) -> Text:
    """Draw and read the sentences of a run.

    Args:
        sources: of the sentences.
        held_out: splits whose sentences are left out.
        seed: of the draws, combined with the source's number.

    Raises:
        EdgeSpeechError: an unknown source, one for evaluation only, or no sentence remains.
    """
    kept_away = {plain(line) for split in held_out for line in lines_of(split)}
    taken: list[str] = []
    left_out = 0
    for number, source in enumerate(sources):
        drawn = _drawn(source, random.Random(f"{seed}:{number}"))
        allowed = {line for line in set(drawn) if _WORDS.fullmatch(line) and plain(line) not in kept_away}
        own = [line for line in drawn if line in allowed]
        left_out += len(drawn) - len(own)
        taken += own * source.repeat
    assert_unseen(taken, kept_away)
    if not taken:
        raise EdgeSpeechError(f"language model: none of the {left_out} sentences of its text may be learned")
    return Text(tuple(taken), left_out)


def assert_unseen(sentences: Iterable[str], kept_away: Collection[str]) -> None:
    """Refuse sentences for evaluation.

    Args:
        sentences: for training.
        kept_away: sentences for evaluation, in `plain` words.

    Raises:
        EdgeSpeechError: one is among them.
    """
    for sentence in set(sentences):
        if plain(sentence) in kept_away:
            raise EdgeSpeechError(f"language model: {sentence!r} is a sentence for evaluation")


def _drawn(source: TextSource, rng: random.Random) -> list[str]:
    """A source's sentences, with repetitions."""
    if source.grammar is not None:
        grammar = load_grammar(source.grammar)
        return [grammar.generate(rng, "train").text for _ in range(source.sentences or 0)]
    if source.written is not None:
        return written(source.written, "train")
    assert source.transcripts is not None
    manifest = trainable(source.transcripts)
    return [utterance.text.lower() for utterance in manifest.utterances]

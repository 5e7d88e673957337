"""The text that a language model learns from, without any sentence that is kept for evaluation."""

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
"""What the pieces can write: words of letters and apostrophes, one space between them."""


class TextSource(Strict):
    """Sentences to learn from: exactly one of `grammar`, `written` and `transcripts`.

    Attributes:
        grammar: a grammar's name; its training part (`split_of`) is drawn from, by the grammar's weights.
        sentences: how many are drawn from it.
        written: a text split, such as `slurp_lm`; its training part is taken.
        transcripts: a speech split that may be trained on.
        repeat: how often each sentence of `written` or `transcripts` comes in an epoch.
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
        sentences: lower-case words, source after source; one that is more frequent comes more often.
        left_out: how many were not taken, since they are held out or have other characters.
    """

    sentences: tuple[str, ...]
    left_out: int

    @property
    def sha256(self) -> str:
        """Of the sentences, in their order."""
        return hashlib.sha256("\n".join(self.sentences).encode()).hexdigest()


def load_text(sources: Sequence[TextSource], held_out: Iterable[str], seed: int) -> Text:
    """Draw and read the sentences of a run.

    Args:
        sources: where they come from.
        held_out: splits whose sentences are left out.
        seed: of the draws; each source has its own.

    Raises:
        EdgeSpeechError: an unknown source, one for evaluation only, or nothing is left.
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
    """Refuse sentences that are kept for evaluation.

    Args:
        sentences: what is to be learned.
        kept_away: what must not be, in `plain` words.

    Raises:
        EdgeSpeechError: one is among them.
    """
    for sentence in set(sentences):
        if plain(sentence) in kept_away:
            raise EdgeSpeechError(f"language model: {sentence!r} is a sentence for evaluation")


def _drawn(source: TextSource, rng: random.Random) -> list[str]:
    """A source's sentences, each as often as it was drawn or stands there."""
    if source.grammar is not None:
        grammar = load_grammar(source.grammar)
        return [grammar.generate(rng, "train").text for _ in range(source.sentences or 0)]
    if source.written is not None:
        return written(source.written, "train")
    assert source.transcripts is not None
    manifest = trainable(source.transcripts)
    return [utterance.text.lower() for utterance in manifest.utterances]

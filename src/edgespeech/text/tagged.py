"""Sentences of a grammar with a tag for each word, for training what understands them without the grammar."""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgespeech.errors import bad
from edgespeech.text.grammar import Grammar, Sentence, Split, split_of
from edgespeech.text.grammar_nodes import Ref
from edgespeech.text.grammar_parse import Close, Mark, Open, fill_slots
from edgespeech.text.spoken import with_articles

_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence with one tag for each of its words: `O`, `B-SLOT` or `I-SLOT`."""

    sentence: Sentence
    tags: tuple[str, ...]


class TaggedGrammar(Grammar):
    """A grammar whose sentences come with tags."""

    def tagged(self, rng: random.Random, split: Split | None = None) -> TaggedSentence:
        """Draw a sentence by the weights.

        Args:
            rng: the only source of chance.
            split: draw again until the sentence belongs to this part (see `split_of`).

        Raises:
            EdgeSpeechError: no sentence of that part turned up in 10,000 draws.
        """
        for _ in range(_TRIES):
            found = self._tagged(rng)
            if found.sentence.text and split in (None, split_of(found.sentence.text)):
                return found
        raise bad(f"grammar {self.name}", "split", split, "a part that has sentences")

    def _tagged(self, rng: random.Random) -> TaggedSentence:
        intents = self._rules.intents
        intent = rng.choices(list(intents), [probability for _, probability in intents.values()])[0]
        key, _ = intents[intent]
        marks: list[Mark] = []
        self._say(rng, Ref(key[1], key), marks, False)
        words: list[str] = []
        tags: list[str] = []
        opened: list[str | None] = []
        for mark in marks:
            if isinstance(mark, Open):
                opened.append(mark.slot and f"B-{mark.slot}")
            elif isinstance(mark, Close):
                opened.pop()
            else:
                # The outermost slot has the word: what is inside it is part of its value.
                place = next((n for n, slot in enumerate(opened) if slot), None)
                tag = None if place is None else opened[place]
                for word in mark.split():
                    words.append(word)
                    tags.append(tag or "O")
                    tag = tag and f"I{tag[1:]}"
                if place is not None:
                    opened[place] = tag
        if self._rules.language != "en":  # contractions would join a word outside a slot with one inside
            raise bad(f"grammar {self.name}", "language", self._rules.language, "en, for tagged sentences")
        text = " ".join(with_articles(words))
        return TaggedSentence(Sentence(text, intent, fill_slots(marks)), tuple(tags))

"""Shallow fusion of phrases that are likely to be spoken: a bonus for their letters while a search goes on.

Sources: A. V. Aho, M. J. Corasick, "Efficient string matching: an aid to bibliographic search" (1975), for the
automaton and its failure links; D. Zhao et al., "Shallow-fusion end-to-end contextual biasing" (Interspeech 2019),
section 3, for bonuses of word pieces that are given back where a phrase is not completed; A. Gourav et al.,
"Personalization strategies for end-to-end speech recognition systems" (ICASSP 2021, arXiv:2102.07739), for scores of
words that are looked ahead to word pieces; E. Variani et al., "Hybrid autoregressive transducer (HAT)" (ICASSP 2020,
arXiv:2003.07705), for the blank as a decision of its own, which no score of labels changes.

What it adds to a label y, with the bonus b and the recogniser's probabilities p of the labels other than the blank,

    b(y) - log sum_y' p(y' | not blank) exp(b(y')):

bonuses move probability between labels, and the blank keeps what it has. So a list makes a search neither say more nor
less, only something else: silence stays silent. A bonus that is given back is shared out among the labels too: where
hardly any label could go on with the phrase, that costs nothing. With a language model its scores are in p.

The bonus of a hypothesis: the words are read from left to right; where phrases begin at a word, the longest of them
that ends with a word counts with its bonus, and reading goes on behind it, else with the next word. The bonus of a
phrase is a number of nats for each of its letters. While a phrase is in progress its letters behind the first few count
already, with the greatest bonus of those that may still become of it; what is not completed is given back at the label
that shows it, and at the end of the hypothesis.

The automaton is one of letters, which a label follows through all of its letters: a word counts however the recogniser
splits it into pieces. For every place in it, what each label adds is found in a time that does not depend on the number
of phrases: labels that begin a word are looked up in a row which is computed once, those that go on with a phrase in
the trie of the pieces. It is native code (`edgespeech.engine`); its slow, obvious twin is in `tests/helpers_bias.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgespeech.biasing.spellings import is_plain, spellings
from edgespeech.core.history import History
from edgespeech.core.labels import BLANK, SPACE
from edgespeech.engine import native
from edgespeech.errors import bad

BOOST = 0.5
"""Bonus of a letter, in nats, as `replication/context_biasing/tune.py` chose it on tuning speech: more costs words
where the list lacks what the user says. A list of another domain costs some all the same."""
HEAD = 0
"""How many first letters of a phrase count only once it is complete, chosen like `BOOST`."""
MAX_BOOST = 16.0
"""Maximum bonus of a letter, with the phrase's weight: more than that writes phrases that nobody said."""
MAX_WEIGHT = 1e6
"""Maximum weight of a phrase: the boost is at most so much less than a nat."""
MAX_PHRASES = 200_000
"""Maximum number of phrases of a list."""
MAX_PHRASE = 200
"""Maximum number of characters of a phrase that is used; longer ones are left out."""
MAX_CHARACTERS = 4_000_000
"""Maximum number of characters of all phrases together: an automaton of at most 100 MB."""
_CACHED = 65_536
"""Hypotheses whose place in the automaton is cached."""
_NAMED = 3
"""Maximum number of phrases that a remark names."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A list that was checked, as an automaton is built from it.

    Attributes:
        texts: spellings, without duplicates.
        weights: of each.
        remarks: what of the list is not used, and why.
    """

    texts: tuple[str, ...]
    weights: NDArray[np.float32]
    remarks: tuple[str, ...]


def check_boost(boost: float, where: str) -> float:
    """A bonus of a letter, in nats.

    Raises:
        EdgeSpeechError: it is not a number between 0 and `MAX_BOOST`.
    """
    number = isinstance(boost, int | float) and not isinstance(boost, bool)
    if not (number and 0 <= boost <= MAX_BOOST):
        raise bad(where, "boost", boost, f"nats for a letter, 0 to {MAX_BOOST:g}")
    return float(boost)


def prepared(phrases: Sequence[str], weights: Sequence[float] = ()) -> Prepared:
    """Check a list and spell its phrases.

    Args:
        phrases: as written.
        weights: a factor of the bonus of each; none: 1 for all.

    Raises:
        EdgeSpeechError: there are too many phrases or characters, or a weight is not from 0 to `MAX_WEIGHT`, or
            not one for each phrase.
    """
    where = "context"
    if len(phrases) > MAX_PHRASES:
        raise bad(where, "number of phrases", len(phrases), f"at most {MAX_PHRASES}")
    if weights and len(weights) != len(phrases):
        raise bad(where, "number of weights", len(weights), f"one for each of {len(phrases)} phrases")
    total = sum(map(len, phrases))
    if total > MAX_CHARACTERS:
        raise bad(where, "number of characters", total, f"at most {MAX_CHARACTERS}")
    found: dict[str, float] = {}
    long: list[str] = []
    foreign: list[str] = []
    for phrase, weight in zip(phrases, weights, strict=False):
        if not (math.isfinite(weight) and 0 <= weight <= MAX_WEIGHT):
            expected = f"a number of at least 0 and at most {MAX_WEIGHT:g}"
            raise bad(where, f"weight of {phrase[:40]!r}", weight, expected)
    for phrase, weight in zip(phrases, weights or repeat(1.0), strict=False):  # checked above
        if len(phrase) > MAX_PHRASE:
            long.append(phrase)
            continue
        if is_plain(phrase):  # as `spellings` says, without its call
            text = phrase.lower()
            found[text] = max(weight, found.get(text, 0.0)) if weights else weight
            continue
        spelled = spellings(phrase)
        if not spelled:
            foreign.append(phrase)
        for text in spelled:
            found[text] = max(weight, found.get(text, 0.0))
    remarks = [
        *_remark(long, len(phrases), f"longer than {MAX_PHRASE} characters"),
        *_remark(foreign, len(phrases), "no spelling in letters from a to z"),
    ]
    return Prepared(tuple(found), np.array(list(found.values()), np.float32), tuple(remarks))


def bonuses_of(ready: Prepared, boost: float) -> NDArray[np.float32]:
    """The bonus of a letter of each spelling, in nats, with shape `(N,)`.

    Raises:
        EdgeSpeechError: as `check_boost`, or a weight makes it greater than `MAX_BOOST`.
    """
    check_boost(boost, "context")
    most = float(ready.weights.max(initial=0.0))
    if boost * most > MAX_BOOST:
        raise bad("context", "weight", most, f"at most {MAX_BOOST / boost:g}, with a boost of {boost:g} nats")
    return ready.weights * np.float32(boost)


def _remark(left_out: Sequence[str], total: int, why: str) -> list[str]:
    if not left_out:
        return []
    named = ", ".join(repr(phrase[:40]) for phrase in left_out[:_NAMED])
    more = ", ..." if len(left_out) > _NAMED else ""
    return [f"{len(left_out)} of {total} context phrases are not used ({why}): {named}{more}"]


class PhraseBias:
    """The automaton of a list, for the word pieces of one model. It never changes; any number of searches may use it.

    Args:
        pieces: every word piece by its label, see `Tokeniser.pieces`.
        phrases: as written.
        weights: a factor of the bonus of each; none: 1 for all.
        boost: bonus of a letter, in nats.
        head: how many first letters of a phrase count only once it is complete, at least 0.

    Attributes:
        native: the automaton, as the native engine takes it.
        texts: the spellings of the phrases.
        remarks: what of the list is not used, and why.

    Raises:
        EdgeSpeechError: as `prepared` and `check_boost`, or the native engine is not built.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        phrases: Sequence[str],
        weights: Sequence[float] = (),
        boost: float = BOOST,
        head: int = HEAD,
    ) -> None:
        ready = prepared(phrases, weights)
        self.texts = ready.texts
        bonuses = bonuses_of(ready, boost)
        text = "\n".join(f" {phrase}" for phrase in ready.texts).encode()
        self.native: Any = native().Phrases([_signs(piece) for piece in pieces], text, bonuses, head)
        unspelled = [ready.texts[at] for at in self.native.left_out]
        reason = "letters that no word piece has"
        self.remarks = (*ready.remarks, *_remark(unspelled, len(phrases), reason))

    def __len__(self) -> int:
        """The number of different spellings."""
        return cast("int", self.native.phrases)

    @property
    def start(self) -> int:
        """The place before the first label, which begins a word whatever it is."""
        return cast("int", self.native.start)

    def read(self, place: int, text: str) -> tuple[int, float]:
        """The place after a text, and what the text adds; a word begins with a space."""
        return cast("tuple[int, float]", self.native.read(place, text))

    def closing(self, place: int) -> float:
        """What is added if the hypothesis ends at a place: the bonus of an unfinished phrase is taken back."""
        return cast("float", self.native.closing(place))

    @property
    def nbytes(self) -> int:
        """Bytes of the automaton."""
        return cast("int", self.native.bytes)


def _signs(piece: str) -> str:
    """A piece as the automaton reads it: a space where a word begins, nothing for the blank; what is not written at
    all, such as the unknown piece, is a sign of no phrase.
    """
    if piece == "<blk>":
        return ""
    return "\0" if piece.startswith("<") else piece.replace(SPACE, " ")


class Places:
    """The places of the hypotheses of one search in the automaton, with a cache.

    Args:
        bias: the automaton.
    """

    def __init__(self, bias: PhraseBias) -> None:
        self._bias = bias
        self._native = bias.native
        self._places: dict[History, int] = {}
        self._start = bias.start

    def place(self, labels: Sequence[int]) -> int:
        """The place after these labels; hypotheses at one place have the same future in the automaton."""
        one = History.of(labels)
        if (found := self._places.get(one)) is not None:
            return found
        if len(self._places) > _CACHED:
            self._places.clear()
        unknown: list[History] = []
        while one.before is not None and one not in self._places:
            unknown.append(one)
            one = one.before
        place = self._places.get(one, self._start)
        for one in reversed(unknown):
            place, _ = self._native.follow(place, one.label)
            self._places[one] = place
        return place

    def rows(self, hypotheses: Iterable[Sequence[int]], *, sunk: bool = False) -> NDArray[np.float32]:
        """The bonus of each possible next label of each of P hypotheses, with shape `(P, V)`; 0 for the blank.

        Args:
            hypotheses: labels so far.
            sunk: without what is given back of an unfinished phrase, for a search that cannot go back.
        """
        places = np.array([self.place(labels) for labels in hypotheses], np.uint32)
        return cast("NDArray[np.float32]", self._native.rows(places, sunk))

    def biased(
        self, scores: NDArray[np.float64], hypotheses: Iterable[Sequence[int]], *, sunk: bool = False
    ) -> NDArray[np.float64]:
        """Scores of the next labels of P hypotheses with their phrases: the blank stays as likely as it is, and so do
        the others together.

        Args:
            scores: log-probabilities, perhaps with scores of a language model, with shape `(P, V)`.
            hypotheses: labels so far.
            sunk: see `rows`.
        """
        biased = scores + self.rows(hypotheses, sunk=sunk)
        labels = np.arange(scores.shape[1]) != BLANK
        before, after = (np.logaddexp.reduce(part[:, labels], axis=1) for part in (scores, biased))
        biased[:, labels] -= (after - before)[:, None]
        return biased

    def closing(self, labels: Sequence[int]) -> float:
        """What is added if the hypothesis ends after these labels."""
        return self._bias.closing(self.place(labels))

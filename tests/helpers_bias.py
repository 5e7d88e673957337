"""What `edgespeech.biasing.phrases` computes, slowly and obviously."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log

from edgespeech.biasing.phrases import HEAD
from edgespeech.core.labels import SPACE


def written(labels: Sequence[int], pieces: Sequence[str]) -> str:
    """The letters of labels, with a space before every word; for the unknown piece a sign that is in no phrase."""
    shown = ["" if piece == "<blk>" else "#" if piece == "<unk>" else piece for piece in pieces]
    return " " + "".join(shown[label] for label in labels).replace(SPACE, " ")


def letters(text: str) -> int:
    return sum(sign != " " for sign in text)


def score(text: str, boosts: Mapping[str, float], *, ended: bool, head: int = HEAD) -> float:
    """The bonus of a text, whose words have a space before each.

    From left to right, the longest phrase that begins at a word and ends with one counts, and reading goes on behind
    it.

    Args:
        text: so far.
        boosts: of a letter of each phrase, by its words with a space before each.
        ended: whether nothing follows; else what may still become a phrase counts by its letters behind the first.
        head: how many first ones.
    """
    total, at = 0.0, 0
    while at < len(text):
        if text[at] != " ":
            at += 1
            continue
        rest = text[at:]
        open_ones = [boost for phrase, boost in boosts.items() if phrase.startswith(rest)]
        if open_ones and not ended:
            ahead = max(letters(rest) - head, 0) * max(open_ones)
            return total + max(ahead, letters(rest) * boosts.get(rest, 0.0))
        over = [
            phrase for phrase in boosts if rest.startswith(phrase) and rest[len(phrase) :][:1] in ("", " ")
        ]
        longest = max(over, key=len, default="")
        total += letters(longest) * boosts.get(longest, 0.0)
        at += max(len(longest), 1)
    return total


def biased(
    log_probabilities: Sequence[float],
    labels: Sequence[int],
    pieces: Sequence[str],
    boosts: Mapping[str, float],
) -> list[float]:
    """Scores of the next label, of which the first is the blank: the others share what they had by their bonuses."""
    before = score(written(labels, pieces), boosts, ended=False)
    bonuses = [
        score(written([*labels, label], pieces), boosts, ended=False) - before
        for label in range(1, len(log_probabilities))
    ]
    blank, *others = log_probabilities
    had = sum(exp(one) for one in others)
    have = sum(exp(one + bonus) for one, bonus in zip(others, bonuses, strict=True))
    return [blank, *(one + bonus + log(had / have) for one, bonus in zip(others, bonuses, strict=True))]

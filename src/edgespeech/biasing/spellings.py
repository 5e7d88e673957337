"""The spellings of a phrase in the letters that a recogniser writes: a to z and the apostrophe.

Case, accents and marks are folded as `edgespeech.text.normalise` folds them; numbers become words, and what is written
in several ways ("O'Brien", "Coca-Cola", "AC/DC") gets a spelling for each.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice, product

from edgespeech.text.normalise import fold_case, same_text
from edgespeech.text.spoken import readings

MOST = 8
"""Maximum number of spellings of a phrase."""
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l"})
_SYMBOLS = {"&": " and ", "+": " plus ", "%": " percent ", "@": " at "}
_INITIALS = re.compile(r"\b(?:[a-z]\.)+[a-z]\b\.?|\b(?:[a-z]\.){2,}")


def spellings(phrase: str) -> tuple[str, ...]:
    """The spellings of a phrase: words of a to z and apostrophes with one space between them, the usual one first.

    Args:
        phrase: as written, in any case, with any marks.

    Returns:
        At most `MOST`; none if a letter is not of the Latin alphabet, or nothing is left.
    """
    if is_plain(phrase):
        return (phrase.lower(),)
    text = fold_case(same_text(phrase)).translate(_LETTERS)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = _INITIALS.sub(lambda found: f" {' '.join(found[0].replace('.', ''))} ", text)
    # A phrase of another script is left out, not reduced to the Latin letters in it.
    if any(c.isalpha() and not "a" <= c <= "z" for c in text):
        return ()
    choices = [_token(token) for token in re.split(r"[^a-z0-9'-]+", text) if token.strip("-'")]
    return tuple(word for word in _some(choices) if word)


def is_plain(phrase: str) -> bool:
    """Whether a phrase has one spelling, itself in small letters: words of a to z with one space between them."""
    # methods of strings alone, since this decides how long a list of 10,000 phrases takes
    return phrase.isascii() and all(map(str.isalpha, phrase.split(" ")))


def _token(token: str) -> tuple[str, ...]:
    """The spellings of what has no space inside: hyphens may join or separate, an apostrophe may be left out."""
    parts = [part for part in token.strip("-").split("-") if part.strip("'")]
    apart = _some([_part(part) for part in parts])
    joined = "".join(parts)
    if len(parts) > 1 and joined.isalpha():
        apart = (*apart, joined)
    return apart


def _part(part: str) -> tuple[str, ...]:
    """The spellings of a part of a token: letters with apostrophes, numbers, or both ("u2")."""
    runs = re.findall(r"[0-9]+(?:(?:st|nd|rd|th)\b)?|'*[a-z][a-z']*", part)
    return _some([_run(run) for run in runs])


def _run(run: str) -> tuple[str, ...]:
    if run[0].isdigit():
        return tuple(dict.fromkeys(" ".join(words) for words in readings(run)[0]))
    word = run.strip("'")
    if "'" not in word:
        return (word,)
    return word, word.replace("'", ""), word.replace("'", " ")


def _some(choices: list[tuple[str, ...]]) -> tuple[str, ...]:
    """At most `MOST` different ways to choose one of each, joined by spaces."""
    found = (" ".join(words) for words in islice(product(*choices), MOST * MOST))
    return tuple(dict.fromkeys(found))[:MOST]

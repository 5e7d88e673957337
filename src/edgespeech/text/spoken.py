"""Spoken forms: numbers in words, and the possible readings of a written token.

Recognisers write one spoken word in several ways ("12-ounce", "twelve ounce"; "I'd", "I would"; "7:30 a.m.").
Grammar and recognised words are compared through `readings`, so that these differences do not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from edgespeech.errors import bad
from edgespeech.text.normalise import same_text

Reading = tuple[str, ...]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_ONES = (*_DIGITS, "ten", "eleven", "twelve", *_TEENS)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_LARGEST = 999_999

# Both sides of every comparison are expanded, so it does not matter which form was written.
_CONTRACTIONS = {
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "let's": "let us",
    "gimme": "give me",
    "lemme": "let me",
    "wanna": "want to",
    "gonna": "going to",
    "gotta": "got to",
    "ok": "okay",
    "an": "a",
}
_SUFFIXES = {"'d": "would", "'ll": "will", "'m": "am", "'re": "are", "'ve": "have"}
_IS = {"it", "what", "where", "who", "how", "that", "there", "when", "here"}
_SYMBOLS = {"%": " percent ", "°": " degrees ", "&": " and ", "+": " plus "}

_VOWEL_SOUND = re.compile(r"(?!one\b|once\b|uni|us[ei]|eu)(?:[aeio]|u[lmnp]|hour|honest)")

_TOKEN = re.compile(r"\d[\d:.,]*(?:st|nd|rd|th)?|[^\W\d_]+(?:'[^\W\d_]+)*", re.UNICODE)
_ABBREVIATION = re.compile(r"\b((?:[^\W\d_]\.){2,})")


def number_words(n: int) -> str:
    """The cardinal `n` in words, without "and" and without hyphens: 122 is "one hundred twenty two".

    Raises:
        EdgeSpeechError: `n` lies outside 0 to 999,999.
    """
    if not 0 <= n <= _LARGEST:
        raise bad("number_words", "n", n, f"0 to {_LARGEST}")
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _join(_TENS[n // 10 - 2], n % 10)
    if n < 1000:
        return _join(f"{_ONES[n // 100]} hundred", n % 100)
    return _join(f"{number_words(n // 1000)} thousand", n % 1000)


def _join(head: str, rest: int) -> str:
    return f"{head} {number_words(rest)}" if rest else head


def ordinal_words(n: int) -> str:
    """The ordinal `n` in words: 21 is "twenty first". Range as `number_words`."""
    *head, last = number_words(n).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join([*head, last])


def with_articles(words: Sequence[str]) -> list[str]:
    """The words with "a" or "an" chosen by the sound of the next word, so that grammars need not distinguish them.

    An "a" before or after another single letter is spelled, and stays.
    """
    said = list(words)
    for i in range(len(said) - 1):
        spelled = len(said[i + 1]) == 1 or (i > 0 and len(said[i - 1]) == 1)
        if said[i] in ("a", "an") and not spelled:
            said[i] = "an" if _VOWEL_SOUND.match(said[i + 1]) else "a"
    return said


def canonical(word: str) -> Reading:
    """A lower-case word with its contraction expanded and other apostrophes removed: "i'd" is ("i", "would").

    "an" counts as "a".
    """
    if word in _CONTRACTIONS:
        return tuple(_CONTRACTIONS[word].split())
    head, mark, tail = word.rpartition("'")
    if mark and head:
        if "'" + tail in _SUFFIXES:
            return (head, _SUFFIXES["'" + tail])
        if tail == "s" and head in _IS:
            return (head, "is")
        if tail == "t" and head.endswith("n"):
            return (head[:-1], "not")
    return (word.replace("'", ""),)


def readings(text: str, spellings: Mapping[str, Reading] | None = None) -> list[tuple[Reading, ...]]:
    """The possible readings of each token of a text, in order.

    Case, punctuation, hyphens and what `same_text` folds are ignored, contractions are expanded, and digits become
    words: "12" reads ("twelve",) or, digit by digit, ("one", "two"). Capitals among other words may be letters: "the
    AC".

    Args:
        text: anything a recogniser wrote.
        spellings: alternative spelling to its words.

    Returns:
        One entry per token: its readings, the most usual first. Empty for a text without words.
    """
    if not text.isascii() or "`" in text:
        text = same_text(text)
    capitals = set() if text.isupper() else set(re.findall(r"\b[A-Z]{2,}\b", text))
    text = text.lower()
    text = _ABBREVIATION.sub(lambda m: m[1].replace(".", "") + " ", text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    spelled = {word.lower() for word in capitals}
    return [_token_readings(token, spellings or {}, spelled) for token in _TOKEN.findall(text)]


def plain(text: str) -> str:
    """The words of a text in one canonical form (first readings, single spaces), independent of its spelling."""
    return " ".join(word for token in readings(text) for word in token[0])


def _token_readings(
    token: str, spellings: Mapping[str, Reading], spelled: Collection[str]
) -> tuple[Reading, ...]:
    if token[0].isdecimal():
        return tuple(dict.fromkeys(_digit_readings(token)))
    found: list[Reading] = [tuple(token)] if token in ("am", "pm") or token in spelled else []
    found.append(canonical(token))
    if token in spellings:
        found.append(spellings[token])
    return tuple(found)


def _digit_readings(token: str) -> list[Reading]:
    ordinal = token[-2:] in ("st", "nd", "rd", "th")
    digits = token.removesuffix(token[-2:]) if ordinal else token
    digits = digits.rstrip(":.,")
    if ":" in digits:
        return _clock_readings(digits)
    digits = digits.replace(",", "")
    whole, point, fraction = digits.partition(".")
    clock = _clock_readings(f"{whole}:{fraction}") if len(whole) <= 2 and len(fraction) == 2 else []
    one_by_one = tuple(_ONES[int(d)] for d in whole if d.isdecimal())
    if not whole.isdecimal() or not (fraction or "0").isdecimal():
        return [tuple(_ONES[int(d)] for d in digits if d.isdecimal())]
    if len(whole) > 6:
        return [one_by_one]
    cardinal = tuple(number_words(int(whole)).split())
    if ordinal:
        return [tuple(ordinal_words(int(whole)).split())]
    if point and fraction:
        return [(*cardinal, "point", *(_ONES[int(d)] for d in fraction)), *clock]
    found = [cardinal, one_by_one, tuple("oh" if w == "zero" else w for w in one_by_one)]
    if whole.startswith("0") and len(whole) > 1:
        found = found[1:]
    elif len(whole) in (3, 4):  # 730 as a time, 1999 as a year
        pairs = _pair(int(whole[:-2]), whole[-2:])
        found += pairs[-1:] if whole.endswith("00") else pairs
    if cardinal[0] == "one" and cardinal[1:2] in (("hundred",), ("thousand",)):
        found.append(("a", *cardinal[1:]))
    return found


def _clock_readings(digits: str) -> list[Reading]:
    parts = digits.split(":")
    if len(parts) != 2 or not all(p.isdecimal() and len(p) <= 2 for p in parts):
        return [tuple(_ONES[int(d)] for d in digits if d.isdecimal())]
    return _pair(int(parts[0]), parts[1])


def _pair(head: int, tail: str) -> list[Reading]:
    first = tuple(number_words(head).split())
    if int(tail) == 0:
        return [first, (*first, "oclock"), (*first, "hundred")]
    if tail.startswith("0"):
        return [(*first, "oh", _ONES[int(tail)]), (*first, "zero", _ONES[int(tail)])]
    return [(*first, *number_words(int(tail)).split())]

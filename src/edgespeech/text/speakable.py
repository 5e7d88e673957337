# ruff: noqa: RUF001  the typographic marks are meant
"""Spoken form of written sentences: the words of a line of prose, or None if they are not certain."""

from __future__ import annotations

import re
import unicodedata

from edgespeech.text.spoken import plain, readings

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_TITLES = {
    "mr.": "mister",
    "mrs.": "missus",
    "dr.": "doctor",
    "prof.": "professor",
    "vs.": "versus",
    "etc.": "et cetera",
}
_MONEY = re.compile(r"([$£€])(\d[\d,]*)(?:\.(\d\d))?(?![\d.])")
_COINS = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_YEAR = re.compile(r"(?:1[1-9]|20)\d\d")
_HALF_DAY = re.compile(r"(?<=\d) ?([ap])\.?m\b\.?")
_LETTERS = re.compile(r"\b(?:[a-z]\.){2,}")
_MARKS = re.compile(r"[\"“”„.,;:?!…]")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|'(?:tis|twas|em|cause)")


def speakable(text: str) -> str | None:
    """The words of a written sentence: lower case, numbers in words, letters of abbreviations apart.

    Args:
        text: a line of prose.

    Returns:
        Words of letters and apostrophes with one space between them; None if anything else remains, such as a formula,
        a foreign letter or an unknown abbreviation.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub("[‘’`´]", "'", text)
    text = _BRACKETS.sub(" ", text)
    text = _HALF_DAY.sub(r" \1 m ", text)
    text = _LETTERS.sub(lambda match: " ".join(match[0].replace(".", "")) + " ", text)
    text = _MONEY.sub(_money, text)
    text = text.replace("%", " percent ").replace("&", " and ")
    said: list[str] = []
    for token in re.split(r"[\s/—–-]+", text):
        words = _words(_TITLES.get(token, token))
        if words is None:
            return None
        said += words
    return " ".join(said) or None


def _words(token: str) -> list[str] | None:
    token = token.strip("'\"“”„.,;:?!…") if not _WORD.fullmatch(token) else token
    if not token:
        return []
    if token[0].isdecimal():
        if not re.fullmatch(r"\d[\d,]*(?:\.\d+|:\d\d)?|\d+(?:st|nd|rd|th)", token):
            return None
        choices = readings(token)[0]
        pairs = [
            words for words in choices if "hundred" not in words and "oh" not in words and "zero" not in words
        ]
        if _YEAR.fullmatch(token) and not token.startswith("200") and pairs:
            return list(pairs[-1])
        return list(choices[0])
    words = _MARKS.sub(" ", token).split()
    return words if words and all(_WORD.fullmatch(word) for word in words) else None


def _money(match: re.Match[str]) -> str:
    whole, cents = match[2].replace(",", ""), match[3]
    coin, small = _COINS[match[1]]
    if int(whole) > 999_999:
        return match[0]
    said = f"{plain(whole)} {coin}{'' if int(whole) == 1 else 's'}"
    if cents and int(cents):
        many = "pence" if small == "penny" else f"{small}s"
        said += f" and {plain(str(int(cents)))} {small if int(cents) == 1 else many}"
    return f" {said} "

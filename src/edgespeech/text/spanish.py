"""Spanish text: its letters, its number words, and the words of a written sentence.

Accents and the tilde of "ñ" are part of the spelling ("si" and "sí", "ano" and "año" are different words), so nothing
here removes them. The marks that open a question or an exclamation are punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from edgespeech.errors import bad

LETTERS = "áéíñóúü"
"""The letters of Spanish beyond a to z, composed (NFC)."""
LARGEST = 999_999
"""The largest number with words here."""
_SMALL = (
    *(
        "cero",
        "uno",
        "dos",
        "tres",
        "cuatro",
        "cinco",
        "seis",
        "siete",
        "ocho",
        "nueve",
        "diez",
        "once",
        "doce",
    ),
    *(
        "trece",
        "catorce",
        "quince",
        "dieciséis",
        "diecisiete",
        "dieciocho",
        "diecinueve",
        "veinte",
        "veintiuno",
    ),
    *("veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho"),
    "veintinueve",
)
_TENS = ("treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa")
_HUNDREDS = (
    *("ciento", "doscientos", "trescientos", "cuatrocientos", "quinientos", "seiscientos", "setecientos"),
    *("ochocientos", "novecientos"),
)
_QUESTION = re.compile(
    r"(?:(?:a|al|con|de|del|desde|en|hasta|para|por) )?"
    r"(?:qué|quién|quiénes|cuál|cuáles|cómo|cuándo|dónde|adónde|cuánto|cuánta|cuántos|cuántas)\b"
)
_SAYABLE = re.compile(rf"[a-z{LETTERS} ]+")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.]|,\d)")
_DECIMAL = re.compile(r"(?<![\d.,])(\d+)[,.](\d+)(?![\d.,])")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d\d)\b")
_DIGITS = re.compile(r"\d+")


def number_words(n: int) -> str:
    """The cardinal `n` in Spanish words, in the form for counting: 21 is "veintiuno", 100 "cien".

    Before a noun "uno" is shortened ("veintiún minutos"), and hundreds have a gender ("doscientas horas"); neither is
    done here.

    Raises:
        EdgeSpeechError: `n` lies outside 0 to 999,999.
    """
    if not 0 <= n <= LARGEST:
        raise bad("number_words", "n", n, f"0 to {LARGEST:,}")
    if n < 30:
        return _SMALL[n]
    if n < 100:
        tens = _TENS[n // 10 - 3]
        return f"{tens} y {_SMALL[n % 10]}" if n % 10 else tens
    if n == 100:
        return "cien"
    if n < 1000:
        hundreds = _HUNDREDS[n // 100 - 1]
        return f"{hundreds} {number_words(n % 100)}" if n % 100 else hundreds
    thousands = "mil" if n < 2000 else f"{_shortened(number_words(n // 1000))} mil"
    return f"{thousands} {number_words(n % 1000)}" if n % 1000 else thousands


def _shortened(words: str) -> str:
    """A number before "mil": "veintiún mil", "treinta y un mil"."""
    if words.endswith("veintiuno"):
        return words.removesuffix("uno") + "ún"
    return words.removesuffix("o") if words.endswith(" uno") else words


def with_contractions(words: Sequence[str]) -> list[str]:
    """The words with "a el" as "al" and "de el" as "del", which Spanish never leaves apart ("él", he, stays).

    Grammars therefore need not distinguish nouns by gender after these prepositions.
    """
    said: list[str] = []
    for word in (part for words_of in words for part in words_of.split()):
        if word == "el" and said and said[-1] in ("a", "de"):
            said[-1] = "al" if said[-1] == "a" else "del"
        else:
            said.append(word)
    return said


def digits_in_words(text: str) -> str:
    """`text` with its numbers in words: "1.200" is "mil doscientos", "3,5" is "tres coma cinco".

    A time of day, "7:30", is "siete treinta". A full stop groups thousands and a comma is decimal, as in Spain and most
    of America; a single full stop that does not group (`3.5`, as in Mexico) reads as the decimal comma does. Numbers
    with leading zeros or above 999,999 are read digit by digit.
    """
    text = _GROUPED.sub(lambda found: found[0].replace(".", ""), text)
    text = _CLOCK.sub(lambda found: f"{found[1]} {found[2]}" if int(found[2]) else found[1], text)
    text = _DECIMAL.sub(lambda found: f"{found[1]} coma {found[2]}", text)
    return _DIGITS.sub(lambda found: f" {_read(found[0])} ", text)


def _read(digits: str) -> str:
    if len(digits) > len(str(LARGEST)) or (len(digits) > 1 and int(digits[0]) == 0):
        return " ".join(_SMALL[int(digit)] for digit in digits)
    return number_words(int(digits))


def is_question(text: str) -> bool:
    """Whether a sentence in lower case opens with a word of questions, which Spanish writes with an accent."""
    return _QUESTION.match(text) is not None


def sayable(text: str) -> str:
    """The sentence with composed accents, as the pronunciation rules of Spanish expect it.

    Args:
        text: words in lower case.

    Raises:
        EdgeSpeechError: the sentence has something other than Spanish words in lower case.
    """
    text = unicodedata.normalize("NFC", text)
    if not _SAYABLE.fullmatch(text) or not text.strip():
        wrong = sorted(set(re.sub(rf"[a-z{LETTERS} ]", "", text))) or text
        raise bad("speech synthesis", f"sentence {text!r}", wrong, f"words of a to z and {LETTERS}")
    return text

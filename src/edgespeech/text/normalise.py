"""Text normalisers, applied to reference and hypothesis before their words are compared.

A word error rate means nothing without the normaliser's name, and two runs compare only if the normaliser's
hash is the same: the hash covers everything that defines it. Records store raw hypotheses; they are normalised when
they are scored.

Numbers: `whisper-en` turns spelled numbers into digits ("twelve ounce" and "12-ounce" both become "12
ounce"), `basic` leaves both as they are. Where references spell numbers out and a recogniser writes digits
(coffee orders against Whisper), `basic` counts every such number as an error although the spoken words agree; use
`whisper-en` there.

All normalisers ignore case, invisible characters, the kind of apostrophe and an ellipsis. Only `spelled-en` reads runs
of capitals as spelled letters, in texts of mixed case; it cannot distinguish a short text in capitals from a spelled
one if the same writer uses small letters elsewhere.

A new normaliser is one function in this file, marked with `_register`.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.text import spanish


@dataclass(frozen=True, kw_only=True, slots=True)
class Normaliser:
    """A named function from text to words joined by single spaces.

    Attributes:
        name: as on the command line and in records.
        version: changes whenever its output may.
        sha256: of everything that defines it; records with different hashes are not compared.
        function: the rule itself.
    """

    name: str
    version: str
    sha256: str
    function: Callable[[str], str] = field(repr=False, compare=False)

    def __call__(self, text: str) -> str:
        """The normalised text; empty if no word is left."""
        return self.function(text)

    def all(self, texts: Sequence[str]) -> list[str]:
        """The normalised texts of one writer: all references of a corpus, or all hypotheses of a recogniser.

        If a writer never uses a small letter, capitals do not mark spelled words.
        """
        if not any(c.islower() for text in texts for c in text):
            texts = [text.lower() for text in texts]
        return [self(text) for text in texts]


_FACTORIES: dict[str, Callable[[], Normaliser]] = {}
_LANGUAGES: dict[str, str | None] = {}
"""The language of each normaliser; None: any."""
ENGLISH = "en"


def _register(
    name: str, language: str | None = ENGLISH
) -> Callable[[Callable[[], Normaliser]], Callable[[], Normaliser]]:
    def add(factory: Callable[[], Normaliser]) -> Callable[[], Normaliser]:
        if name in _FACTORIES:
            raise bad("normalise", "name", name, "a name no other normaliser has")
        _FACTORIES[name] = cache(lambda: _remembering(factory()))
        _LANGUAGES[name] = language
        return factory

    return add


def _remembering(normaliser: Normaliser) -> Normaliser:
    """The same normaliser with a cache: every system is scored on the same references and bias phrases."""
    return replace(normaliser, function=lru_cache(maxsize=1 << 15)(normaliser.function))


def normalisers(language: str = ENGLISH) -> dict[str, Normaliser]:
    """Every normaliser of a language, and of any, by name. Heavy packages are only imported once one is called.

    Args:
        language: ISO 639-1 code. Records of English corpora state the rates under all normalisers of English.

    Raises:
        EdgeSpeechError: the package behind a normaliser is missing.
    """
    return {name: factory() for name, factory in _FACTORIES.items() if _LANGUAGES[name] in (None, language)}


def normaliser_of(name: str, where: str = "normalise") -> Normaliser:
    """The normaliser of that name, of whatever language.

    Args:
        name: of the normaliser.
        where: what names it, for messages.

    Raises:
        EdgeSpeechError: there is none, or the package behind it is missing.
    """
    if name not in _FACTORIES:
        raise bad(where, "normaliser", name, "one of " + ", ".join(_FACTORIES))
    return _FACTORIES[name]()


_APOSTROPHES = (
    "[\u2018\u2019\u201b\u02bb\u02bc\u02bd\u02b9\u055a\u05f3\u1fbd\u1fbf"
    "\u2035\ua78b\ua78c\u0060\u00b4\u2032\uff07]"
)
_UNSEEN = (
    "[\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f"
    "\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Characters beside category Cf that show nothing (Unicode's Default_Ignorable_Code_Point), and the Arabic tatweel."""


def same_text(text: str) -> str:
    """`text` without differences of typing that are not audible; case is preserved.

    Invisible characters are removed (Unicode category Cf: byte-order mark, soft hyphen, joiners, marks of direction;
    fillers and variation selectors), and so are frames around characters (keycaps). Compatibility forms are folded
    (NFKC: full-width letters, ligatures), digits of every script become ASCII, every apostrophe becomes the straight
    one, and two or more full stops in a row, or the ellipsis, separate words.
    """
    text = "".join(c for c in re.sub(_UNSEEN, "", text) if unicodedata.category(c) not in ("Cf", "Me"))
    text = unicodedata.normalize("NFKC", re.sub(_APOSTROPHES, "'", text))
    text = re.sub(r"(?![0-9])\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
    return re.sub(r"\.(?:\s*\.)+", " ", re.sub(_APOSTROPHES, "'", text))


def fold_case(text: str) -> str:
    """Lower case that does not depend on the case of `text`: upper case, then casefolded.

    Letters that share a capital become one ("ß" and "ss", "ı" and "i"), and the dot that Unicode puts on a small "İ" is
    removed.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).upper().casefold())
    # Composition can make a letter whose case is folded further, as in some Greek and Armenian pairs.
    folded = unicodedata.normalize("NFKC", folded.upper().casefold())
    return same_text(re.sub("i\u0307", "i", folded))


def basic_text(text: str) -> str:
    """Lower case without punctuation, with apostrophes inside words; for any language.

    After `same_text` and `fold_case`; accents stay, because in most languages they are part of the spelling. A comma
    between digits disappears ("1,000" is "1000"). Every other character that is not a letter, a mark or a number
    separates words, so "12-ounce" is two words and "U.S." is "u s". An apostrophe stays inside a word ("don't") and is
    removed at its edges, where it may be a quotation mark. Numbers are not spelled out.
    """
    text = fold_case(same_text(text))
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    text = re.sub(r"(?<!\S)'+|'+(?!\S)", " ", text)
    return " ".join(text.split())


def _source(*rules: Callable[..., str]) -> bytes:
    """The source code in this file that the hash of a normaliser covers, with docstrings: any edit changes it."""
    return "".join([*(inspect.getsource(rule) for rule in rules), _APOSTROPHES, _UNSEEN]).encode()


@_register("basic", None)
def _basic() -> Normaliser:
    digest = hashlib.sha256(_source(same_text, fold_case, basic_text))
    return Normaliser(name="basic", version="3", sha256=digest.hexdigest(), function=basic_text)


def english_text(text: str, normalise: Callable[[str], str]) -> str:
    """`normalise` of text in one case and without invisible characters; `basic_text` where it fails.

    The Whisper normaliser raises on a few sequences of number words and on numbers of thousands of digits; no
    hypothesis may abort a run.
    """
    plain = fold_case(same_text(text))
    try:
        return " ".join(normalise(plain).split())
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError):
        return basic_text(plain)


@_register("whisper-en")
def _whisper_en() -> Normaliser:
    """The English normaliser of the Whisper paper (appendix C), from the package `whisper-normalizer`."""
    spec = find_spec("whisper_normalizer")
    if spec is None or spec.origin is None:
        raise EdgeSpeechError("normaliser whisper-en: the package whisper-normalizer is not installed")
    version = metadata.version("whisper-normalizer")
    digest = hashlib.sha256(version.encode() + _source(same_text, fold_case, basic_text, english_text))
    for name in ("english.py", "basic.py", "normalizers/english.json"):
        digest.update((Path(spec.origin).parent / name).read_bytes())

    @cache
    def load() -> Callable[[str], str]:
        from whisper_normalizer.english import EnglishTextNormalizer

        normalise: Callable[[str], str] = EnglishTextNormalizer()
        return normalise

    return Normaliser(
        name="whisper-en",
        version=f"3+{version}",
        sha256=digest.hexdigest(),
        function=lambda text: english_text(text, load()),
    )


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NINTH = re.compile(rf"\b(?:({'|'.join(_TENS)})[\s-]+)?ninth\b")
"""The only ordinal that the Whisper normaliser does not handle."""
_SENTENCE = 4
"""A text without small letters and with at least this many words in capitals is a sentence, not a spelled word."""
_CAPITALS = r"(?<![^\W\d_])[A-Z]{2,}(?![a-z])"
_LONE_DIGITS = re.compile(
    # not behind a currency or inside a number ("$20", "3.5", "1,000")
    r"(?<![\d$£€¢])(?<!\d[.,])[0-9]+"
    # and not before the rest of one ("3.5", "20 %", "3rd", "20 million")
    r"(?![0-9]|[.,][0-9]|\s*%|\s*(?:st|nd|rd|th|s)\b|\s*(?:hundred|thousand|\w*illion)s?\b)"
)


def spelled_text(text: str, normalise: Callable[[str], str]) -> str:
    """`normalise` with spelled letters and digits taken one by one: "GMEF 39" becomes "g m e f 3 9".

    A run of two or more capitals is read as letters, unless the whole text is a sentence in capitals. Digits are read
    as spoken before `normalise` sees them: "213", "2 1 3" and "two one three" become the same, as do "8 triple 9" and
    "eight nine nine nine", "007" and "double oh seven", "thirty nine" and "three nine".

    Args:
        text: raw.
        normalise: turns number words into digits.
    """
    text = same_text(text)
    runs = re.findall(_CAPITALS, text)
    if len(runs) < _SENTENCE or any(c.islower() for c in text):
        text = re.sub(_CAPITALS, lambda run: f" {' '.join(run[0])} ", text)
    text = _LONE_DIGITS.sub(lambda run: f" {' '.join(_DIGITS[int(d)] for d in run[0])} ", fold_case(text))
    text = _NINTH.sub(lambda found: f"{_TENS.index(found[1]) + 2 if found[1] else ''}9th", text)
    digits = re.sub(r"[0-9]", r" \g<0> ", re.sub(r"\bone(s?)\b", r"1\1", normalise(text)))
    return " ".join(digits.split())


@_register("spelled-en")
def _spelled_en() -> Normaliser:
    whisper = _FACTORIES["whisper-en"]()
    digest = hashlib.sha256(_source(spelled_text) + whisper.sha256.encode())
    digest.update(repr((_DIGITS, _SENTENCE, _CAPITALS, _LONE_DIGITS.pattern, _NINTH.pattern)).encode())
    return Normaliser(
        name="spelled-en",
        version=whisper.version,
        sha256=digest.hexdigest(),
        function=lambda text: spelled_text(text, whisper),
    )


def spanish_text(text: str) -> str:
    """`basic_text` with numbers in Spanish words: "¿12 cafés?" becomes "doce cafés".

    Accents, "ñ" and "ü" stay, since they tell words apart; the marks that open a question or an exclamation do not.
    """
    return basic_text(spanish.digits_in_words(same_text(text)))


@_register("basic-es", "es")
def _basic_es() -> Normaliser:
    numbers = inspect.getsource(spanish)
    digest = hashlib.sha256(_source(same_text, fold_case, basic_text, spanish_text) + numbers.encode())
    return Normaliser(name="basic-es", version="1", sha256=digest.hexdigest(), function=spanish_text)

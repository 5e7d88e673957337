"""Text normalisers: what is done to reference and hypothesis before words are compared.

A word error rate means nothing without the normaliser's name, and two runs compare only if the normaliser's
hash is the same: the hash covers everything that defines it. Raw hypotheses are kept; normalisation happens
at scoring.

Numbers: `whisper-en` turns spelled numbers into digits ("twelve ounce" and "12-ounce" both become "12
ounce"), `basic` leaves both as they are. Where references spell numbers out and a recogniser writes digits
(coffee orders against Whisper), `basic` counts every such number as an error that nobody would hear; read
`whisper-en` there.

A new normaliser is one function in this file, marked with `_register`.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edgespeech.errors import EdgeSpeechError, bad


@dataclass(frozen=True, kw_only=True, slots=True)
class Normaliser:
    """A named function from text to words joined by single spaces.

    Attributes:
        name: as on the command line and in records.
        version: changes whenever its output may.
        sha256: of everything that defines it; records with other hashes are not compared.
        function: the rule itself.
    """

    name: str
    version: str
    sha256: str
    function: Callable[[str], str] = field(repr=False, compare=False)

    def __call__(self, text: str) -> str:
        """The normalised text; empty if no word is left."""
        return self.function(text)


_FACTORIES: dict[str, Callable[[], Normaliser]] = {}


def _register(name: str) -> Callable[[Callable[[], Normaliser]], Callable[[], Normaliser]]:
    def add(factory: Callable[[], Normaliser]) -> Callable[[], Normaliser]:
        if name in _FACTORIES:
            raise bad("normalise", "name", name, "a name no other normaliser has")
        _FACTORIES[name] = cache(factory)
        return factory

    return add


def normalisers() -> dict[str, Normaliser]:
    """Every normaliser by name. Heavy packages are only imported once one is called.

    Raises:
        EdgeSpeechError: the package behind a normaliser is missing.
    """
    return {name: factory() for name, factory in _FACTORIES.items()}


def basic_text(text: str) -> str:
    """Lower case, punctuation stripped, apostrophes kept, any language.

    Unicode compatibility forms are folded (NFKC: full-width letters, ligatures) and curly apostrophes made
    straight; accents stay, because in most languages they are part of the spelling. A comma between digits
    disappears ("1,000" is "1000"). Every other character that is not a letter, a mark or a number separates
    words, so "12-ounce" is two words and "U.S." is "u s". An apostrophe stays inside a word ("don't") and
    goes at its edges, where it cannot be told from a quotation mark. Numbers are not spelled out.
    """
    text = re.sub("[\u2018\u2019\u02bc\u0060\u00b4\uff07]", "'", text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    text = re.sub(r"(?<!\S)'+|'+(?!\S)", " ", text)
    return " ".join(text.split())


@_register("basic")
def _basic() -> Normaliser:
    source = inspect.getsource(basic_text)
    return Normaliser(
        name="basic", version="1", sha256=hashlib.sha256(source.encode()).hexdigest(), function=basic_text
    )


@_register("whisper-en")
def _whisper_en() -> Normaliser:
    """The English normaliser of the Whisper paper (appendix C), from the package `whisper-normalizer`."""
    spec = find_spec("whisper_normalizer")
    if spec is None or spec.origin is None:
        raise EdgeSpeechError("normaliser whisper-en: the package whisper-normalizer is not installed")
    version = metadata.version("whisper-normalizer")
    digest = hashlib.sha256(version.encode())
    for name in ("english.py", "basic.py", "normalizers/english.json"):
        digest.update((Path(spec.origin).parent / name).read_bytes())

    @cache
    def load() -> Callable[[str], str]:
        from whisper_normalizer.english import EnglishTextNormalizer

        normalise: Callable[[str], str] = EnglishTextNormalizer()
        return normalise

    return Normaliser(
        name="whisper-en",
        version=version,
        sha256=digest.hexdigest(),
        function=lambda text: " ".join(load()(text).split()),
    )


def spelled_text(text: str, normalise: Callable[[str], str]) -> str:
    """`normalise` with spelled letters and digits taken one by one: "GMEF 39" becomes "g m e f 3 9".

    A run of two or more capitals is read as letters, so a recogniser that writes everything in capitals must be
    lower-cased first; "thirty nine" and "three nine" become the same.

    Args:
        text: raw.
        normalise: turns number words into digits.
    """
    letters = re.sub(r"(?<![A-Za-z])[A-Z]{2,}(?![a-z])", lambda run: f" {' '.join(run[0])} ", text)
    return " ".join(re.sub(r"\d", r" \g<0> ", normalise(letters)).split())


@_register("spelled-en")
def _spelled_en() -> Normaliser:
    whisper = _FACTORIES["whisper-en"]()
    digest = hashlib.sha256(inspect.getsource(spelled_text).encode() + whisper.sha256.encode())
    return Normaliser(
        name="spelled-en",
        version=f"1+{whisper.version}",
        sha256=digest.hexdigest(),
        function=lambda text: spelled_text(text, whisper),
    )

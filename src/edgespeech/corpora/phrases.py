"""Context phrases for a run: from a file, from a named list of the project, or from each utterance itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category, normalize

from edgespeech.core.places import manifests_dir
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError, bad

FROM_MANIFEST = "manifest"
MAX_PHRASES = 200_000
MAX_BYTES = 16_000_000
"""Maximum size of a file of phrases."""


@dataclass(frozen=True, slots=True)
class PhraseList:
    """The phrases of a list.

    Attributes:
        phrases: without duplicates, in the list's order.
        weights: how likely each is beside the others; empty: the list has no weights.
        remarks: what of the list was left out.
    """

    phrases: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    remarks: tuple[str, ...] = ()


def load_list(name: str) -> PhraseList:
    """A list: one phrase a line, perhaps with a tab and a weight behind it; empty lines and lines that start with `#`
    are ignored, of equal phrases the first counts.

    Args:
        name: a file, or a list of `data_manifests/contexts` by its name.

    Raises:
        EdgeSpeechError: no such file or list; it is too large, or not UTF-8; it holds no phrase or too many; a weight
            is not a number of at least 0.
    """
    folder = manifests_dir() / "contexts"
    if name == FROM_MANIFEST and not Path(name).is_file():
        raise bad("--context", "list", name, "a file or a named list: there is no manifest here")
    if _is_no_file(name):
        raise bad("--context", "list", name, "a text file: this is a folder, a pipe or a device")
    path = Path(name) if Path(name).is_file() else folder / f"{name}.txt"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(found.stem for found in folder.glob("*.txt")))
        raise bad(
            "--context", "list", name, f"a text file, {FROM_MANIFEST}, or one of {known} ({error})"
        ) from error
    if len(data) > MAX_BYTES:
        raise bad(str(path), "size in bytes", f"over {MAX_BYTES}", "at most so many")
    return _parsed(_decoded(data, str(path)), str(path))


def _is_no_file(name: str) -> bool:
    try:
        return Path(name).exists() and not Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


def load_phrases(name: str) -> tuple[str, ...]:
    """The phrases of a list alone, see `load_list`."""
    return load_list(name).phrases


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad(f"{where}, line {line}", "byte", hex(data[error.start]), "UTF-8") from error


def _parsed(text: str, where: str) -> PhraseList:
    found: dict[str, float] = {}
    seen: set[str] = set()
    weighted, doubled = False, []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        phrase, tab, weight = line.strip(" \r").partition("\t")
        phrase = " ".join(phrase.split())
        at = f"{where}, line {number}"
        if not phrase:
            raise bad(at, "phrase", line, "words before the tab")
        if any(category(c) == "Cc" for c in phrase):
            raise bad(at, "phrase", phrase, "no control characters")
        value = _weight(weight, at) if tab else 1.0
        if (same := normalize("NFC", phrase)) in seen:
            doubled.append(number)
            continue
        seen.add(same)
        found[phrase] = value
        weighted = weighted or bool(tab)
    if not 0 < len(found) <= MAX_PHRASES:
        raise bad(where, "number of phrases", len(found), f"1 to {MAX_PHRASES}")
    first = f"line {doubled[0]}{', ...' if len(doubled) > 1 else ''}" if doubled else ""
    remarks = (f"{len(doubled)} context phrases are in the list twice ({first})",) if doubled else ()
    return PhraseList(tuple(found), tuple(found.values()) if weighted else (), remarks)


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise bad(where, "weight", text, "a number of at least 0")
    return weight


def phrases_for(context: str | None, phrases: tuple[str, ...], utterance: Utterance) -> tuple[str, ...]:
    """The context phrases for one utterance: the run's phrases, or the utterance's own.

    Raises:
        EdgeSpeechError: the utterance's own are asked for and it has none.
    """
    if context != FROM_MANIFEST:
        return phrases
    if not utterance.context:
        raise EdgeSpeechError(
            f"utterance {utterance.id} has no context, expected phrases since --context is manifest"
        )
    return utterance.context

"""Context phrases for a run: from a file, from a named list of the project, or from each utterance itself."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.places import manifests_dir
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError, bad

FROM_MANIFEST = "manifest"
MAX_PHRASES = 10_000


def load_phrases(name: str) -> tuple[str, ...]:
    """The phrases of a list, one a line; empty lines and lines that start with `#` are ignored.

    Args:
        name: a file, or a list of `data_manifests/contexts` by its name.

    Raises:
        EdgeSpeechError: no such file or list, or it holds no phrase or too many.
    """
    folder = manifests_dir() / "contexts"
    path = Path(name) if Path(name).is_file() else folder / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(found.stem for found in folder.glob("*.txt")))
        raise bad(
            "--context", "list", name, f"a text file, {FROM_MANIFEST}, or one of {known} ({error})"
        ) from error
    phrases = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not 0 < len(phrases) <= MAX_PHRASES:
        raise bad(str(path), "number of phrases", len(phrases), f"1 to {MAX_PHRASES}")
    return phrases


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

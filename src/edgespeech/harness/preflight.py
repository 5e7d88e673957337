"""Checks before the first utterance, so that no mistake is found only after hours of a run."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgespeech.audio.io import AudioMismatchError
from edgespeech.contracts import Recogniser, Request
from edgespeech.core.files import TEMPORARY
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.corpora.phrases import FROM_MANIFEST
from edgespeech.corpora.utterances import AudioCondition
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.text.normalise import normalisers

SNR_DB = (-60.0, 100.0)
"""Range of signal-to-noise ratios: beyond it, speech or noise is inaudible."""
_LONGEST_NAME = 255 - len(f".{TEMPORARY}")
"""Maximum bytes of a file's name, allowing for the temporary name of `write_atomic`."""
_FEW = 10
"""Most languages that a message lists."""
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")
_REMARKS = 5
"""Maximum number of remarks on lists of phrases in a record."""
_ROW_BYTES = 1 << 16
"""A generous estimate of the bytes of one utterance's row."""


def check_out(folder: Path, name: str, n_utterances: int) -> None:
    """Refuse a folder in which a record of this name cannot be written.

    Args:
        folder: created if missing.
        name: of the longest file that will be written there.
        n_utterances: of the run, for a rough estimate of the space for its rows.

    Raises:
        EdgeSpeechError: it cannot be created or written to, the name is too long, or there is not enough space.
    """
    if len(name.encode()) > _LONGEST_NAME:
        raise bad(
            "--out", "file name", name, f"at most {_LONGEST_NAME} bytes: give the manifest a shorter name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # without a name, so that a kill leaves nothing
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise EdgeSpeechError(f"--out {folder}: cannot be written to: {error.strerror or error}") from error
    needed = n_utterances * _ROW_BYTES
    if free < needed:
        raise bad("--out", f"free bytes of {folder}", free, f"about {needed} for {n_utterances} utterances")


def check_noise(snr_db: float | None) -> None:
    """Refuse an invalid signal-to-noise ratio.

    Raises:
        EdgeSpeechError: it is not a number, or out of range.
    """
    if snr_db is not None and not (math.isfinite(snr_db) and SNR_DB[0] <= snr_db <= SNR_DB[1]):
        raise bad("--snr", "ratio", snr_db, f"{SNR_DB[0]:g} to {SNR_DB[1]:g} dB")


def check_words(manifest: Manifest) -> None:
    """Refuse a manifest without a word to score, under any normaliser.

    Raises:
        EdgeSpeechError: no reference word remains after normalisation.
    """
    texts = [item.text for item in manifest.utterances]
    for name, normaliser in normalisers().items():
        if not any(normaliser.all(texts)):
            raise EdgeSpeechError(
                f"{manifest.name}: no reference word is left under {name}, expected at least one to score"
            )


def check_language(recogniser: Recogniser, code: str, where: str, field: str) -> None:
    """Refuse a language that a recogniser does not support, and what is no code of one.

    Args:
        recogniser: asked to recognise it.
        code: ISO 639-1, or longer where a language has no such code, or a variant.
        where: it stands, for the message.
        field: its name there.

    Raises:
        EdgeSpeechError: it is not such a code, or not one of the recogniser's.
    """
    known = recogniser.languages
    if known and code not in known:
        codes = " or ".join(known) if len(known) <= _FEW else f"one of its {len(known)} languages"
        raise bad(where, field, code, f"{codes}, for {recogniser.name}")
    if not _LANGUAGE.fullmatch(code):
        raise bad(where, field, code, "a code such as en or pt-BR")


def check_request(recogniser: Recogniser, manifest: Manifest, *, context: bool) -> None:
    """Refuse languages that a recogniser does not support, and phrases that it would ignore.

    Raises:
        EdgeSpeechError: an utterance has another language, or there are phrases for a recogniser that takes none.
    """
    for item in manifest.utterances:
        check_language(recogniser, item.lang, f"{manifest.name}: {item.id}", "lang")
    if context and recogniser.takes_context is False:
        raise bad("--context", "recogniser", recogniser.name, "one that takes phrases: this one ignores them")


def check_stream(
    recogniser: Recogniser, manifest: Manifest, stream: str | None, *, noise: str | None
) -> None:
    """Refuse lead-ins that a recogniser would ignore or that are not there, and noise beside them.

    Raises:
        EdgeSpeechError: a recogniser that takes no lead-in, an utterance without one, or noise that would be over the
            utterance alone.
    """
    if stream is None:
        return
    if not recogniser.takes_lead_in:
        raise bad("--stream", "recogniser", recogniser.name, "one that takes lead-ins: this one ignores them")
    if noise is not None:
        raise bad("--stream", "noise", noise, "none: what is over a stream is in its own file")
    if stream == FROM_MANIFEST:
        for item in manifest.utterances:
            if item.lead_in_s is None:
                raise bad(f"{manifest.name}: {item.id}", "lead_in_s", None, "seconds, for --stream manifest")


def check_context(recogniser: Recogniser, requests: Iterable[Request]) -> tuple[str, ...]:
    """What the recogniser will not use of the phrases of a run, for its record.

    Raises:
        EdgeSpeechError: it cannot use one of the lists at all.
    """
    lists = dict.fromkeys((one.context, one.context_weights) for one in requests if one.context)
    found = dict.fromkeys(remark for each in lists for remark in recogniser.context_remarks(*each))
    more = (f"{len(found) - _REMARKS} further lists of phrases are not used in full",)
    return (*list(found)[:_REMARKS], *(more if len(found) > _REMARKS else ()))


def check_audio(manifest: Manifest, condition: AudioCondition) -> None:
    """Refuse audio whose hash or length differs from the manifest.

    Every file is decoded once. An unreadable file is not refused here: in the run it is a failure of its utterance.

    Raises:
        EdgeSpeechError: with the utterance's id.
    """
    of_file: dict[Path, list[Utterance]] = defaultdict(list)
    for item in manifest.utterances:
        of_file[manifest.audio_path(item)].append(item)
    for items in of_file.values():
        try:
            manifest.check(items, channels=condition.channels)
        except AudioMismatchError as error:
            raise EdgeSpeechError(f"{manifest.name}: {error}") from error
        except EdgeSpeechError:
            continue

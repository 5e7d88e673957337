"""Plain transcription of files, through the same runner that measures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespeech.audio.io import AVERAGE, check_channels, ends_properly, file_bytes, read_audio_bytes
from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import EventKind, Request, Samples
from edgespeech.corpora.phrases import PhraseList, load_list
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.boundary import checked_info
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.preflight import check_language
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from edgespeech.records.trace import Timeline, result_of

STDIN = Path("-")
MAX_STDIN = 1 << 30
"""Maximum bytes from stdin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of one file.

    Attributes:
        timeline: over the loopback network; None if the file, or the recogniser on it, failed.
        remarks: the reason, or warnings.
    """

    timeline: Timeline | None
    remarks: tuple[str, ...] = ()


def transcribe_files(
    files: Sequence[Path],
    system: str,
    options: Mapping[str, Any],
    *,
    context: str | None = None,
    language: str = "en",
    channels: str = AVERAGE,
) -> Iterator[tuple[Path, Result]]:
    """Load a recogniser and run it over files, one result each, in their order; `-` reads one from stdin.

    Raises:
        EdgeSpeechError: the system cannot run here, does not support the language, or would ignore the phrases.
    """
    phrases = load_list(context) if context is not None else PhraseList()
    check_channels(channels)
    recogniser = find_recogniser(system, **options)
    check_language(recogniser, language, "--language", "code")
    if phrases.phrases and recogniser.takes_context is False:
        raise bad("--context", "recogniser", system, "one that takes phrases: this one ignores them")
    told = (*phrases.remarks, *recogniser.context_remarks(phrases.phrases, phrases.weights))
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(f"{system} cannot run here: {missing}")
    link = load_profiles()["loopback"]
    try:
        info = checked_info(recogniser.load(), type(recogniser).name)
        for path in files:
            try:
                samples, remarks = _heard(path, channels)
                remarks, told = (*told, *remarks), ()  # remarks on the list come once
            except EdgeSpeechError as error:
                yield path, Result(timeline=None, remarks=(str(error),))
                continue
            request = Request(
                utterance_id=path.stem,
                language=language,
                context=phrases.phrases,
                context_weights=phrases.weights,
            )
            trace = run_utterance(recogniser, samples, request, chunk_s=info.chunk_s)
            timeline = replay(trace, link, seed=0, cloud_speedup=1.0)
            if timeline.failure is not None:
                remarks = (*remarks, f"{path}: {system}: {timeline.failure}")
            yield path, Result(timeline=None if timeline.failure else timeline, remarks=remarks)
    finally:
        recogniser.close()


def _heard(path: Path, channels: str) -> tuple[Samples, tuple[str, ...]]:
    """A file's samples, and warnings about it."""
    if path == STDIN:
        data = _stdin()
        if not data:
            raise EdgeSpeechError("stdin: is empty (0 bytes), expected audio")
        if len(data) > MAX_STDIN:
            raise bad("stdin", "size in bytes", f"over {MAX_STDIN}", "at most so many")
    else:
        data = file_bytes(path)
    where = "stdin" if path == STDIN else str(path)
    samples = read_audio_bytes(where, data, channels=channels)
    if ends_properly(data):
        return samples, ()
    return samples, (f"{where}: the stream does not end: it is cut, or still written to",)


def _stdin() -> bytes:
    """What stdin holds, and a byte more than may be read of it at most."""
    if sys.stdin is None:  # Python's way to say that the process was started without one
        raise EdgeSpeechError("stdin: is closed, expected audio")
    try:
        return sys.stdin.buffer.read(MAX_STDIN + 1)
    except OSError as error:
        raise EdgeSpeechError(f"stdin: could not be read: {error.strerror or error}") from error


def as_text(path: Path, timeline: Timeline) -> str:
    """The file's name, the transcript, and word times in seconds if available."""
    result = result_of(stamped.event for stamped in timeline.events)
    words = result.words if result is not None else ()
    lines = [f"{path}\t{timeline.text}"]
    lines += [f"  {word.start_s:7.2f} {word.end_s:7.2f}  {word.text}" for word in words]
    return "\n".join(lines)


def as_dict(path: Path, timeline: Timeline) -> dict[str, Any]:
    """The same with all events, for JSON. Times in seconds of audio time."""
    return {
        "file": str(path),
        "text": timeline.text,
        "duration_s": timeline.trace.duration_s,
        "events": [
            {
                "kind": stamped.event.kind.value,
                "t_s": round(stamped.t_s, 6),
                "text": stamped.event.text,
                "words": [[word.text, word.start_s, word.end_s] for word in stamped.event.words],
            }
            for stamped in timeline.events
            if stamped.event.kind is not EventKind.SENT
        ],
        "up_bytes": timeline.up_bytes,
        "down_bytes": timeline.down_bytes,
    }

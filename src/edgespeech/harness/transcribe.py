"""Plain transcription of files, through the same runner that measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgespeech.audio.io import AVERAGE, read_audio
from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import EventKind, Request
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from edgespeech.records.trace import Timeline


def transcribe_files(
    files: Sequence[Path], system: str, options: Mapping[str, Any], *, context: str | None = None
) -> Iterator[tuple[Path, Timeline]]:
    """Load a recogniser and run it over files, one timeline each, over the loopback network.

    Raises:
        EdgeSpeechError: the system cannot run here, a file cannot be read, or the recogniser failed on it.
    """
    phrases = load_phrases(context) if context is not None else ()
    audio = {path: read_audio(path, channels=AVERAGE) for path in files}
    recogniser = find_recogniser(system, **options)
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(f"{system} cannot run here: {missing}")
    try:
        info = recogniser.load()
        for path, samples in audio.items():
            request = Request(utterance_id=path.stem, context=phrases)
            trace = run_utterance(recogniser, samples, request, chunk_s=info.chunk_s)
            timeline = replay(trace, load_profiles()["loopback"], seed=0, cloud_speedup=1.0)
            if timeline.failure is not None:
                raise EdgeSpeechError(f"{path}: {system}: {timeline.failure}")
            yield path, timeline
    finally:
        recogniser.close()


def as_text(path: Path, timeline: Timeline) -> str:
    """The file's name, the transcript, and the words' times in seconds where the recogniser knows them."""
    final = timeline.last(EventKind.FINAL)
    words = final.event.words if final is not None else ()
    lines = [f"{path}\t{timeline.text}"]
    lines += [f"  {word.start_s:7.2f} {word.end_s:7.2f}  {word.text}" for word in words]
    return "\n".join(lines)


def as_dict(path: Path, timeline: Timeline) -> dict[str, Any]:
    """The same with every event, for machines. Times in seconds of audio time."""
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

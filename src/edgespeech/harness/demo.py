"""Live transcription on a terminal: audio is fed in real time, and events are displayed as they arrive.

This is a demonstration, not a measurement: times are wall-clock times and depend on other load of the machine.
Measurements use `edgespeech.harness.runner`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgespeech.audio.io import read_audio
from edgespeech.contracts import SAMPLE_RATE, EventKind, Recogniser, Request, Samples
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.harness.runner import chunks_of
from edgespeech.metrics.wer import count_errors, total
from edgespeech.text.normalise import normalisers

NORMALISER = "whisper-en"


@dataclass(frozen=True, slots=True)
class Moment:
    """The state to display after one chunk.

    Attributes:
        t_s: seconds since the utterance began.
        text: the hypothesis so far.
        endpoint_s: time of the end-point; None before.
        final_s: time of the last final result; None before.
    """

    t_s: float
    text: str
    endpoint_s: float | None = None
    final_s: float | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock with a sleep function; tests use one that does not wait."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


def pick(manifest: Manifest, seconds: float) -> list[Utterance]:
    """Utterances from the manifest's start, as many as fit into this duration; at least one."""
    chosen: list[Utterance] = []
    for utterance in manifest.utterances:
        if chosen and sum(one.duration for one in chosen) + utterance.duration > seconds:
            break
        chosen.append(utterance)
    return chosen


def listen(
    recogniser: Recogniser, samples: Samples, request: Request, *, chunk_s: float, clock: Clock
) -> Iterator[Moment]:
    """Feed one utterance in real time.

    Args:
        recogniser: loaded.
        samples: with shape `(N,)`, 16 kHz.
        request: of the utterance.
        chunk_s: seconds of audio a chunk.
        clock: real, or a test's.

    Yields:
        The state after every chunk, and after the end of the audio.
    """
    stream = recogniser.open(request)
    start, heard, settled = clock.now(), 0, ""
    now = Moment(0.0, "")
    try:
        for chunk in [*chunks_of(samples, chunk_s), None]:
            if chunk is not None:
                heard += len(chunk)
            clock.wait(max(0.0, start + heard / SAMPLE_RATE - clock.now()))
            events = stream.finish() if chunk is None else stream.accept(chunk)
            t_s = clock.now() - start
            text, endpoint_s, final_s = now.text, now.endpoint_s, now.final_s
            for event in events:
                if event.kind in (EventKind.PARTIAL, EventKind.SPECULATIVE, EventKind.FINAL):
                    text = f"{settled} {event.text}".strip()
                if event.kind is EventKind.SETTLED:
                    settled = f"{settled} {event.text}".strip()
                if event.kind is EventKind.ENDPOINT and endpoint_s is None:
                    endpoint_s = t_s
                if event.kind is EventKind.FINAL and (final_s is None or text != now.text):
                    final_s = t_s
            now = Moment(t_s, text, endpoint_s, final_s)
            yield now
    finally:
        stream.close()


def show(
    recogniser: Recogniser,
    manifest: Manifest,
    *,
    seconds: float,
    console: Console,
    clock: Clock | None = None,
) -> None:
    """Transcribe utterances one after the other, then print word errors and waiting times.

    Args:
        recogniser: not loaded yet.
        manifest: its first utterances are played.
        seconds: approximate duration of the audio.
        console: for the output.
        clock: for tests; None: the real one.

    Raises:
        EdgeSpeechError: audio cannot be read, or the recogniser cannot be loaded.
    """
    clock = clock or Clock()
    chosen = pick(manifest, seconds)
    with console.status(f"loading {recogniser.name}"):
        info = recogniser.load()
    audio_s = sum(utterance.duration for utterance in chosen)
    console.print(
        f"[bold]{info.name}[/]: {info.model_bytes / 1e6:.1f} MB on disk. Recordings of "
        f"{manifest.name}, {audio_s:.0f} s, at the speed of speech.\n"
    )
    words = normalisers()[NORMALISER]
    results: list[tuple[Utterance, Moment]] = []
    for utterance in chosen:
        samples = read_audio(
            manifest.audio_path(utterance), offset=utterance.offset, duration=utterance.duration
        )
        request = Request(utterance_id=utterance.id, language=utterance.lang, context=utterance.context)
        last = Moment(0.0, "")
        with Live(console=console, transient=True, refresh_per_second=20) as live:
            for last in listen(recogniser, samples, request, chunk_s=info.chunk_s, clock=clock):
                live.update(_picture(utterance, last))
        errors = count_errors([words(utterance.text)], [words(last.text)])[0].errors
        console.print(_line(utterance, last, errors))
        results.append((utterance, last))
    console.print(_sum(results))


def _picture(utterance: Utterance, now: Moment) -> Group:
    """The display of an utterance while it is played."""
    position = min(1.0, now.t_s / utterance.duration)
    bar = Text("━" * round(40 * position), style="cyan") + Text(
        "━" * (40 - round(40 * position)), style="dim"
    )
    head = Text.assemble(
        f"{now.t_s:5.2f} s ", bar, ("  end-point" if now.endpoint_s is not None else "", "yellow")
    )
    return Group(head, Text(f"        {now.text}", style="bold" if now.final_s is not None else "italic"))


def _line(utterance: Utterance, last: Moment, errors: int) -> Text:
    """The line of a finished utterance: its transcript, its errors and its waiting time."""
    wait = "" if last.final_s is None else _wait(utterance, last.final_s)
    marks = (" ✓ ", "green") if errors == 0 else (f" {errors} wrong: {utterance.text!r}", "red")
    return Text.assemble((f"{wait:>9} ", "dim"), last.text or "(nothing)", marks)


def _wait(utterance: Utterance, final_s: float) -> str:
    return "" if utterance.eos_s is None else f"+{final_s - utterance.eos_s:.2f} s"


def _sum(results: Sequence[tuple[Utterance, Moment]]) -> Table:
    """Errors over all utterances, and the median waiting time."""
    words = normalisers()[NORMALISER]
    counts = total(
        count_errors([words(one.text) for one, _ in results], [words(last.text) for _, last in results])
    )
    waits = sorted(
        last.final_s - one.eos_s
        for one, last in results
        if last.final_s is not None and one.eos_s is not None
    )
    table = Table(show_header=False, box=None, padding=(0, 2), title_justify="left")
    table.add_row("words wrong", f"{counts.errors} of {counts.ref_words}")
    table.add_row(
        "recordings without an error",
        f"{sum(words(o.text) == words(m.text) for o, m in results)} of {len(results)}",
    )
    if waits:
        table.add_row("wait after the end of speech, median", f"{waits[(len(waits) - 1) // 2]:.2f} s")
    return table

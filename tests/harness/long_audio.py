"""Long audio through every streaming system: what a minute costs at the start and at the end, and the memory it takes.

`python tests/harness/long_audio.py --minutes 60 edge-packed --publish` adds a record to `results/long_audio/` and
renders the table of all of them into `docs/input.md`. Each system runs in a process of its own, on one thread, with
the embedded corpus played again and again, half a second of silence behind each utterance. Times are of the processor
(user and system, all threads), so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it imports what tests do

import numpy as np
import psutil

from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Recogniser,
    RemoteTrace,
    Request,
    Samples,
    Stream,
)
from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.corpora.fetch import manifest_of
from edgespeech.harness.boundary import weight_of
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.records.trace import result_of
from edgespeech.report.side_records import record_head, side_records, write_side_record
from edgespeech.report.text import markdown_table
from helpers_page import between_marks

FORMAT = "edgespeech-long-audio-1"
CORPUS, PAUSE_S = "assistant_mini", 0.5
PAGE = project_root() / "docs" / "input.md"
_MIB = 1 << 20


class Watched(Stream):
    """A stream, with the processor's time of every call, and the resident memory at the end of every minute."""

    def __init__(self, stream: Stream, resident: Callable[[], int]) -> None:
        self._stream, self._resident = stream, resident
        self._samples = 0
        self.compute_s: list[float] = []
        self.rss: list[int] = []

    def accept(self, samples: Samples) -> Sequence[Event]:
        """As the stream."""
        start = time.process_time()
        events = self._stream.accept(samples)
        self.compute_s.append(time.process_time() - start)
        before, self._samples = self._samples, self._samples + len(samples)
        if self._samples // (60 * SAMPLE_RATE) > before // (60 * SAMPLE_RATE):
            self.rss.append(self._resident())
        return events

    def finish(self) -> Sequence[Event]:
        """As the stream."""
        return self._stream.finish()

    def remote(self) -> RemoteTrace | None:
        """As the stream."""
        return self._stream.remote()

    def state_bytes(self) -> int | None:
        """As the stream."""
        return self._stream.state_bytes()

    def close(self) -> None:
        """As the stream."""
        self._stream.close()


class Opens:
    """A recogniser, for `run_utterance`, whose one stream is `Watched`."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self.watched: Watched | None = None

    def open(self, request: Request) -> Stream:
        """Open the stream."""
        stream = self._recogniser.open(request)
        self.watched = Watched(stream, lambda: psutil.Process().memory_info().rss)
        return self.watched


def speech(minutes: int) -> Samples:
    """So much of the embedded corpus, again and again."""
    samples = np.zeros(minutes * 60 * SAMPLE_RATE, np.float32)
    manifest = manifest_of(CORPUS)
    again = cycle(manifest.utterances)
    at = 0
    while at < len(samples):
        one = manifest.read(next(again))
        samples[at : at + len(one)] = one[: len(samples) - at]
        at += len(one) + round(PAUSE_S * SAMPLE_RATE)
    return samples


def measure(name: str, minutes: int, options: dict[str, Any]) -> dict[str, Any]:
    """The figures of one system; in the process that calls it."""
    recogniser = find_recogniser(name, **options)
    if (missing := recogniser.missing()) is not None:
        raise SystemExit(f"{name}: {missing}")
    samples = speech(minutes)
    info = recogniser.load()
    opens = Opens(recogniser)
    trace = run_utterance(opens, samples, Request(utterance_id="long"), chunk_s=info.chunk_s)  # type: ignore[arg-type]  # it only opens
    recogniser.close()
    watched = opens.watched
    assert watched is not None
    events = [event for _, event in trace.events]
    result = result_of(events)
    per_minute = round(60 / info.chunk_s)
    return {
        "system": name,
        "minutes": minutes,
        "failure": trace.failure,
        "chunk_s": info.chunk_s,
        "minute_compute_s": [
            round(sum(watched.compute_s[at : at + per_minute]), 4)
            for at in range(0, len(watched.compute_s), per_minute)
        ],
        "chunk_max_s": round(max(watched.compute_s), 4),
        "rss_bytes": watched.rss,
        "audio_bytes": samples.nbytes,
        "events": len(events),
        "event_weight": weight_of(events),
        "settled": sum(event.kind is EventKind.SETTLED for event in events),
        "words": 0 if result is None else len(result.text.split()),
        "model_sha256": dict(info.model_sha256),
    }


def _into(queue: multiprocessing.Queue[dict[str, Any]], *given: Any) -> None:
    queue.put(measure(*given))


def run(names: Sequence[str], minutes: int, options: dict[str, Any]) -> dict[str, Any]:
    """The record: every system after the other, each in a process of its own."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    head = record_head(FORMAT)
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("spawn")
    found = []
    for name in names:
        queue = context.Queue()
        process = context.Process(target=_into, args=(queue, name, minutes, options))
        process.start()
        found.append(queue.get())
        process.join()
    return {
        **head,
        "load_before": round(load, 1),
        "corpus": CORPUS,
        "pause_s": PAUSE_S,
        "systems": found,
    }


def published() -> list[dict[str, Any]]:
    """The records, oldest first."""
    return side_records("long_audio")


def table(records: Sequence[dict[str, Any]]) -> str:
    """Of every system the newest measurement of the longest audio, as Markdown."""
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        for one in record["systems"]:
            if one["system"] not in newest or one["minutes"] >= newest[one["system"]]["minutes"]:
                newest[one["system"]] = {**one, "commit": record["commit"][:12]}
    rows = [_row(one) for _, one in sorted(newest.items())]
    head = (
        "system",
        "minutes",
        "a chunk in the first minute, ms",
        "in the last",
        "longest",
        "second half / first half",
        "memory after the first minute, MiB",
        "after the last",
        "words",
        "commit",
    )
    return markdown_table(head, rows)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    minutes = one["minute_compute_s"]
    chunks = 60 / one["chunk_s"]
    half = len(minutes) // 2
    rss = [round((taken - one["audio_bytes"]) / _MIB) for taken in one["rss_bytes"]]
    if one["failure"] is not None:
        return (one["system"], str(one["minutes"]), f"failed: {one['failure']}", *[""] * 6, one["commit"])
    return (
        one["system"],
        str(one["minutes"]),
        f"{1e3 * minutes[0] / chunks:.2f}",
        f"{1e3 * minutes[one['minutes'] - 1] / chunks:.2f}",
        f"{1e3 * one['chunk_max_s']:.0f}",
        f"{statistics.mean(minutes[half:]) / statistics.mean(minutes[:half]):.2f}",
        str(rss[0]),
        str(rss[-1]),
        f"{one['words']:,}",
        one["commit"],
    )


def rendered(page: str, records: Sequence[dict[str, Any]]) -> str:
    """The page with the table between its marks."""
    return between_marks(page, "long audio", table(records))


def main() -> int:
    """Measure, and publish where asked to; the exit status tells whether every system got to the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--options", type=json.loads, default={}, help="of the recognisers, JSON")
    parser.add_argument(
        "--publish", action="store_true", help="add a record to results/, and render the page"
    )
    arguments = parser.parse_args()
    record = run(arguments.systems, arguments.minutes, arguments.options)
    print(table([record]))
    if arguments.publish:
        if record["systems"]:
            write_side_record("long_audio", record)
        write_atomic(PAGE, rendered(PAGE.read_text(encoding="utf-8"), published()))
    return int(any(one["failure"] is not None for one in record["systems"]))


if __name__ == "__main__":
    sys.exit(main())

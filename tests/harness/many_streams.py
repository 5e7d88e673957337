"""Many real-time streams of the packed model on one core, in virtual real time: latency against their number.

`python tests/harness/many_streams.py --publish` adds a record to `results/streams/` and renders the table of the newest
one into `docs/edge-format.md`; run it on an otherwise idle machine. Streams hear the embedded corpus, each from another
place on, and deliver a chunk every 0.12 s, spread evenly over a chunk. One thread makes features and searches with up
to eight streams that wait together (`edgespeech.packed.pool`); what that costs moves the clock on. The latency of a
chunk is from its arrival to the end of its search; it is late where that takes longer than a chunk lasts. Where other
work runs on the machine, `--processor-time` counts the processor's time of this process alone; the record says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it imports what tests do

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.packed.pool import MOST_TOGETHER, PooledStream, StreamPool
from edgespeech.packed.runtime import PackedModel
from edgespeech.report.side_records import record_head, side_records, write_side_record
from edgespeech.report.text import markdown_table
from edgespeech.search.settings import BEAM, CHUNK_S
from edgespeech.systems.edge_packed import EdgePacked
from harness.long_audio import CORPUS, speech
from helpers_page import between_marks

FORMAT = "edgespeech-streams-1"
PAGE = project_root() / "docs" / "edge-format.md"
COUNTS = (1, 50, 100, 150, 200, 250, 300, 350, 400, 500, 600, 800)
SECONDS = 12.0
APART_S = 1.7
"""Between the places from which two streams hear the corpus."""


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def latencies(
    model: PackedModel, sounds: Sequence[Samples], beam: int, clock: Callable[[], float]
) -> tuple[list[float], float]:
    """Seconds from the arrival of each chunk to the end of its search, in the order in which they end; and the seconds
    that the core was busy.

    Args:
        model: open.
        sounds: of each stream, equally long, a multiple of a chunk.
        beam: of the search.
        clock: in seconds.
    """
    pool = StreamPool(model, beam)
    opened = [pool.open() for _ in sounds]
    size = round(CHUNK_S * SAMPLE_RATE)
    arrivals = sorted(
        ((chunk + n / len(sounds)) * CHUNK_S, n, chunk)
        for n, samples in enumerate(sounds)
        for chunk in range(len(samples) // size)
    )
    waiting: dict[PooledStream, deque[float]] = {stream: deque() for stream in opened}
    found: list[float] = []
    now, busy, at, left = 0.0, 0.0, 0, len(arrivals)
    while len(found) < len(arrivals):
        if left == len(arrivals) - at:  # nobody waits
            now = max(now, arrivals[at][0])
        start = clock()
        while at < len(arrivals) and arrivals[at][0] <= now:
            time_s, n, chunk = arrivals[at]
            opened[n].accept(sounds[n][chunk * size : (chunk + 1) * size])
            waiting[opened[n]].append(time_s)
            at += 1
        advanced = pool.advance()
        taken = clock() - start
        now, busy = now + taken, busy + taken
        found += [now - waiting[stream].popleft() for stream in advanced]
        left -= len(advanced)
    for stream in opened:
        stream.close()
    return found, busy


def measure(model: PackedModel, count: int, beam: int, seconds: float, clock: str) -> dict[str, Any]:
    """The row of so many streams, each of so many seconds."""
    size = round(seconds / CHUNK_S) * round(CHUNK_S * SAMPLE_RATE)
    audio = speech(1 + int((seconds + APART_S * min(count, 60)) / 60))
    starts = [round(n % 60 * APART_S * SAMPLE_RATE) for n in range(count)]
    found, busy = latencies(model, [audio[start : start + size] for start in starts], beam, CLOCKS[clock])
    p50, p99 = (float(np.quantile(found, q)) for q in (0.5, 0.99))
    return {
        "streams": count,
        "chunks": len(found),
        "p50_s": round(p50, 5),
        "p99_s": round(p99, 5),
        "max_s": round(max(found), 5),
        "late": sum(latency > CHUNK_S for latency in found),
        "busy": round(busy / seconds, 4),
    }


def run(counts: Sequence[int], beam: int, seconds: float, clock: str) -> dict[str, Any]:
    """The record: one number of streams after the other, until twice most chunks are late."""
    head = record_head(FORMAT)
    load = os.getloadavg()[0]
    path = EdgePacked().path()
    rows: list[dict[str, Any]] = []
    with PackedModel(path) as model:
        measure(model, MOST_TOGETHER, beam, 10 * CHUNK_S, clock)  # warm
        for count in counts:
            rows.append(measure(model, count, beam, seconds, clock))
            print(table({"rows": rows[-1:]}).splitlines()[-1], flush=True)
            if all(row["late"] > row["chunks"] / 2 for row in rows[-2:]) and len(rows) > 1:
                break
        isa = model.isa
    return {
        **head,
        "load_before": round(load, 1),
        "corpus": CORPUS,
        "beam": beam,
        "chunk_s": CHUNK_S,
        "seconds": seconds,
        "clock": clock,
        "isa": isa,
        "model_sha256": sha256_file(path),
        "rows": rows,
    }


def table(record: dict[str, Any]) -> str:
    """The curve, as Markdown."""
    head = ("streams", "P50, ms", "P99, ms", "longest, ms", "late chunks", "core busy, share of real time")
    rows = [
        (
            str(row["streams"]),
            *(f"{1e3 * row[name]:.1f}" for name in ("p50_s", "p99_s", "max_s")),
            f"{row['late']:,} of {row['chunks']:,}",
            f"{row['busy']:.2f}",
        )
        for row in record["rows"]
    ]
    return markdown_table(head, rows)


def most(record: dict[str, Any]) -> int:
    """The most streams up to which P99 is below a chunk, with all smaller numbers too; 0 where there are none."""
    best = 0
    for row in record["rows"]:
        if row["p99_s"] >= record["chunk_s"]:
            break
        best = row["streams"]
    return best


def told(records: Sequence[dict[str, Any]]) -> str:
    """The newest record as text."""
    if not records:
        return "Not measured yet.\n"
    one = records[-1]
    return (
        f"Up to {most(one)} streams have P99 below a chunk of {one['chunk_s']:g} s. {one['processor']}, {one['isa']}, "
        f"one thread, beam of {one['beam']} and language models, {one['seconds']:g} s of speech a stream, "
        f"{one['clock']} time; load "
        f"{one['load_before']} before; {one['at'][:10]}, commit {one['commit'][:12]}.\n\n{table(one)}"
    )


def published() -> list[dict[str, Any]]:
    """The records, oldest first."""
    return side_records("streams")


def rendered(page: str, records: Sequence[dict[str, Any]]) -> str:
    """The page with the table between its marks."""
    return between_marks(page, "many streams", told(records))


def main() -> None:
    """Measure, and publish where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--beam", type=int, default=BEAM)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of audio of each stream")
    parser.add_argument("--processor-time", action="store_true", help="instead of the time that passes")
    parser.add_argument(
        "--publish", action="store_true", help="add a record to results/, and render the page"
    )
    arguments = parser.parse_args()
    clock = "processor" if arguments.processor_time else "wall"
    record = run(arguments.streams, arguments.beam, arguments.seconds, clock)
    print(told([record]))
    if arguments.publish:
        write_side_record("streams", record)
        write_atomic(PAGE, rendered(PAGE.read_text(encoding="utf-8"), published()))


if __name__ == "__main__":
    main()

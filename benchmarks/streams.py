"""Many real-time streams of the shipped model on one core, in virtual real time.

Every stream delivers a chunk every 0.12 s, its beginning spread evenly over a chunk. The core takes up to eight streams
that wait together; what that costs moves the clock on. A chunk is late when it is ready after the stream's next one.
"""

from __future__ import annotations

from time import process_time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import noise
from benchmarks.engine import shipped
from edgespeech.contracts import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from edgespeech.packed.pool import PooledStream
    from edgespeech.packed.runtime import PackedModel

CHUNK_S = 0.12
CHUNKS = 15
BEAMS = (1, 16)
STREAMS = (1, 8, 50, 100, 200, 300, 400)


class Streams:
    params = (BEAMS, STREAMS)
    param_names = ("beam", "streams")
    timeout = 300

    def setup(self, beam: int, streams: int) -> None:
        from edgespeech.packed.runtime import PackedModel

        self.model = PackedModel(shipped())
        self.samples = noise(CHUNKS * CHUNK_S)

    def track_p99_of_chunk_ms(self, beam: int, streams: int) -> float:
        """From the arrival of a chunk to its hypothesis; in real time below 120."""
        return 1000 * float(np.quantile(latencies(self.model, self.samples, beam, streams), 0.99))

    track_p99_of_chunk_ms.unit = "ms"  # type: ignore[attr-defined]  # asv reads it from the function


def latencies(model: PackedModel, samples: Samples, beam: int, streams: int) -> list[float]:
    """Seconds from the arrival of each chunk to the end of its search, features included."""
    from edgespeech.packed.pool import StreamPool

    pool = StreamPool(model, beam)
    opened = [pool.open() for _ in range(streams)]
    size = round(CHUNK_S * SAMPLE_RATE)
    arrivals = sorted(
        (chunk * CHUNK_S + n * CHUNK_S / streams, n, chunk) for n in range(streams) for chunk in range(CHUNKS)
    )
    arrived: dict[PooledStream, list[float]] = {stream: [] for stream in opened}
    found: list[float] = []
    now, at = 0.0, 0
    while len(found) < len(arrivals):
        if not any(arrived.values()):
            now = max(now, arrivals[at][0])
        start = process_time()
        while at < len(arrivals) and arrivals[at][0] <= now:
            time_s, n, chunk = arrivals[at]
            opened[n].accept(samples[chunk * size : (chunk + 1) * size])
            arrived[opened[n]].append(time_s)
            at += 1
        advanced = pool.advance()
        now += process_time() - start
        found += [now - arrived[stream].pop(0) for stream in advanced]
    for stream in opened:
        stream.close()
    return found

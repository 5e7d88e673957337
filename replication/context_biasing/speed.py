"""What a list of phrases costs: computation of a chunk, time to build it, bytes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import closing
from itertools import islice, product
from time import perf_counter
from typing import Any

import numpy as np
from replication.context_biasing.lists import Case, names

from edgespeech.audio.features import Features
from edgespeech.biasing.phrases import PhraseBias
from edgespeech.corpora.utterances import utterances_of
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio
from edgespeech.packed.runtime import PackedModel
from edgespeech.systems.edge_packed import EdgePacked

CHUNK = 12
"""Feature frames of a chunk: 120 ms."""


def phrases_of(count: int) -> tuple[str, ...]:
    """So many different phrases: names, then pairs of them."""
    known = names()
    longer = (f"{first} {second}" for first, second in product(known, known))
    return (*known[:count], *islice(longer, max(0, count - len(known))))


def costs(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Rows of every cost."""
    how = config["speed"]
    heard = utterances_of({how["corpus"]: "basic"}, seed=seed, count=how["utterances"])
    features = [Case(spoken, "", ()).features for spoken in heard]
    with PackedModel(EdgePacked().path()) as model:
        for count in how["counts"]:
            bias = PhraseBias(model.pieces, phrases_of(count))
            yield {
                "claim": "context_biasing.bytes",
                "detail": f"{count:,} phrases",
                "measured": bias.nbytes,
                "n": 1,
            }
            claim = "chunk" if count == min(how["counts"]) else "chunk_long"
            yield {
                "claim": f"context_biasing.{claim}",
                "detail": f"{count:,} phrases, beam {config['beam']}",
                **added(model, features, bias, config["beam"], how["repeats"], seed),
            }
        yield {
            "claim": "context_biasing.build",
            "detail": f"{how['built']:,} phrases, median",
            **built(model, how["built"], how["builds"], seed),
        }


def added(
    model: PackedModel, features: list[Features], bias: PhraseBias, beam: int, repeats: int, seed: int
) -> Row:
    """The relative increase of an utterance's computation, as fields of a row; timed in turn, the least counts."""
    plain, biased = [], []
    for one in features:
        taken = [(timed(model, one, None, beam), timed(model, one, bias, beam)) for _ in range(repeats)]
        plain.append(min(time for time, _ in taken))
        biased.append(min(time for _, time in taken))
    row: Row = {"measured": sum(biased) / sum(plain) - 1, "n": len(features)}
    if len(features) > 1:
        interval = bootstrap_ratio(biased, plain, [None] * len(plain), seed=seed)
        row |= {"low": interval.low - 1, "high": interval.high - 1, "resampled": (f"{interval.method}s",)}
    return row


def timed(model: PackedModel, features: Features, bias: PhraseBias | None, beam: int) -> float:
    """Seconds of an utterance in chunks."""
    with closing(model.open(beam, bias)) as stream:
        start = perf_counter()
        for at in range(0, len(features), CHUNK):
            stream.accept(np.ascontiguousarray(features[at : at + CHUNK]))
        return perf_counter() - start


def built(model: PackedModel, count: int, builds: int, seed: int) -> Row:
    """Milliseconds to build a list, as fields of a row."""
    phrases = phrases_of(count)
    times = []
    for _ in range(builds):
        start = perf_counter()
        PhraseBias(model.pieces, phrases)
        times.append(1000 * (perf_counter() - start))
    interval = bootstrap_quantile([[time] for time in times], 0.5, [None] * builds, seed=seed)
    return {"measured": statistics.median(times), "n": builds, **interval.as_row()}

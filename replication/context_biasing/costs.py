"""What a list of phrases costs: computation of a chunk, time to build it, bytes; a step for an idle machine."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, get_args

import numpy as np
import psutil
import torch
from replication.context_biasing.lists import Case, names

from edgespeech.arms.configuration import compression_base
from edgespeech.audio.features import Features
from edgespeech.biasing.phrases import PhraseBias
from edgespeech.biasing.pieces import phrase_labels
from edgespeech.core.files import write_atomic
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio
from edgespeech.model.biasing import MAX_PIECES
from edgespeech.model.checkpoint import Trained, load_model, model_files
from edgespeech.model.config import BiasingConfig, Queries
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel, PackedStream
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, SkippedError, folder_of, make
from edgespeech.synthesis.step import speech_steps
from edgespeech.systems.edge_packed import EdgePacked

CHUNK = 12
"""Feature frames of a chunk: 120 ms."""
BUSY = 0.3
"""Cores that others use: with more, no times are taken."""
_WATCHED_S = 2.0
_FILE = "costs.json"
_FAINT = 1e-3
"""Deviation of the last weights of attention that is timed untrained: it changes no words, and costs as any other."""
Opened = Callable[[], PackedStream]


def costs_step(config: Mapping[str, Any]) -> Step:
    """The step that takes the times."""
    base = compression_base()
    return Step(
        rule="list_costs",
        name=f"context_biasing/{config['costs']['utterances']}",
        function="replication.context_biasing.costs:take",
        given={"costs": dict(config["costs"]), "beam": config["beam"], "seed": config["seed"]},
        needs=speech_steps([config["costs"]["corpus"]]),
        inputs=(EdgePacked().path(), *(base / file for file in model_files(base))),
        code=("replication.context_biasing.costs",),
        without=("core", "records", "corpora"),
        resources=Resources(alone=True),
    )


def costs_of(step: Step) -> list[Row]:
    """The rows of the costs, which are taken now unless the pipeline has taken them.

    Raises:
        EdgeSpeechError: the machine is busy.
    """
    if (reason := make(step).skipped) is not None:
        raise EdgeSpeechError(reason)
    rows: list[Row] = json.loads((folder_of(step) / _FILE).read_text(encoding="utf-8"))
    return rows


def take(job: Job) -> list[Path]:
    """Take the times.

    Raises:
        SkippedError: the machine is busy.
    """
    if (used := others_use()) > BUSY:
        raise SkippedError(f"the machine is busy: others use {used:.1f} cores, expected at most {BUSY}")
    torch.set_num_threads(1)
    path = job.folder / _FILE
    write_atomic(path, json.dumps(list(measured(job.given)), indent=1) + "\n")
    return [path]


def others_use() -> float:
    """How many cores other processes use, over two seconds in which this one does nothing."""
    share: float = psutil.cpu_percent(interval=_WATCHED_S) / 100
    return share * (os.cpu_count() or 1)


def listed(count: int) -> tuple[str, ...]:
    """So many different phrases: names, then pairs of them."""
    known = names()
    longer = (f"{first} {second}" for first, second in product(known, known))
    return (*known[:count], *islice(longer, max(0, count - len(known))))


def measured(given: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of every cost.

    Raises:
        EdgeSpeechError: the speech is not available.
    """
    how, beam, seed = given["costs"], given["beam"], given["seed"]
    heard = utterances_of({how["corpus"]: "basic"}, seed=seed, count=how["utterances"])
    features = [Case(spoken, "", ()).features for spoken in heard]
    shortest = min(how["counts"])
    with PackedModel(EdgePacked().path()) as model:
        for count in how["counts"]:
            bias, detail = PhraseBias(model.pieces, listed(count)), f"{count:,} phrases"
            yield {
                "claim": f"context_biasing.{'chunk' if count == shortest else 'chunk_long'}",
                **added(
                    lambda: model.open(beam), lambda bias=bias: model.open(beam, bias),  # type: ignore[misc]
                    features, f"{detail}, edge-packed, beam {beam}", how["repeats"], seed,
                ),
            }  # fmt: skip
        small = listed(how["built"])
        for kind, phrases in (("small letters", small), ("capitals", tuple(map(str.title, small)))):
            yield {
                "claim": "context_biasing.build",
                "detail": f"{len(phrases):,} phrases in {kind}, median",
                **built(model.pieces, phrases, how["builds"], seed),
            }
    yield from attention_costs(how, beam, features, seed)


def attention_costs(
    how: Mapping[str, Any], beam: int, features: Sequence[Features], seed: int
) -> Iterator[Row]:
    """What attention adds to a chunk. Its time depends on shapes, not on weights, so it need not be trained."""
    base = load_model(compression_base())
    with TemporaryDirectory() as scratch:
        for queries in get_args(Queries):
            path = Path(scratch) / f"{queries}.edge"
            made = with_attention(base, BiasingConfig(queries=queries))
            pack(made, Layout(matrices=Encoding(bits=8)), path)
            with PackedModel(path) as model:
                phrases = phrase_labels(listed(how["attended"]), model.pieces, MAX_PIECES)
                context = model.attend(phrases)
                detail = f"{len(phrases)} phrases, {queries.replace('_', ' and ')} queries, 8 bits"
                yield {
                    "claim": "context_biasing.attention_chunk",
                    **added(
                        lambda: model.open(beam), lambda: model.open(beam, context=context),  # noqa: B023  # called here
                        features, detail, how["repeats"], seed,
                    ),
                }  # fmt: skip


def with_attention(base: Trained, config: BiasingConfig) -> Trained:
    """A model with attention that is not trained, and so faint that the model's words stay what they are."""
    torch.manual_seed(0)
    model = Transducer(replace(base.model.config, biasing=config))
    model.load_state_dict(model.state_dict() | base.model.state_dict())
    assert model.biasing is not None
    with torch.no_grad():
        for part in (model.biasing.audio, model.biasing.label):
            if part is not None:
                part.out.weight.normal_(std=_FAINT)
    return replace(base, model=model.eval().requires_grad_(False))


def added(
    plain: Opened, other: Opened, features: Sequence[Features], detail: str, repeats: int, seed: int
) -> Row:
    """The relative increase of the computation of a chunk, as fields of a row; timed in turn, the least counts."""
    before, after, chunks = [], [], 0
    for one in features:
        taken = [(timed(plain, one), timed(other, one)) for _ in range(repeats)]
        before.append(min(time for time, _ in taken))
        after.append(min(time for _, time in taken))
        chunks += -(-len(one) // CHUNK)
    ms = [1000 * sum(times) / chunks for times in (before, after)]
    row: Row = {"measured": sum(after) / sum(before) - 1, "n": len(before)}
    if len(before) > 1:
        interval = bootstrap_ratio(after, before, [None] * len(before), seed=seed)
        row |= {"low": interval.low - 1, "high": interval.high - 1, "resampled": [f"{interval.method}s"]}
    return {**row, "detail": f"{detail}; {ms[0]:.2f} ms a chunk without, {ms[1]:.2f} ms with"}


def timed(opened: Opened, features: Features) -> float:
    """Seconds of an utterance in chunks."""
    with closing(opened()) as stream:
        start = perf_counter()
        for at in range(0, len(features), CHUNK):
            stream.accept(np.ascontiguousarray(features[at : at + CHUNK]))
        return perf_counter() - start


def sizes(config: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of the automata's bytes, which need no idle machine."""
    with PackedModel(EdgePacked().path()) as model:
        for count in config["costs"]["counts"]:
            size = PhraseBias(model.pieces, listed(count)).nbytes
            yield {"claim": "context_biasing.bytes", "detail": f"{count:,} phrases", "measured": size, "n": 1}


def built(pieces: Sequence[str], phrases: Sequence[str], builds: int, seed: int) -> Row:
    """Milliseconds to build a list from its texts, as fields of a row."""
    times = []
    for _ in range(builds):
        start = perf_counter()
        PhraseBias(pieces, phrases)
        times.append(1000 * (perf_counter() - start))
    interval = bootstrap_quantile([[time] for time in times], 0.5, [None] * builds, seed=seed)
    row = interval.as_row()
    row["resampled"] = ["builds"]
    return {"measured": statistics.median(times), "n": builds, **row}

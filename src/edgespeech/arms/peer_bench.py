"""Benchmark of peers: recognisers in separate processes, over the same utterances in turns: chunk times, words, memory.

A peer is a script with one argument, JSON (its *spec*), that prints a line of JSON after loading, and then a line for
every line that it reads: `{"do": "run", "file": ..., "cold": ...}` is answered with
`text`, `labels` (how many) and `seconds` (of each chunk), `{"do": "memory"}` with `peak_bytes`. Scripts may define
further tasks; see `edgespeech.arms.peer_worker`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.audio.features import Features, StreamingLogMel
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.statistics import quantile
from edgespeech.metrics.word_errors import WordErrors
from edgespeech.search.partials import TAIL_S
from edgespeech.search.settings import CHUNK_S

Answer = dict[str, Any]


WORKER = Path(__file__).with_name("peer_worker.py")
"""The script of all kinds of peers; it is standalone, so that an interpreter without this package can run it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One process.

    Attributes:
        name: in the results.
        python: its interpreter.
        spec: the script's argument.
        script: run by it.
    """

    name: str
    python: str
    spec: Mapping[str, Any]
    script: Path = WORKER


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An utterance prepared for peers.

    Attributes:
        corpus: its corpus.
        text: its transcript.
        speaker: its speaker.
        file: see `write_chunks`.
        features: with shape `(F, 80)`, including the tail of silence.
        duration_s: of the audio, without the tail.
    """

    corpus: str
    text: str
    speaker: str | None
    file: Path
    features: Features
    duration_s: float


def prepared(utterances: Iterable[Spoken], folder: Path) -> Iterator[Prepared]:
    """Prepare utterances, with their files in a folder."""
    for number, one in enumerate(utterances):
        samples = one.samples()
        file = folder / f"{one.corpus}-{number}.npz"
        yield Prepared(
            corpus=one.corpus,
            text=one.text,
            speaker=one.speaker,
            file=file,
            features=write_chunks(samples, file),
            duration_s=len(samples) / SAMPLE_RATE,
        )


def write_chunks(
    samples: Samples, file: Path, tail_s: float = TAIL_S, samples_tail_s: float = TAIL_S + 2 * CHUNK_S
) -> Features:
    """Write an utterance in chunks of `CHUNK_S`, with the tail of silence as the last one.

    Args:
        samples: 16 kHz, with shape `(N,)`.
        file: `.npz` with `samples` and `features`, and the sizes of chunks, `sample_chunks` and `feature_chunks`.
        tail_s: seconds of silence that follow, in the features.
        samples_tail_s: the same in the samples: longer, for recognisers that only run complete chunks.

    Returns:
        All features, with shape `(F, 80)`.
    """
    step = round(CHUNK_S * SAMPLE_RATE)
    silence = np.zeros(round(max(tail_s, samples_tail_s) * SAMPLE_RATE), np.float32)
    extractor = StreamingLogMel()
    pieces = [samples[at : at + step] for at in range(0, len(samples), step)]
    features = [extractor.accept(piece) for piece in pieces]
    tail = extractor.accept(silence[: round(tail_s * SAMPLE_RATE)])
    features.append(np.concatenate([tail, extractor.finish()]))
    pieces.append(silence[: round(samples_tail_s * SAMPLE_RATE)])
    whole = np.concatenate(features)
    np.savez(
        file,
        samples=np.concatenate(pieces),
        sample_chunks=[len(piece) for piece in pieces],
        features=whole,
        feature_chunks=[len(piece) for piece in features],
    )
    return whole


def longer(item: Prepared, tail_s: float) -> Prepared:
    """The same utterance with another tail of silence, in a second file."""
    with np.load(item.file) as stored:
        samples = stored["samples"][: round(item.duration_s * SAMPLE_RATE)]
    file = item.file.with_name(f"{item.file.stem}-longer.npz")
    return replace(item, file=file, features=write_chunks(samples, file, tail_s, tail_s))


def spread(spoken: Sequence[Prepared], count: int | None) -> Sequence[Prepared]:
    """A number of the utterances, evenly spaced; all for None or if there are fewer."""
    if count is None or count >= len(spoken):
        return spoken
    return [spoken[place * len(spoken) // count] for place in range(count)]


def bench_peers(
    peers: Sequence[Peer],
    *,
    warm: Sequence[Prepared],
    cold: Sequence[Prepared] = (),
    alone: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> dict[str, Answer]:
    """All peers over the same utterances, in turns, on one thread each.

    First all utterances warm, then memory is read, then cold, so that emptying the caches does not affect memory. The
    order of peers rotates with every utterance.

    Args:
        peers: any number, all in memory at the same time.
        warm: utterances to run without emptying the caches.
        cold: utterances to run with the caches emptied before each chunk.
        alone: further tasks at the end, by the peer's name.

    Returns:
        By name, a peer's message after loading, and lists of its answers: `warm`, `memory`, `cold`, `alone`; or
        `skipped`, why it could not start or stopped.
    """
    results: dict[str, Answer] = {}
    with ExitStack() as stack:
        workers: dict[str, _Worker] = {}
        for one in peers:
            try:
                worker = stack.enter_context(_Worker(one))
                results[one.name] = {**worker.answer(), "warm": [], "memory": [], "cold": [], "alone": []}
                workers[one.name] = worker
            except EdgeSpeechError as error:
                results[one.name] = {"skipped": str(error)}
        rounds = [("warm", {"do": "run", "file": str(item.file), "cold": False}) for item in warm]
        rounds.append(("memory", {"do": "memory"}))
        rounds += [("cold", {"do": "run", "file": str(item.file), "cold": True}) for item in cold]
        turns = [
            (name, key, task)
            for turn, (key, task) in enumerate(rounds)
            for name in [one.name for one in _rotated(peers, turn)]
        ]
        turns += [(name, "alone", dict(task)) for name, tasks in (alone or {}).items() for task in tasks]
        for name, key, task in turns:
            if name in workers:
                try:
                    results[name][key].append(workers[name].ask(task))
                except EdgeSpeechError as error:
                    results[name] = {"skipped": str(error)}
                    del workers[name]
    return results


def chunk_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Mean and P99 of the seconds of a chunk (`mean_s`, `p99_s`), and the number of chunks (`n`)."""
    seconds = [second for answer in answers for second in answer["seconds"]]
    return {"mean_s": statistics.fmean(seconds), "p99_s": quantile(seconds, 0.99), "n": len(seconds)}


def error_rates(
    spoken: Sequence[Prepared],
    answers: Sequence[Answer],
    reference: Sequence[Answer] | None,
    corpora: Mapping[str, str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Word error rates, and paired differences from a reference.

    Args:
        spoken: the utterances.
        answers: of a peer, for each.
        reference: of the reference, for each; None without one.
        corpora: by name the normaliser of each.
        seed: of the intervals.

    Returns:
        By corpus `wer`, `n` (utterances), and `difference` to the reference with its 95 % interval from `low` to
        `high`.
    """
    counter = WordErrors(spoken, corpora, seed)
    ours = counter.errors([answer["text"] for answer in answers])
    theirs = None if reference is None else counter.errors([answer["text"] for answer in reference])
    rates: dict[str, dict[str, float]] = {}
    for corpus in corpora:
        places = counter.places(corpus)
        if not sum(counter.words[place] for place in places):
            continue
        rate = counter.rate(ours, corpus)
        rates[corpus] = {"wer": rate["wer"], "n": rate["n"]}
        if theirs is not None and len(places) > 1:
            found = counter.compare([ours], [theirs], corpus)
            rates[corpus] |= {"difference": found.difference, "low": found.low, "high": found.high}
    return rates


def equal_share(answers: Sequence[Answer], others: Sequence[Answer]) -> float:
    """The share of utterances with the same words from two peers."""
    same = sum(bool(one["text"] == other["text"]) for one, other in zip(answers, others, strict=True))
    return same / len(answers)


class _Worker:
    """A peer's process."""

    def __init__(self, peer: Peer) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(
                [peer.python, str(peer.script), json.dumps(peer.spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
            )
        except OSError as error:
            self._errors.close()
            raise EdgeSpeechError(
                f"{peer.name}: {peer.python} could not be started: {error.strerror}"
            ) from error

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def ask(self, task: Mapping[str, Any]) -> Answer:
        """The answer to a task; see `answer`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `answer` raises the reason
            self._process.stdin.write(json.dumps(task) + "\n")
        return self.answer()

    def answer(self) -> Answer:
        """The next line.

        Raises:
            EdgeSpeechError: the process has ended; with the end of its output.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            raise EdgeSpeechError(said[-1] if said else f"its process ended with {code}")
        found: Answer = json.loads(line)
        return found


def _rotated(peers: Sequence[Peer], turn: int) -> Sequence[Peer]:
    start = turn % max(1, len(peers))
    return [*peers[start:], *peers[:start]]

"""Measuring packed models with the native engine: word errors, bytes, times, and the loss on tuning speech."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.arms.peer_bench import Peer, Prepared, bench_peers, chunk_figures, prepared, spread
from edgespeech.core.files import sha256_file
from edgespeech.corpora.utterances import Utterances, utterances_of
from edgespeech.harness.hear import hear
from edgespeech.lm.fusion import TENSORS
from edgespeech.metrics.word_errors import Compared, WordErrors
from edgespeech.packed.codes import Codes, dequantise
from edgespeech.packed.edge_file import Tensor, bits_per_weight, read_edge, sections
from edgespeech.packed.pack import EMBEDDING
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import words_of

EVICT = 300 << 20
"""Bytes read to empty the caches before a cold chunk: more than the caches of a large server."""


class Scorer(WordErrors):
    """Word errors in transcripts of whole corpora, without their audio.

    Args:
        utterances: of the measurement.
        seed: of the intervals.
    """

    def __init__(self, utterances: Utterances, seed: int) -> None:
        self.utterances = utterances
        self.normaliser, self.manifests = utterances.normalisers, utterances.manifests
        self.missing = utterances.missing
        super().__init__(list(utterances), self.normaliser, seed)


class Bench(Scorer):
    """Utterances prepared for the native engine, with counting of their word errors.

    Args:
        corpora: see `edgespeech.corpora.utterances.utterances_of`.
        scratch: a folder for files.
        seed: of subsets and intervals.
        count: utterances of each corpus; None for all.

    Attributes:
        utterances: of the measurement.
        spoken: the same, with features.
        missing: reasons for missing corpora.

    Raises:
        EdgeSpeechError: no corpus is available.
    """

    def __init__(
        self, corpora: Mapping[str, str], scratch: Path, seed: int, count: int | None = None
    ) -> None:
        self.scratch = scratch
        super().__init__(utterances_of(corpora, seed=seed, count=count), seed)
        self.spoken = list(prepared(self.utterances, scratch))


def say(file: Path, bench: Bench, beam: int) -> tuple[list[str], int]:
    """A packed model's transcript of every utterance, and the number of labels.

    Raises:
        EdgeSpeechError: the file is not a packed model.
    """
    with PackedModel(file) as model:

        def one(item: Prepared) -> tuple[str, int]:
            with closing(model.open(beam)) as stream:
                stream.accept(item.features)
                best = stream.best
            words = words_of(best, model.pieces, model.config.frame_s, item.duration_s)
            return " ".join(word.text for word in words), len(best.labels)

        # The engine releases Python's global lock.
        heard = hear(one, bench.utterances, given=bench.spoken, threads=os.cpu_count() or 1)
    return list(heard.texts), sum(heard.beside)


def added_errors(
    ours: Path, theirs: Path, corpora: Mapping[str, str], seed: int, beam: int
) -> Iterator[tuple[str, Compared]]:
    """The difference of two packed models' word error rates, by corpus and for all, on every utterance.

    Args:
        ours: the one model.
        theirs: the other.
        corpora: as for `Bench`.
        seed: of the intervals.
        beam: of both searches.

    Raises:
        EdgeSpeechError: no corpus is available, or a file is not a packed model.
    """
    with TemporaryDirectory() as scratch:
        bench = Bench(corpora, Path(scratch), seed)
        a, b = ([bench.errors(say(file, bench, beam)[0])] for file in (ours, theirs))
    for corpus in bench.corpora:
        yield corpus, bench.compare(a, b, corpus)


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Bytes of all sections; bytes by the formula, 1 + b (1 - s) bits per weight, scales and codebooks; number of
    weights; and the layouts of the matrices, which `auto` may have chosen: `8 bits x 12, 4 bits sparse x 2`.
    """
    packed = weights = 0
    formula = 0.0
    kinds: Counter[str] = Counter()
    for tensor in tensors.values():
        count = tensor.size if isinstance(tensor, np.ndarray) else tensor.codes.size
        packed += sum(sections(tensor))
        formula += bits_per_weight(tensor) * count / 8
        weights += count
        if not isinstance(tensor, np.ndarray):
            kinds[f"{tensor.bits} bits" + ("" if tensor.mask is None else " sparse")] += 1
        elif len(tensor) > 1:
            kinds[str(tensor.dtype)] += 1
    stored = ", ".join(f"{kind} x {count}" for kind, count in kinds.most_common())
    return {"packed_bytes": packed, "formula_bytes": formula, "weights": weights, "stored": stored}


def facts_of(file: Path) -> dict[str, Any]:
    """Sizes of a packed file; see `Heard.facts`. Weights are those of the networks, without language models."""
    tensors = networks(read_edge(file).tensors)
    sizes = {name: values_of(tensor).size for name, tensor in tensors.items()}
    matrices = [tensor for tensor in tensors.values() if len(values_of(tensor)) > 1]
    zeros = sum(int((values_of(tensor) == 0).sum()) for tensor in matrices)
    bits = sum(bits_per_weight(tensor) * sizes[name] for name, tensor in tensors.items())
    return {
        "file_bytes": file.stat().st_size,
        "bits_per_weight": bits / sum(sizes.values()),
        "zeros": zeros / sum(values_of(tensor).size for tensor in matrices),
        "edge_sha256": sha256_file(file),
    }


def weights_read(tensors: Mapping[str, Tensor], *, frames: int, labels: int) -> int:
    """Bytes of weights read for a number of transcriber frames and labels, if each matrix is read again for every
    vector: the transcriber's once per frame, the predictor's once per label, the joiner's once for each of both.
    """
    calls = {"transcriber": frames, "predictor": labels, "joiner": frames + labels}
    return sum(
        calls[name.partition(".")[0]] * sum(sections(tensor))
        for name, tensor in networks(tensors).items()
        if name != EMBEDDING
    )


def dev_loss(file: Path, spoken: Sequence[Prepared], labels: Sequence[Sequence[int]]) -> float:
    """Transducer loss of a packed model, in nats per label: smoother than word errors, for searches on tuning speech.

    The transcriber is the engine's; the prediction is the simulated model's, and the joiner's weights are the decoded
    ones.

    Args:
        file: the model.
        spoken: the utterances.
        labels: word pieces of each.
    """
    from edgespeech.model.loss import transducer_loss
    from edgespeech.packed.simulate import simulate

    tensors = networks(read_edge(file).tensors)
    weight, bias = (torch.from_numpy(values_of(tensors[f"joiner.{name}"])) for name in ("weight", "bias"))
    total = 0.0
    with PackedModel(file) as model, torch.inference_mode():
        twin = simulate(model.config, tensors)
        for item, wanted in zip(spoken, labels, strict=True):
            encoded = torch.from_numpy(model.transcribe(item.features))[None]
            told = torch.tensor([wanted], dtype=torch.int64)
            counts = (torch.tensor([encoded.shape[1]]), torch.tensor([len(wanted)]))
            predicted = twin.predict(told)
            total += float(transducer_loss(encoded, predicted, weight, bias[0], told, *counts).sum())
    return total / sum(map(len, labels))


def chunk_times(
    files: Mapping[str, Path], bench: Bench, amounts: Mapping[str, int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Chunk times of greedy search on one thread, with all files in turns; by name `cold` and `warm`.

    Args:
        files: packed models by name.
        bench: the utterances.
        amounts: the numbers of utterances `cold` and `warm`.
    """
    peers = [
        Peer(
            name=name,
            python=sys.executable,
            spec={
                "kind": "edge-packed",
                "first": str(bench.spoken[0].file),
                "file": str(file),
                "evict_bytes": EVICT,
            },
        )
        for name, file in files.items()
    ]
    some = {key: spread(bench.spoken, amounts[key]) for key in ("cold", "warm")}
    results = bench_peers(peers, warm=some["warm"], cold=some["cold"])
    return {
        name: {key: chunk_figures(found[key]) for key in some}
        for name, found in results.items()
        if "skipped" not in found
    }


def networks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors without those of its language models."""
    return {name: tensor for name, tensor in tensors.items() if name not in TENSORS}


def values_of(tensor: Tensor) -> NDArray[np.float32]:
    """The decoded values of a tensor."""
    return dequantise(tensor) if isinstance(tensor, Codes) else tensor.astype(np.float32)

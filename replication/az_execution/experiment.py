"""Measure compressed execution beside its peers, write one record, and render it into this folder's README.

edgespeech replicate az_execution                  # seeded subsets, minutes
edgespeech replicate az_execution --profile full   # every utterance
edgespeech replicate az_execution --render         # render the newest record only
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from replication.az_execution import processors
from replication.az_execution.accelerator_trace import listen
from replication.az_execution.truth import bars, product_bars, products_table, shared, truth_table

from edgespeech.arms.accelerator import NUMBERS, load_numbers
from edgespeech.arms.packed_bench import added_errors, networks, sizes
from edgespeech.arms.peer_bench import (
    Answer,
    Peer,
    Prepared,
    bench_peers,
    chunk_figures,
    equal_share,
    error_rates,
    longer,
    prepared,
    spread,
)
from edgespeech.core.exported import PARTS, TOKENS, onnx_file
from edgespeech.core.places import project_root, shipped_models
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.model.export_onnx import export_onnx, quantise_onnx
from edgespeech.packed.edge_file import Tensor, read_edge, sections
from edgespeech.packed.layout_search import this_machine
from edgespeech.packed.pack import EMBEDDING, Encoding, Layout, pack, pack_tensors
from edgespeech.packed.runtime import PackedModel
from edgespeech.packed.simulate import simulate, transcriptions
from edgespeech.records.records import without_paths
from edgespeech.report.page import run
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.settings import BEAM, CHUNK_S, MAX_LABELS
from edgespeech.systems.edge_fp32 import EdgeFp32

HERE = Path(__file__).parent
PRODUCTS = HERE / "products.py"
PLOT = HERE / "accelerator.svg"
PEER_VARIABLE = "EDGESPEECH_SHERPA_PYTHON"
"""Environment variable that names an interpreter with sherpa_onnx, if that is in another environment."""
FEATURES = "features alone"
SHERPA_TAIL_S = 0.4
"""Seconds of silence after utterances for sherpa-onnx, which only runs complete chunks."""


class Bench:
    """The shared state of one run.

    Attributes:
        config: the page's.
        model: the model's folder.
        trained: the same, loaded.
        scratch: a folder for files.
        spoken: the utterances.
        normalisers: by corpus.
        missing: rows of missing corpora.
        layouts: `.edge` files by the layout's name, in the order of the configuration.

    Raises:
        EdgeSpeechError: there are no utterances, no such model, or a layout is impossible.
    """

    def __init__(self, config: dict[str, Any], model: Path, scratch: Path) -> None:
        self.config = config
        self.model = model
        self.scratch = scratch
        utterances = utterances_of(config["corpora"], seed=self.seed, count=self._amount("utterances"))
        self.spoken = list(prepared(utterances, scratch))
        self.normalisers = utterances.normalisers
        self.missing: list[Row] = [
            {"part": f"the truth table on {corpus}", "skipped": reason}
            for corpus, reason in utterances.missing.items()
        ]
        # The comparison uses greedy search without a language model, so the files have none.
        self.trained = replace(load_model(model), fusion=None)
        self.layouts: dict[str, Path] = {}
        for number, entry in enumerate(config["layouts"]):
            if "file" in entry:
                self.layouts[entry["name"]] = shipped_models() / entry["file"]
                continue
            zeros, auto = entry.get("zeros", 0), entry.get("store") == "auto"
            trained = pruned(self.trained, zeros) if zeros else self.trained
            machine = this_machine(round(config["cache_mib"] * 2**20)) if auto else None
            self.layouts[entry["name"]] = path = scratch / f"{number}.edge"
            pack(trained, layout_of(entry), path, machine)

    @property
    def seed(self) -> int:
        """The seed of subsets and intervals."""
        return int(self.config["seed"])

    def some(self, what: str) -> Sequence[Prepared]:
        """The utterances of a purpose in this profile."""
        return spread(self.spoken, self._amount(what))

    def _amount(self, what: str) -> int | None:
        found: int | None = self.config[self.config["profile"]][what]
        return found

    @property
    def chunk(self) -> int:
        """Transcriber frames of a chunk."""
        return round(CHUNK_S / self.trained.model.config.frame_s)

    @cached_property
    def exported(self) -> Path:
        """The folder with the ONNX files.

        Raises:
            EdgeSpeechError: they cannot be made here.
        """
        return self.export(labels=1)

    def export(self, *, labels: int) -> Path:
        """The same, with repeated frames; see `export_onnx`."""
        folder = self.scratch / f"onnx-{labels}"
        export_onnx(self.trained, folder, chunk=self.chunk, labels=labels)
        quantise_onnx(folder)
        return folder


def execution(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All measurements of whole models; parts that cannot run are recorded with reasons."""
    recogniser = EdgeFp32()
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(missing)
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        bench = Bench({**config, "seed": seed}, recogniser.folder(), Path(scratch))
        yield from bench.missing
        for part in (truth, rounding, onnx, sherpa, simulated, accelerator):
            try:
                yield from part(bench)
            except EdgeSpeechError as error:
                yield {"part": part.__name__, "skipped": without_paths(str(error))}


def layout_of(entry: Mapping[str, Any]) -> Layout:
    """The layout of the matrices; the embedding, which is looked up and never multiplied, is dense."""
    options = {key: entry[key] for key in ("bits", "group", "codebook") if key in entry}
    store = entry.get("store", "sparse" if entry.get("zeros") else "dense")
    return Layout(matrices=Encoding(**options, store=store), others={EMBEDDING: Encoding(**options)})


def pruned(trained: Trained, zeros: float) -> Trained:
    """A copy whose matrices have this share of each row at zero, the smallest weights; all but the embedding."""
    model = copy.deepcopy(trained.model)
    for name, values in model.named_parameters():
        if values.ndim > 1 and name != EMBEDDING:
            rows = values.data.view(len(values), -1)
            smallest = rows.abs().argsort(dim=1, stable=True)[:, : round(zeros * rows.shape[1])]
            rows.scatter_(1, smallest, 0)
    return replace(trained, model=model)


def process(bench: Bench, name: str, kind: str, *, python: str = sys.executable, **spec: Any) -> Peer:
    """A peer of one of the kinds of `peer_worker`."""
    common = {
        "kind": kind,
        "first": str(bench.spoken[0].file),
        "evict_bytes": bench.config["evict_mib"] << 20,
    }
    return Peer(name=name, python=python, spec={**common, **spec})


def exported_process(bench: Bench, name: str, kind: str, folder: Path, *, int8: bool, stack: int = 1) -> Peer:
    """ONNX Runtime or sherpa-onnx on exported files; `stack`: minimum number of chunks per run.

    Raises:
        EdgeSpeechError: there is no sherpa-onnx.
    """
    files = {part: str(onnx_file(folder, part, int8=int8)) for part in PARTS}
    files["tokens"] = str(folder / TOKENS)
    if kind == "sherpa-onnx":
        python = os.environ.get(PEER_VARIABLE) or (sys.executable if find_spec("sherpa_onnx") else None)
        if python is None:
            raise EdgeSpeechError(
                f"package sherpa-onnx is not installed, and {PEER_VARIABLE} names no interpreter that imports it"
            )
        return process(bench, name, kind, python=python, files=files)
    multiple = stack * bench.trained.model.config.stack
    return process(bench, name, kind, files=files, multiple=multiple, max_labels=MAX_LABELS)


def peer(bench: Bench, entry: Mapping[str, Any]) -> tuple[Peer, int | None]:
    """A peer's process, and the bytes of its own files, if any.

    Raises:
        EdgeSpeechError: it cannot run here.
    """
    name, kind, int8 = entry["name"], entry["kind"], entry["int8"]
    if kind == "edge-fp32":
        size = None if int8 else (bench.model / WEIGHTS).stat().st_size
        return process(bench, name, kind, folder=str(bench.model), int8=int8), size
    size = sum(onnx_file(bench.exported, part, int8=int8).stat().st_size for part in PARTS)
    return exported_process(bench, name, kind, bench.exported, int8=int8), size


def truth(bench: Bench) -> Iterator[Row]:
    """The truth table, and the claims based on it."""
    config = bench.config
    rows: dict[str, Row] = {}
    stored: dict[str, Mapping[str, Tensor]] = {}
    peers = []
    for name, path in bench.layouts.items():
        stored[name] = networks(read_edge(path).tensors)
        rows[name] = {"name": name, "ours": True, "file_bytes": path.stat().st_size, **sizes(stored[name])}
        peers.append(process(bench, name, "edge-packed", file=str(path)))
    for entry in config["peers"]:
        name = entry["name"]
        rows[name] = {"name": name, "ours": False}
        layout = Layout(matrices=Encoding(bits=8 if entry["int8"] else 32))
        stored[name] = pack_tensors(bench.trained.model, layout)
        try:
            started, rows[name]["file_bytes"] = peer(bench, entry)
            peers.append(started)
        except EdgeSpeechError as error:
            rows[name]["skipped"] = str(error)
    peers.append(process(bench, FEATURES, "features"))
    rows[FEATURES] = {"name": FEATURES, "ours": False}
    cold = bench.some("cold")
    share = [
        {"do": "share", "file": str(item.file), "streams": config["streams"], "cold": is_cold}
        for item in cold
        for is_cold in (False, True)
    ]
    results = bench_peers(peers, warm=bench.spoken, cold=cold, alone={config["ours"]: share})
    reference = results.get(config["reference"], {}).get("warm")
    for name, found in results.items():
        row = rows[name]
        if "skipped" in found:
            row["skipped"] = found["skipped"]
            continue
        row |= {key: found[key] for key in ("kernel", "version", "load_s")}
        row["peak_added_bytes"] = added(found)
        row |= {key: chunk_figures(found[key]) for key in ("warm", "cold")}
        if name != FEATURES:
            row["traffic_bytes_per_s"] = traffic(bench, stored[name], found["warm"])
            row["wer"] = error_rates(bench.spoken, found["warm"], reference, bench.normalisers, bench.seed)
    for row in rows.values():
        if "skipped" in row:
            row["skipped"] = without_paths(row["skipped"])
    yield {"peers": list(rows.values()), "warm": len(bench.spoken), "cold": len(cold)}
    seconds = {
        name: {key: [sum(answer["seconds"]) for answer in found[key]] for key in ("warm", "cold")}
        for name, found in results.items()
        if "skipped" not in found
    }
    yield from bars(list(rows.values()), config["ours"], config["fewer"], seconds)
    answers = results[config["ours"]]["alone"]
    yield from shared({"warm": answers[0::2], "cold": answers[1::2]}, config["streams"])


def rounding(bench: Bench) -> Iterator[Row]:
    """int8 against fp32 on every utterance, in either profile: greedy, and with the recognisers' search."""
    whole = load_model(bench.model)
    searches = (("greedy", 1, bench.trained), (f"beam {BEAM} with the language models", BEAM, whole))
    for how, beam, trained in searches:
        rounded, exact = (bench.scratch / f"{bits}-{beam}.edge" for bits in (8, 32))
        pack(trained, Layout(matrices=Encoding(bits=8)), rounded)
        pack(trained, Layout(matrices=Encoding(bits=32)), exact)
        for corpus, found in added_errors(rounded, exact, bench.config["corpora"], bench.seed, beam):
            yield {
                "claim": "az_execution.wer_int8",
                "detail": f"{corpus}, {how}",
                **found.as_row(),
            }


def added(found: Answer) -> int | None:
    """Peak memory, minus that of the interpreter with numpy and an utterance."""
    (memory,) = found["memory"]
    if memory["peak_bytes"] is None or found["bare_bytes"] is None:
        return None
    return int(memory["peak_bytes"] - found["bare_bytes"])


def traffic(bench: Bench, tensors: Mapping[str, Tensor], answers: Sequence[Answer]) -> float:
    """Bytes of weights read per second of speech, if each matrix is read again for every vector.

    The transcriber runs once per frame, the predictor once per label, the joiner once for each of both.
    """
    frames = sum(len(item.features) // bench.trained.model.config.stack for item in bench.spoken)
    labels = sum(answer["labels"] for answer in answers)
    calls = {"transcriber": frames, "predictor": labels, "joiner": frames + labels}
    read = sum(
        calls[name.partition(".")[0]] * sum(sections(tensor))
        for name, tensor in tensors.items()
        if name != EMBEDDING
    )
    return float(read / sum(item.duration_s for item in bench.spoken))


def onnx(bench: Bench) -> Iterator[Row]:
    """The exported files in ONNX Runtime against torch, on real speech, including states."""
    folder = bench.exported
    runtime = import_module("onnxruntime")
    model, config = bench.trained.model, bench.trained.model.config
    encoder, decoder, joiner = (runtime.InferenceSession(onnx_file(folder, part)) for part in PARTS)
    differences: list[float] = []
    for item in bench.some("onnx"):
        h = c = np.zeros((config.layers, 1, config.hidden), np.float32)
        state, labels = None, torch.zeros(1, config.context, dtype=torch.int64)
        frames = item.features[None, : len(item.features) // config.stack * config.stack]
        for at in range(0, frames.shape[1], bench.chunk * config.stack):
            piece = frames[:, at : at + bench.chunk * config.stack]
            encoded, h, c = encoder.run(None, {"x": piece, "h": h, "c": c})
            (predicted,) = decoder.run(None, {"y": labels.numpy()})
            (joined,) = joiner.run(None, {"encoder_out": encoded[:, -1], "decoder_out": predicted})
            with torch.inference_mode():
                length = torch.tensor([piece.shape[1]])
                wanted, _, state = model.transcribe(torch.from_numpy(piece), length, state)
                read = model.predictor.read(labels)  # type: ignore[arg-type]  # the kind that is exported
                logits = model.join(wanted[:, -1], read)
            ours = (wanted, state.hidden, state.cell, read, logits)
            theirs = (encoded, h, c, predicted, joined)
            pairs = [(a.numpy(), b) for a, b in zip(ours, theirs, strict=True)]
            differences += [float(np.abs(a - b).max() / max(1, np.abs(a).max())) for a, b in pairs]
            labels = torch.cat([labels[:, 1:], logits.argmax(dim=-1)[None]], dim=1)
    yield {
        "claim": "az_execution.onnx",
        "detail": "fp32, outputs and states after every chunk",
        "measured": max(differences),
        "n": len(differences),
    }


def sherpa(bench: Bench) -> Iterator[Row]:
    """sherpa-onnx on the exported files against our greedy search, in torch (fp32) and ONNX Runtime (int8)."""
    folder = bench.export(labels=MAX_LABELS)
    peers = [process(bench, "ours fp32", "edge-fp32", folder=str(bench.model), int8=False)]
    peers.append(
        exported_process(bench, "ours int8", "onnxruntime", bench.exported, int8=True, stack=bench.chunk)
    )
    for int8 in (False, True):
        name = "theirs int8" if int8 else "theirs fp32"
        peers.append(exported_process(bench, name, "sherpa-onnx", folder, int8=int8))
    spoken = [longer(item, SHERPA_TAIL_S) for item in bench.some("sherpa")]
    results = bench_peers(peers, warm=spoken)
    for name, found in results.items():
        if "skipped" in found:
            raise EdgeSpeechError(f"{name}: {found['skipped']}")
    for width in ("fp32", "int8"):
        yield {
            "claim": "az_execution.sherpa",
            "detail": f"{width}, {MAX_LABELS} labels a frame",
            "measured": equal_share(results[f"theirs {width}"]["warm"], results[f"ours {width}"]["warm"]),
            "n": len(spoken),
        }


def simulated(bench: Bench) -> Iterator[Row]:
    """The packed engine against the torch model that simulates it, on every utterance of one corpus."""
    folder = bench.scratch / "simulated"  # the files of a subset have the same names
    folder.mkdir()
    corpus = bench.config["simulated_corpus"]
    wanted = {corpus: bench.config["corpora"][corpus]}
    spoken = list(prepared(utterances_of(wanted, seed=bench.seed), folder))
    for name in bench.config["simulated"]:
        twin = simulate(bench.trained.model.config, read_edge(bench.layouts[name]).tensors)
        same = 0
        with PackedModel(bench.layouts[name]) as packed, torch.inference_mode():
            heard = transcriptions(twin, [item.features for item in spoken])
            for item, encoded in zip(spoken, heard, strict=True):
                stream, search = packed.open(), GreedyDecoder(twin)
                stream.accept(item.features)
                search.accept(encoded)
                best = search.best
                same += (stream.best.labels, stream.best.frames) == (best.labels, best.frames)
        yield {
            "claim": "az_execution.simulated",
            "detail": f"{name}, all of {bench.config['simulated_corpus']}",
            "measured": same / len(spoken),
            "n": len(spoken),
        }


def accelerator(bench: Bench) -> Iterator[Row]:
    """The packed files on the modelled processors, and a sweep over other bits and sparsities."""
    settings = bench.config["accelerator"]
    numbers = load_numbers(NUMBERS)
    workload = listen(bench.trained.model, [item.features for item in bench.some("modelled")])
    rows = list(processors.model_rows(bench.layouts, numbers.processors, workload))
    baseline = read_edge(bench.layouts[settings["baseline"]]).tensors
    asked = {"bits": settings["bits"], "sparsities": settings["sparsities"]}
    rows += processors.swept_rows(baseline, numbers.processors, workload, **asked)
    yield {"modelled": rows, "audio_s": workload.audio_s}


def products(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Single products, by `products.py`, and the claims about them."""
    plan = {**config["products"], "evict_mib": config["evict_mib"], "seed": seed}
    done = subprocess.run(
        [sys.executable, str(PRODUCTS), json.dumps(plan)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
    )
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["nothing"]
        raise EdgeSpeechError(f"{PRODUCTS.name} ended with {done.returncode} with the error: {told[-1]}")
    report = json.loads(done.stdout)
    for number, row in enumerate(product_bars(report)):
        yield row if number else {**row, "products": report}


def kept(record: View | None, key: str) -> Any:
    """The value of a key in the first row that has it, or None."""
    rows = [] if record is None else record["rows"]
    return next((row[key] for row in rows if key in row), None)


def truth_block(record: View | None) -> str:
    """The truth table."""
    found = kept(record, "peers")
    return NO_RECORD if found is None else truth_table(found)


def products_block(record: View | None) -> str:
    """The table of products."""
    found = kept(record, "products")
    return NO_RECORD if found is None else products_table(found)


def accelerator_block(record: View | None) -> str:
    """The tables of the processor model, and its plot."""
    rows = kept(record, "modelled")
    if rows is None:
        return NO_RECORD
    numbers = load_numbers(NUMBERS)
    assert record is not None
    return "\n".join(
        [
            processors.accelerator_table(rows),
            processors.limits_table(rows),
            processors.claims_table(numbers.claims, rows, record["config"]["accelerator"]["baseline"]),
            processors.numbers_table(numbers.processors),
        ]
    )


def plots(record: View | None) -> dict[str, str]:
    """Time and modelled energy against sparsity, by file name."""
    rows = kept(record, "modelled")
    return {} if rows is None else {PLOT.name: processors.accelerator_plot(rows)}


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "az_execution",
    checks=(execution, products),
    blocks={"truth": truth_block, "products": products_block, "accelerator": accelerator_block},
    plots=plots,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

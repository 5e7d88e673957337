"""Measure the on-device model, its loss and its training, write one record, and render it into this folder's README.

edgespeech replicate rnnt                      # measure the shipped model (minutes)
edgespeech replicate rnnt --profile full       # first make speech and train the model (hours), and ship it
edgespeech replicate rnnt --targets --profile full  # publish all that the targets are read from, then measure
edgespeech replicate rnnt --publish-model RUN ... [--shares SHARE ...]  # only ship an average of runs' models
edgespeech replicate rnnt --render             # render the newest record only
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from replication.rnnt.band import errors_over
from replication.rnnt.runs import first_steps, run_steps, training_files
from replication.rnnt.shipping import publish_domains, publish_model
from replication.rnnt.stages import stages_block, steady, targets_table, teacher

from edgespeech.arms.configuration import start_model
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root, records_dir, shipped_models
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.utterances import spoken_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import NO_RECORD, PROFILES, Page, Row, View, parser
from edgespeech.harness.rescore import current
from edgespeech.model.checkpoint import (
    Trained,
    load_model,
    model_bytes,
    save_model,
)
from edgespeech.model.config import ModelConfig
from edgespeech.records.records import Figure, Record, load_records, load_rows, without_paths
from edgespeech.report.error_classes import classes_table, error_classes
from edgespeech.report.page import judged, run
from edgespeech.report.text import NONE, markdown_table
from edgespeech.search.settings import BEAM, CHUNK_S
from edgespeech.search.streaming import TransducerStream
from edgespeech.steps.store import folder_of, is_made
from edgespeech.systems.edge_command import EdgeCommand
from edgespeech.systems.edge_fp32 import EdgeFp32, EdgeFp32Greedy
from edgespeech.training.config import TrainConfig, load_train_config
from edgespeech.training.loop import LOG, MODEL

HERE = Path(__file__).parent
LOSS_SPEED = HERE / "loss_speed.py"
PEER_VARIABLE = "EDGESPEECH_TORCHAUDIO_PYTHON"
"""Environment variable that names an interpreter with torchaudio, in a separate environment."""
UNPUBLISHED = "no published record of these weights: `make replicate PROFILE=full` makes them"


def size(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Parameters, and bytes of the model's files."""
    del config, seed
    folder = start_model()
    trained = load_model(folder)
    with TemporaryDirectory() as single:
        save_model(Path(single), trained.model, trained.tokeniser, trained.provenance, fusion=trained.fusion)
        single_bytes = model_bytes(Path(single))
    for claim, measured in (
        ("rnnt.parameters", trained.model.parameters_deployed),
        ("rnnt.bytes_fp32", single_bytes),
        ("rnnt.bytes_shipped", model_bytes(folder)),
    ):
        yield {"claim": claim, "detail": EdgeFp32.name, "measured": measured, "n": 1}


def said(trained: Trained, samples: Samples, step: int) -> str:
    """The transcript if this many samples arrive at a time."""
    stream = TransducerStream(trained, BEAM)
    for at in range(0, len(samples), step):
        stream.accept(samples[at : at + step])
    (final,) = stream.finish()
    return final.text


def streaming(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Streamed against all at once, on every evaluation split."""
    trained = load_model(start_model())
    torch.set_num_threads(1)
    chunk = round(CHUNK_S * SAMPLE_RATE)
    for split in config["streaming"]["splits"]:
        try:
            manifest = manifest_of(split)
        except EdgeSpeechError as error:
            yield {"claim": "rnnt.streaming", "detail": split, "skipped": without_paths(str(error))}
            continue
        if config["profile"] == "quick":
            manifest = manifest.subset(config["streaming"]["quick"], seed)
        others = []
        for spoken in spoken_of(manifest):
            samples = spoken.samples()
            if said(trained, samples, chunk) != said(trained, samples, len(samples)):
                others.append(spoken.id)
        total = len(manifest.utterances)
        yield {
            "claim": "rnnt.streaming",
            "detail": f"{manifest.name}, chunks of {CHUNK_S:g} s",
            "measured": (total - len(others)) / total,
            "n": total,
            "others": others,
        }


SYSTEMS: Mapping[str, type[EdgeFp32] | type[EdgeCommand]] = {
    one.name: one for one in (EdgeFp32, EdgeFp32Greedy, EdgeCommand)
}


def published(system: str = EdgeFp32.name) -> list[Record]:
    """The published records of the measured model, those with most utterances first, then the newest.

    Args:
        system: of `SYSTEMS`, all of which have that model.

    Raises:
        EdgeSpeechError: there is no model.
    """
    recogniser = SYSTEMS[system]()
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(missing)
    hashes = {name: sha256_file(file) for name, file in recogniser.files().items()}
    folder = records_dir()
    found = [
        current(folder, record)  # of these alone, since it may count a record's errors again
        for record in load_records(folder)
        if record.status == "passed"
        and record.system.name == system
        and dict(record.system.model_sha256) == hashes
    ]
    return sorted(found, key=lambda record: (record.corpus.n_utterances, record.created), reverse=True)


def interval(figure: Figure) -> Row:
    """A figure's interval as fields of a row; empty if it has none."""
    if figure.low is None or figure.high is None:
        return {}
    resampled = [unit for unit in ("speakers", "utterances") if unit in figure.method]
    return {"low": figure.low, "high": figure.high, "resampled": resampled}


def bars(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """WER and acceptance, as published."""
    del seed
    records = {system: published(system) for system in SYSTEMS}
    for bar in config["published"]:
        row = {"claim": bar["claim"], "detail": f"{bar['corpus']}, {bar['condition']}"}
        of = [
            record
            for record in records[bar.get("system", EdgeFp32.name)]
            if (record.corpus.name, record.condition.label) == (bar["corpus"], bar["condition"])
        ]
        if not of:
            yield {**row, "skipped": UNPUBLISHED}
            continue
        record, normaliser = of[0], bar.get("normaliser")
        if normaliser is None:
            if record.acceptance is None:
                yield {**row, "skipped": "the record has no acceptance"}
                continue
            figure = record.acceptance
        else:
            figure = record.accuracy[normaliser].wer
            others = [
                f"{name} {found.wer.value:.3g}"
                for name, found in record.accuracy.items()
                if name != normaliser
            ]
            row["detail"] += f", {normaliser}; {', '.join(others)}"
        yield {
            **row,
            **interval(figure),
            "measured": figure.value,
            "n": record.corpus.n_utterances,
            "record": record.stem,
        }


def telephone(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word errors in a telephone's band over those in the wide band, of the same utterances, as published."""
    wanted = config["telephone"]
    corpus, condition, normaliser = (wanted[key] for key in ("corpus", "condition", "normaliser"))
    row: Row = {"claim": "rnnt.telephone", "detail": f"{corpus}, {condition} over clean, {normaliser}"}
    newest: dict[str, Record] = {
        record.condition.label: record for record in reversed(published()) if record.corpus.name == corpus
    }
    if missing := {condition, "clean"} - newest.keys():
        yield {**row, "skipped": f"{', '.join(sorted(missing))}: {UNPUBLISHED}"}
        return
    narrow, wide = (load_rows(records_dir(), newest[label]) for label in (condition, "clean"))
    stems = [newest[label].stem for label in (condition, "clean")]
    yield {**row, **errors_over(narrow, wide, normaliser, seed=seed), "records": stems}


def rtf(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The real-time factor as published: of the quietest run on one thread, the longest of those."""
    del seed
    corpus = config["rtf_corpus"]
    of = [
        record
        for record in published()
        if (record.corpus.name, record.condition.label, record.provenance.threads) == (corpus, "clean", 1)
        and "rtf" in record.latency
    ]
    if not of:
        yield {"claim": "rnnt.rtf", "detail": f"{corpus}, clean, one thread", "skipped": UNPUBLISHED}
        return
    record = min(of, key=lambda record: record.provenance.concurrent_jobs)
    yield {
        "claim": "rnnt.rtf",
        "detail": f"{corpus}, clean; {record.provenance.concurrent_jobs} run(s) at once on "
        f"{record.provenance.cpu_model}",
        "measured": record.latency["rtf"].value,
        **interval(record.latency["rtf"]),
        "n": record.corpus.n_utterances,
        "record": record.stem,
    }


def loss(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """This project's loss compared with torchaudio's, by `loss_speed.py`."""
    del config, seed
    peer = os.environ.get(PEER_VARIABLE)
    if not peer:
        for claim in ("rnnt.loss_time", "rnnt.loss_memory"):
            yield {"claim": claim, "skipped": f"{PEER_VARIABLE} names no interpreter that imports torchaudio"}
        return
    done = subprocess.run(
        [sys.executable, str(LOSS_SPEED), "--peer-python", peer], capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["nothing"]
        raise EdgeSpeechError(f"{LOSS_SPEED.name} ended with {done.returncode} with the error: {told[-1]}")
    report = json.loads(done.stdout)
    over = report["ours_over"]["torchaudio"]
    shape = (
        f"{report['batch']} utterances of {report['frames']} frames and {report['labels']} labels, "
        f"{report['vocabulary']} word pieces, {report['threads']} thread(s)"
    )
    times = f"{over['wall_s']:.3g} by the wall, {over['cpu_s']:.3g} by the processor"
    for claim, detail, measured in (
        ("rnnt.loss_time", f"{shape}; {times}", over["wall_s"]),
        ("rnnt.loss_memory", shape, over["added_mib"]),
    ):
        yield {
            "claim": claim,
            "detail": detail,
            "measured": measured,
            "n": report["repeats"],
            "report": report,
        }


def training_speed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Training speed in seconds of audio per second, from each run's log."""
    del config, seed
    for path in training_files():
        name = load_train_config(path).name
        row = {"claim": "rnnt.training_speed", "detail": f"run {name}"}
        step = run_steps()[name]
        folder = folder_of(step)
        log = folder / LOG
        lines = (
            [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            if log.is_file()
            else []
        )
        if not lines or not is_made(step):
            yield {**row, "skipped": "its log and model are not here: it was not trained on this machine"}
            continue
        made = load_model(folder / MODEL).provenance
        yield {
            **row,
            "detail": f"run {name}, median of the log's lines; {made['processes']} process(es) on {made['device']}",
            "measured": statistics.median(line["audio_s_per_s"] for line in lines),
            "n": len(lines),
        }


def data(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The amount of training speech."""
    del config, seed
    made = load_model(start_model()).provenance
    if missing := {"run", "step", "audio_s", "utterances"} - made.keys():
        raise EdgeSpeechError(f"the model's provenance does not say {', '.join(sorted(missing))}")
    yield {
        "claim": "rnnt.speech",
        "detail": f"run {made['run']}, step {made['step']}; n: utterances",
        "measured": float(made["audio_s"]) / 3600,
        "n": int(made["utterances"]),
        "provenance": made,
    }


def errors(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The most frequent errors in the published hypotheses; for some corpora, adults and children separately."""
    settings = config["errors"]
    clean = {
        record.corpus.name: record for record in reversed(published()) if record.condition.label == "clean"
    }
    for corpus, normaliser in settings["corpora"].items():
        row: Row = {"claim": "rnnt.errors", "detail": corpus}
        if corpus not in clean:
            yield {**row, "skipped": UNPUBLISHED}
            continue
        rows = load_rows(records_dir(), clean[corpus])
        groups = {corpus: rows}
        if corpus in settings["by_age"]:
            try:
                ages = {item.id: item.age for item in manifest_of(corpus).utterances}
            except EdgeSpeechError as error:
                yield {**row, "detail": f"{corpus} by age", "skipped": without_paths(str(error))}
            else:
                known = [(age, one) for one in rows if (age := ages.get(one.id)) is not None]
                adult = settings["adult"]
                groups[f"{corpus}, adults"] = [one for age, one in known if age >= adult]
                groups[f"{corpus}, children"] = [one for age, one in known if age < adult]
        for name, part in groups.items():
            found = error_classes(part, normaliser, seed=seed, top=settings["top"])
            yield {
                **row,
                "detail": f"{name}, {normaliser}",
                "measured": found["wer"],
                "low": found["low"],
                "high": found["high"],
                "n": found["utterances"],
                "name": name,
                "errors": found,
                "record": clean[corpus].stem,
            }


def state_block(record: View | None) -> str:
    """The model of the page, or a note that it is being trained."""
    shown = [row["provenance"] for row in (record or {}).get("rows", ()) if "provenance" in row]
    if not shown:
        return "The model is still being trained: nothing is claimed of it yet.\n"
    return (
        "The model measured: "
        + ", ".join(f"{name} {value}" for name, value in sorted(shown[0].items()))
        + ".\n"
    )


def errors_block(record: View | None) -> str:
    """The table of dominating errors."""
    classes = {row["name"]: row["errors"] for row in (record or {}).get("rows", ()) if "errors" in row}
    return classes_table(classes) if classes else NO_RECORD


def runs_block(record: View | None) -> str:
    """The training runs and the model, from the runs' files."""
    del record
    configs = [load_train_config(path) for path in training_files()]
    head = ("Run", "Starts from", "Speech", "Updates", "Audio of each", "Learning rate", "Precision")
    shape = ModelConfig.from_mapping(configs[-1].model).to_mapping()
    return (
        markdown_table(head, [_run(config) for config in configs])
        + f"\nThe model: {', '.join(f'{name} {value}' for name, value in shape.items())}.\n"
    )


def _run(config: TrainConfig) -> Sequence[str]:
    speech = (
        Path(source.corpus).stem
        + (f" x {source.repeat:g}" if source.repeat != 1 else "")
        + (" (sounds)" if source.sounds_only else "")
        for source in config.speech
    )
    return (
        config.name,
        ", ".join(Path(init.removesuffix(f"/{MODEL}")).name for init in config.inits) or NONE,
        ", ".join(speech),
        str(config.until or config.steps),
        f"{config.batch_s:g} s",
        f"{config.learning_rate:g}",
        config.precision,
    )


def measure_targets(*, publish: bool) -> None:
    """Measure the rows of `targets.yaml` in full and publish them, or a few utterances of each as a trial.

    Raises:
        EdgeSpeechError: a row failed; it has said why.
    """
    profile = ("--profile", "full", "--publish") if publish else ("--profile", "quick")
    _python("edgespeech.cli", "replicate", "--plan", str(HERE / "targets.yaml"), "--jobs", "1", *profile)


def _python(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if done.returncode:
        raise EdgeSpeechError(f"python -m {module} {' '.join(arguments)}: ended with {done.returncode}")


def targets_block(view: View | None) -> str:
    """The targets, what was measured of each, and whether it is met."""
    record = PAGE.newest()
    if view is None or record is None:
        return NO_RECORD
    return targets_table(judged(PAGE.claims(), record), PAGE.config()["targets"])


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "rnnt",
    checks=(size, streaming, bars, telephone, rtf, loss, training_speed, steady, teacher, data, errors),
    blocks={
        "targets": targets_block,
        "stages": stages_block,
        "state": state_block,
        "runs": runs_block,
        "errors": errors_block,
    },
    first=first_steps,
    reads=(records_dir(),),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__)
    options.add_argument(
        "--publish-model",
        metavar="RUN",
        nargs="+",
        help="ship the mean of some runs' models (names or folders), and no more",
    )
    options.add_argument(
        "--shares", metavar="SHARE", nargs="+", type=float, help="of those runs in the mean; else equal ones"
    )
    options.add_argument(
        "--publish-domains", action="store_true", help="ship the domains' language models only"
    )
    options.add_argument(
        "--targets",
        action="store_true",
        help="measure all that the targets are read from; with --profile full publish it and measure the page",
    )
    options.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="of --targets")
    given = options.parse_args(words)
    if given.targets:
        measure_targets(publish=given.profile == "full")
        if given.profile == "full":
            run(PAGE)
        return
    if given.publish_domains:
        publish_domains(start_model(), shipped_models())
        return
    if given.publish_model is not None:
        names = given.publish_model
        shares = given.shares or [1 / len(names)] * len(names)
        if len(shares) != len(names):
            raise bad("rnnt", "shares", shares, f"one for each of {', '.join(names)}")
        print(publish_model(dict(zip(names, shares, strict=True))))
        return
    run(PAGE, render_only=True)

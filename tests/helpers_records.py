"""Synthetic records: systems that never ran, on corpora that do not exist, with figures made from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edgespeech.contracts import EventKind, Kind
from edgespeech.records.records import (
    AccuracyRow,
    Condition,
    CorpusRow,
    EventRow,
    Figure,
    MemoryRow,
    NetworkRow,
    NetworkTiming,
    Provenance,
    Record,
    Row,
    Subset,
    SystemRow,
    Timing,
    UplinkRow,
    make_run_id,
    sha256_json,
    write_record,
)
from edgespeech.text.normalise import normalisers

WORDS = [
    "a",
    "large",
    "decaf",
    "latte",
    "with",
    "two",
    "sugars",
    "and",
    "one",
    "small",
    "flat",
    "white",
    "please",
]
NETWORKS = ("wifi", "lte")


def provenance(**changes: Any) -> Provenance:
    fields: dict[str, Any] = {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "python": "3.11.2",
        "versions": {"numpy": "2.4.6", "jiwer": "4.0.0"},
        "cpu_model": "Imaginary CPU @ 2.00GHz",
        "cpu_flags": ("avx2", "fma"),
        "cores": 2,
        "threads": 1,
        "platform": "Linux x86_64",
        "load_average_before": 0.12,
        "concurrent_jobs": 1,
        "wall_s": 12.5,
    }
    return Provenance(**(fields | changes))


def figure(
    value: float, definition: str, *, unit: str = "s", n: int = 20, spread: float | None = 0.1
) -> Figure:
    interval: dict[str, Any] = {}
    if spread is not None and math.isfinite(value):
        interval = {
            "low": value * (1 - spread),
            "high": value * (1 + spread),
            "method": "bootstrap over speakers, 2000 resamples",
        }
    return Figure(value=value, unit=unit, n=n, definition=definition, **interval)


def rows(
    *, cloud: bool, n: int = 20, error: float = 0.1, seed: int = 0, failed: Sequence[int] = ()
) -> list[Row]:
    """Utterances `u000` on, each word wrong with probability `error`, heard in chunks of 0.5 s."""
    made = []
    for index in range(n):
        rng = random.Random(1000 + index)  # the utterance is the same whatever recognised it
        ref = " ".join(rng.sample(WORDS, 5))
        rng = random.Random(seed * 7919 + index)
        hyp = " ".join("tea" if rng.random() < error else word for word in ref.split())
        failure = "raised: RuntimeError: scripted" if index in failed else None
        upl = {"wifi": round(0.6 + 0.2 * rng.random(), 3), "lte": round(0.8 + 0.4 * rng.random(), 3)}
        first = EventRow(kind=EventKind.PARTIAL, t_s=1.05, text=hyp.split()[0])
        final = EventRow(kind=EventKind.FINAL, t_s=round(1.6 + upl["wifi"], 3), text=hyp, remote=cloud)
        made.append(
            Row(
                id=f"u{index:03d}",
                ref=ref,
                hyp_raw="" if failure else hyp,
                speaker=f"s{index % 5}",
                duration_s=2.0,
                eos_s=1.6,
                events_network="wifi",
                events=() if failure else (first, final),
                timing=Timing(
                    compute_s=tuple(round(0.02 + 0.03 * rng.random(), 6) for _ in range(5)),
                    networks={
                        name: NetworkTiming(
                            upl_s=math.inf if failure else upl[name],
                            up_bytes=6200 * cloud,
                            down_bytes=120 * cloud,
                            failure=failure,
                        )
                        for name in (NETWORKS if cloud else NETWORKS[:1])
                    },
                ),
                trace=_trace(hyp, failure) if cloud else None,
                intent="orderDrink" if hyp == ref else None,
                slots={"size": "large"} if hyp == ref else None,
                accepted=hyp == ref and failure is None,
                failure=failure,
            )
        )
    return made


def _trace(hyp: str, failure: str | None) -> dict[str, Any]:
    """As `edgespeech.records.rows` keeps it: four messages up, one answer down."""
    reply = {"after": 3, "n_bytes": 90, "kind": "final", "text": hyp}
    return {
        "duration_s": 2.0,
        "timing": {"ready_s": [0.5, 1.0, 1.5, 2.0, 2.0], "compute_s": [0.01] * 5},
        "sent": [[chunk, 1500] for chunk in range(4)],
        "events": [],
        "state_bytes": None,
        "failure": failure,
        "remote": {"compute_s": [0.01, 0.01, 0.01, 2.0], "replies": [] if failure else [reply]},
    }


def record(
    system: str = "tiny-engine",
    corpus: str = "toy_test",
    *,
    cloud: bool = False,
    condition: Condition | None = None,
    status: Literal["passed", "failed", "skipped"] = "passed",
    reason: str | None = None,
    said: Sequence[Row] = (),
    profile: Literal["quick", "full"] = "full",
    subset: Subset | None = None,
    created: str = "2026-01-02T03:04:05Z",
    manifest: str = "toy",
    normaliser: str | None = None,
    notes: tuple[str, ...] = (),
    seed: int = 0,
    machine: Provenance | None = None,
) -> Record:
    """A record whose word errors and acceptance are those of the rows `said` (no insertions).

    `normaliser` stands for versions that are not the installed ones.
    """
    n = len(said)
    words = sum(len(row.ref.split()) for row in said)
    pairs = [(row.ref.split(), row.hyp_raw.split()) for row in said]
    deletions = sum(len(ref) for ref, hyp in pairs if not hyp)
    wrong = sum(a != b for ref, hyp in pairs if hyp for a, b in zip(ref, hyp, strict=True))
    condition = condition or Condition()
    system_row = SystemRow(
        name=system,
        kind=Kind.CLOUD if cloud else Kind.DEVICE,
        model_bytes=74_000_000 if cloud else 9_000_000,
        parameters=72_000_000 if cloud else None,
        chunk_s=0.5,
        citation=f"{system} 1.0, MIT",
        config={"beam": 5},
        model_sha256={"model.bin": sha256_json(system)},
        notes=notes,
    )
    corpus_row = CorpusRow(
        name=corpus,
        manifest_sha256=sha256_json(manifest),
        n_utterances=n,
        n_failed=sum(row.failure is not None for row in said),
        audio_s=2.0 * n,
        ref_words=words,
        subset=subset,
        resampling="speaker",
    )
    measured: dict[str, Any] = {}
    if status == "passed":
        wer = (wrong + deletions) / words
        known = normalisers()
        measured["accuracy"] = {
            name: AccuracyRow(
                normaliser_version="1",
                normaliser_sha256=known[name].sha256
                if normaliser is None
                else sha256_json(name + normaliser),
                wer=figure(wer, "wer", unit="ratio", n=words),
                substitutions=wrong,
                deletions=deletions,
                insertions=0,
                hits=words - wrong - deletions,
                ref_words=words,
            )
            for name in ("basic", "whisper-en")
        }
        accepted = sum(bool(row.accepted) for row in said)
        measured["acceptance"] = figure(accepted / n, "acceptance", unit="ratio", n=n)
        measured["latency"] = {
            "rtf": figure(0.08, "rtf", unit="ratio", n=n, spread=None),
            "chunk_p50": figure(0.035, "chunk_p50", n=n * 5),
            "chunk_p99": figure(0.049, "chunk_p99", n=n * 5),
        }
        measured["networks"] = {
            name: NetworkRow(
                profile_sha256=sha256_json(name),
                latency={
                    "upl_p50": figure(0.6 + 0.2 * index * cloud, "upl_p50", n=n),
                    "upl_p90": figure(0.7 + 0.2 * index * cloud, "upl_p90", n=n),
                    "upl_p99": figure(math.inf if cloud else 0.8, "upl_p99", n=n),
                },
                up_bytes=figure(6200.0 * cloud, "up_bytes", unit="bytes", n=n),
                down_bytes=figure(120.0 * cloud, "down_bytes", unit="bytes", n=n),
                available=figure(1.0, "available", unit="ratio", n=n),
            )
            for index, name in enumerate(NETWORKS)
        }
        measured["uplink"] = UplinkRow(pcm_bytes=64_000 * n, flac_bytes=34_000 * n, opus_bytes=6_000 * n)
        measured["memory"] = MemoryRow(
            rss_before_load_bytes=90_000_000,
            peak_rss_bytes=250_000_000,
            added_rss_bytes=160_000_000,
            helpers_peak_rss_bytes=300_000_000 if cloud else None,
            n_utterances=n,
        )
        measured |= {"load_s": 0.8, "warmup_s": 0.2}
    config_sha256 = sha256_json([system, corpus])
    machine = machine or provenance()
    return Record(
        run_id=make_run_id(
            created=created,
            profile=profile,
            system=system_row,
            corpus=corpus_row,
            condition=condition,
            seed=seed,
            config_sha256=config_sha256,
            commit=machine.commit,
        ),
        created=created,
        status=status,
        reason=reason,
        profile=profile,
        system=system_row,
        corpus=corpus_row,
        condition=condition,
        endpointing="the end of the file ends the utterance",
        cloud_speedup=10.0,
        seed=seed,
        config_sha256=config_sha256,
        provenance=machine,
        **measured,
    )


def publish(folder: Path, *, cloud: bool = False, error: float = 0.1, n: int = 20, **fields: Any) -> Record:
    """Make a record with its rows and write both; return it as it lies there."""
    from edgespeech.records.records import load_record

    said = rows(cloud=cloud, error=error, n=n, seed=fields.get("seed", 0))
    if fields.get("status", "passed") == "skipped":
        said = []
    made = record(cloud=cloud, said=said, **fields)
    return load_record(write_record(made, said, folder))

"""Validate the measuring code, write one record, and render it into this folder's README.

edgespeech replicate checks            # measure (about five minutes, the live part in real time)
edgespeech replicate checks --render   # render the newest record only
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from replication.checks.published_scores import score_lines

from edgespeech.contracts import Request
from edgespeech.core.places import project_root
from edgespeech.corpora.fetch import fetch, manifest_of
from edgespeech.corpora.utterances import spoken_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.harness.discovery import find_recogniser, recognisers
from edgespeech.harness.workers import Job, run_jobs
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.report.page import run


def simulated_coverage(config: dict[str, Any], seed: int, *, clustered: bool) -> float:
    """Share of simulated corpora whose 95 % interval contains the true word error rate.

    With `clustered`, difficulty varies by speaker and the interval resamples speakers, else utterances.
    """
    rng = np.random.default_rng([seed, clustered])
    speakers, each, words, rate = config["speakers"], config["utterances_per_speaker"], 8, 0.15
    spread = 6.0  # of the beta distribution of difficulties: their standard deviation is 13 points
    hits = 0
    for experiment in range(config["experiments"]):
        difficulty = (
            rng.beta(rate * spread, (1 - rate) * spread, speakers) if clustered else np.full(speakers, rate)
        )
        errors = rng.binomial(words, np.repeat(difficulty, each))
        groups = [f"s{n}" if clustered else None for n in range(speakers) for _ in range(each)]
        interval = bootstrap_ratio(
            errors, np.full(len(errors), words), groups, seed=experiment, resamples=1000
        )
        hits += interval.low <= rate <= interval.high
    return hits / int(config["experiments"])


def share_interval(share: float, n: int) -> Row:
    """The 95 % interval of a share of `n` independent trials (Wilson)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return {"low": middle - half, "high": middle + half, "resampled": ("simulations",)}


def coverage(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Both coverages."""
    for clustered in (False, True):
        share, n = (
            simulated_coverage(config["coverage"], seed, clustered=clustered),
            config["coverage"]["experiments"],
        )
        yield {
            "claim": "checks.coverage",
            "detail": "speakers differ, resampled" if clustered else "independent utterances",
            "measured": share,
            "n": n,
            **share_interval(share, n),
        }


def overhead(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Harness overhead: compute time measured for a recogniser that does nothing, per second of audio."""
    settings = config["overhead"]
    manifest = manifest_of(settings["corpus"]).subset(settings["subset"], seed)
    jobs = [Job(spoken=spoken, request=Request(utterance_id=spoken.id)) for spoken in spoken_of(manifest)]
    done = run_jobs(recognisers()["null"], {}, jobs).done
    compute_s = [sum(chunk.compute_s for chunk in one.trace.chunks) for one in done]
    audio_s = [one.trace.duration_s for one in done]
    yield {
        "claim": "checks.overhead",
        "detail": "null recogniser",
        "measured": sum(compute_s) / sum(audio_s),
        **bootstrap_ratio(compute_s, audio_s, [None] * len(done), seed=seed).as_row(),
        "n": len(done),
    }


def live(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The cloud baseline over a real socket in real time, against the replayed simulation."""
    from edgespeech.harness.live import compare_live

    settings = config["live"]
    recogniser = find_recogniser(settings["system"])
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(missing)
    manifest = manifest_of(settings["corpus"]).subset(settings["subset"], seed)
    try:
        recogniser.load()
        agreement = compare_live(recogniser, manifest)
    finally:
        recogniser.close()
    rows = agreement.utterances
    yield {
        "claim": "checks.live_bytes",
        "detail": "every message, both directions",
        "measured": sum(row.bytes_equal for row in rows) / len(rows),
        "n": len(rows),
    }
    yield {
        "claim": "checks.live_upl",
        "detail": f"P50 {agreement.simulated_upl_p50_s:.3f} s simulated, {agreement.live_upl_p50_s:.3f} s live; "
        f"feeder late by {agreement.worst_slip_s * 1e3:.1f} ms at most",
        "measured": agreement.simulated_upl_p50_s / agreement.live_upl_p50_s,
        "n": len(rows),
        "utterances": [asdict(row) for row in rows],
    }


def scores(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every published score line, recomputed from the published references and hypotheses."""
    del seed
    folder = fetch(config["scores"]["corpus"])
    same = total = 0
    for published in sorted(folder.glob("*.result")):
        split = published.name.split(".")[0]
        hypotheses = published.with_suffix(".hyp.tsv")
        lines = published.read_text(encoding="utf-8").splitlines()
        ours = score_lines(folder / f"{split}.ref.biasing_100.tsv", hypotheses)
        same += sum(a == b for a, b in zip(lines, ours, strict=True))
        total += len(lines)
    yield {"claim": "checks.scores", "detail": "all digits", "measured": same / total, "n": total}


PAGE = Page(
    folder=Path(__file__).parent,
    records=project_root() / "results" / "checks",
    checks=(coverage, overhead, live, scores),
)


def main(words: Sequence[str] | None = None) -> None:
    """Render; the checks are the same in both profiles."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

"""Measure the measuring code, write one record, and render it into this folder's README.

python replication/checks/replicate.py            # measure (about five minutes, the live part in real time)
python replication/checks/replicate.py --render   # render the newest record only
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edgespeech.contracts import Request, Verdict
from edgespeech.data.fetch import fetch, manifest_of
from edgespeech.data.files import project_root, write_atomic
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import provenance
from edgespeech.harness.discovery import find_recogniser, recognisers
from edgespeech.harness.published_scores import score_lines
from edgespeech.harness.statistics import bootstrap_ratio
from edgespeech.harness.workers import Job, run_jobs

HERE = Path(__file__).parent
BEGIN, END = "<!-- table:checks -->\n", "<!-- /table -->"


def simulated_coverage(config: dict[str, Any], seed: int, *, clustered: bool) -> float:
    """Share of simulated corpora whose 95 % interval holds the true word error rate.

    A speaker has a difficulty of his own when `clustered`; the interval resamples speakers then, else utterances.
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


def coverage(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Both coverages."""
    for clustered in (False, True):
        yield {
            "claim": "checks.coverage",
            "detail": "speakers differ, resampled" if clustered else "independent utterances",
            "measured": simulated_coverage(config["coverage"], seed, clustered=clustered),
            "n": config["coverage"]["experiments"],
        }


def overhead(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Compute that the runner attributes to a recogniser that does nothing, per second of audio."""
    settings = config["overhead"]
    manifest = manifest_of(settings["corpus"]).subset(settings["subset"], seed)
    jobs = [
        Job(
            audio=manifest.audio_path(item),
            offset_s=item.offset,
            duration_s=item.duration,
            request=Request(utterance_id=item.id),
        )
        for item in manifest.utterances
    ]
    done = run_jobs(recognisers()["null"], {}, jobs).done
    compute_s = sum(chunk.compute_s for one in done for chunk in one.trace.chunks)
    audio_s = sum(one.trace.duration_s for one in done)
    yield {
        "claim": "checks.overhead",
        "detail": "null recogniser",
        "measured": compute_s / audio_s,
        "n": len(done),
    }


def live(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """The cloud baseline over a real socket in real time, against the replayed simulation."""
    from edgespeech.cloud.live import compare_live

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


def scores(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Every published score line, computed again from the published references and hypotheses."""
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


CHECKS: tuple[Callable[[dict[str, Any], int], Iterator[dict[str, Any]]], ...] = (
    coverage,
    overhead,
    live,
    scores,
)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Every check; one that cannot run here says why."""
    rows: list[dict[str, Any]] = []
    for check in CHECKS:
        try:
            rows += check(config, config["seed"])
        except EdgeSpeechError as error:
            rows.append({"claim": f"checks.{check.__name__}", "skipped": str(error)})
        print(f"{check.__name__}: done", flush=True)
    commit, dirty = provenance.git_state(project_root())
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit,
        "dirty": dirty,
        "config": config,
        "versions": provenance.package_versions(),
        "cpu_model": provenance.processor()[0],
        "cores": provenance.cores(),
        "python": platform.python_version(),
        "rows": rows,
    }


def table(record: dict[str, Any], claims: list[dict[str, Any]]) -> str:
    """The record beside what is claimed, as Markdown."""
    known = {claim["id"]: claim for claim in claims}
    lines = ["| check | claimed | measured | n | verdict |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        claim = known.get(row["claim"])
        if "skipped" in row or claim is None:
            lines.append(f"| {row['claim']} | | | | {Verdict.NOT_RUN}: {row.get('skipped', 'no claim')} |")
            continue
        kept = claim["low"] <= row["measured"] <= claim["high"]
        verdict = Verdict.REPRODUCED if kept else Verdict.NOT_REPRODUCED
        claimed = (
            f"{claim['low']:g} to {claim['high']:g}" if claim["low"] != claim["high"] else f"{claim['low']:g}"
        )
        lines.append(
            f"| {claim['statement']} ({row['detail']}) | {claimed} | {row['measured']:.4g} | {row['n']} | {verdict} |"
        )
    stamp = f"Measured {record['created']} at commit {record['commit'][:12]}{' (dirty)' if record['dirty'] else ''}"
    return "\n".join([*lines, "", f"{stamp}, {record['cpu_model']}, {record['cores']} cores."]) + "\n"


def render(readme: Path, record: dict[str, Any]) -> str:
    """The README with its table filled in."""
    claims = yaml.safe_load((HERE / "claim.yaml").read_text(encoding="utf-8"))
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table(record, claims)}\n{END}{rest.split(END, 1)[1]}"


def newest() -> Path:
    """The newest record."""
    return sorted((project_root() / "results" / "checks").glob("*.json"))[-1]


def main() -> None:
    """Measure unless told to render only."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--render", action="store_true", help="render the newest record only")
    parser.add_argument(
        "--profile", choices=["quick", "full"], default="quick", help="the checks are the same in both"
    )
    if not parser.parse_args().render:
        record = measure(yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8")))
        name = record["created"].replace(":", "").replace("-", "")
        write_atomic(
            project_root() / "results" / "checks" / f"{name}.json", json.dumps(record, indent=1) + "\n"
        )
    readme = HERE / "README.md"
    text = render(readme, json.loads(newest().read_text(encoding="utf-8")))
    write_atomic(readme, text)
    print(text.split(BEGIN)[1].split(END)[0])


if __name__ == "__main__":
    main()

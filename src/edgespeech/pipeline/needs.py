"""What the LibriSpeech runs would need, from their files, the corpus's description and the records: text for docs."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from edgespeech.core.files import visible
from edgespeech.core.places import project_root, results_dir
from edgespeech.corpora.corpora import find_split
from edgespeech.records.claims import load_claims
from edgespeech.records.pages import load_page
from edgespeech.report.text import markdown_table

if TYPE_CHECKING:
    from edgespeech.training.config import TrainConfig

PAGE, RUNS = "rnnt", "librispeech"
SPEED = "rnnt.training_speed"
FLAC_BYTES_PER_S = 16_000 * 2 * 0.55
"""Estimated: 16-bit samples, of which FLAC leaves a little more than a half for read speech."""
GPU_SPEED = 1000.0
"""Estimated seconds of audio a second on one data-centre GPU that is fed by a dozen processor cores."""


def training_needs() -> str:
    """A table of the runs, and how its columns come about.

    Raises:
        EdgeSpeechError: a run's file or a record is wrong.
    """
    # It needs torch, and most that imports this module does not.
    from edgespeech.training.config import load_train_config

    root = project_root() / "replication"
    claims = load_claims(root / PAGE / "claim.yaml")
    for path in reversed(visible(results_dir() / PAGE, "*.json")):
        record = load_page(path, claims)
        if speeds := [
            row.measured.value
            for row in record.rows
            if row.claim == SPEED and row.measured is not None and row.measured.value is not None
        ]:
            break
    else:
        return "No record has the speed of training yet.\n"
    speed = float(median(speeds))
    rows = [_row(load_train_config(path), speed) for path in sorted((root / RUNS).glob("train_*.yaml"))]
    head = (
        "Run", "Speech", "Disk for it", "Updates", "Audio trained on", "Two processor cores", "One GPU",
    )  # fmt: skip
    return (
        f"{markdown_table(head, rows)}\n"
        f"Measured: {speed:.0f} s of audio a second by two processes of one thread each, the median over "
        f"{len(speeds)} runs of the on-device model (record of {record.created[:10]}, {record.machine.cpu_model}). "
        "Nobody has run LibriSpeech, so the days are an estimate from that speed. Estimated altogether, because no GPU "
        f"was at hand: {GPU_SPEED:,.0f} s of audio a second on one GPU that a dozen cores feed. Estimated too: "
        f"{FLAC_BYTES_PER_S / 1000:.0f} kB of FLAC a second, with the largest archive beside its unpacked files while "
        "it is fetched.\n"
    )


def _row(config: TrainConfig, speed: float) -> tuple[str, ...]:
    parts = []
    for source in config.speech:
        corpus, name = find_split(source.corpus)
        parts.append(corpus.splits[name].audio_s or 0.0)
    updates = config.until or config.steps
    heard_s = updates * config.batch_s
    disk = (sum(parts) + max(parts)) * FLAC_BYTES_PER_S
    return (
        config.name,
        f"{sum(parts) / 3600:,.0f} h",
        f"{disk / 1e9:.0f} GB",
        f"{updates:,}",
        f"{heard_s / 3600:,.0f} h ({heard_s / sum(parts):.0f} epochs)",
        f"{heard_s / speed / 86_400:.1f} days",
        f"{heard_s / GPU_SPEED / 3600:.0f} h",
    )

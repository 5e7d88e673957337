"""A latency metric: how long a result took after the first sign of life."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.contracts import EventKind
from edgespeech.metrics.registry import Direction, Metric, Scored, quantile_figures
from edgespeech.records.records import Figure

METRICS = (
    Metric(
        id="first_to_final_p50",
        unit="s",
        direction=Direction.LOWER,
        definition="P50 of: last final's stamp - first partial's stamp",
        network=True,  # so a record has it for every network
    ),
)


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """Over the utterances that have both; nothing without any."""
    waits: list[list[float]] = []
    for item in scored:
        events = () if item.timeline is None else item.timeline.events
        first = next((one.t_s for one in events if one.event.kind is EventKind.PARTIAL), None)
        final = None if item.timeline is None else item.timeline.last(EventKind.FINAL)
        waits.append([] if first is None or final is None else [final.t_s - first])
    used = sum(map(len, waits)) / max(1, len(scored))
    groups = [item.speaker for item in scored]
    return quantile_figures([(METRICS[0], 0.5)], waits, groups, used_share=used, seed=seed)

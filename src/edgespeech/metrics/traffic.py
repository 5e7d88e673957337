"""Network traffic, and the share of utterances with a result."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.metrics.registry import (
    Direction,
    Metric,
    Scored,
    lower,
    ratio_figure,
    share_figure,
)
from edgespeech.records.records import Figure

_UP, _DOWN = (
    lower(
        f"{name}_bytes",
        "bytes",
        f"mean bytes on the wire per utterance, {name}wards, framing included",
        network=True,
    )
    for name in ("up", "down")
)
_AVAILABLE = Metric(
    id="available",
    unit="ratio",
    direction=Direction.HIGHER,
    definition="share of utterances with a result",
    network=True,
)
METRICS = (_UP, _DOWN, _AVAILABLE)


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """Bytes and availability over the utterances that have a timeline; nothing without any."""
    used = [(item.timeline, item.speaker) for item in scored if item.timeline is not None]
    groups = [speaker for _, speaker in used]
    n = len(used)
    ones = [1.0] * n
    up = [timeline.up_bytes for timeline, _ in used]
    down = [timeline.down_bytes for timeline, _ in used]
    return {
        **ratio_figure(_UP, up, ones, groups, n=n, seed=seed),
        **ratio_figure(_DOWN, down, ones, groups, n=n, seed=seed),
        **share_figure(_AVAILABLE, [timeline.failure is None for timeline, _ in used], groups, seed=seed),
    }

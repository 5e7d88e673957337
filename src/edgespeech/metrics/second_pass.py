"""How often the final result is the server's, for devices with a second pass."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.contracts import EventKind
from edgespeech.metrics.registry import Direction, Metric, Scored, share_figure
from edgespeech.records.records import Figure

_RESCORED = Metric(
    id="rescored",
    unit="ratio",
    direction=Direction.HIGHER,
    definition="share of utterances whose result is the second pass's; of the others the device's own stands",
    network=True,
)
METRICS = (_RESCORED,)


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """Over the utterances that had a second pass; nothing without any."""
    used = []
    for item in scored:
        timeline = item.timeline
        if (
            timeline is None
            or timeline.trace.remote is None
            or timeline.trace.remote.answer_deadline_s is None
        ):
            continue
        final = timeline.last(EventKind.FINAL)
        used.append((final is not None and final.remote and timeline.failure is None, item.speaker))
    if not used:
        return {}
    return share_figure(_RESCORED, [rescored for rescored, _ in used], [who for _, who in used], seed=seed)

"""An accuracy metric: sentences with an error."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.metrics.registry import Direction, Metric, Scored, share_figure
from edgespeech.records.records import Figure

METRICS = (
    Metric(
        id="ser",
        unit="ratio",
        direction=Direction.LOWER,
        definition="share of utterances whose words are not exactly the reference's",
        words=True,  # so a record has it under every normaliser
    ),
)


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """Over all utterances; nothing without any."""
    wrong = [item.reference.split() != item.hypothesis.split() for item in scored]
    return share_figure(METRICS[0], wrong, [item.speaker for item in scored], seed=seed)

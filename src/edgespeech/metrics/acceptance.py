"""Command acceptance: whether the device would have executed the intended command.

The rule is that of the measurement definitions (section 3) and of the coffee benchmark itself
(Picovoice/speech-to-intent-benchmark, `benchmark/engine.py`): the intent and every labelled slot value are
exactly right. As in that benchmark, additional slots in the parse are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgespeech.metrics.registry import Direction, Metric, Scored, share_figure
from edgespeech.records.records import Figure

METRICS = (
    Metric(
        id="acceptance",
        unit="ratio",
        direction=Direction.HIGHER,
        definition="share of commands whose intent and every labelled slot value are exactly right",
    ),
)


class Understood(Protocol):
    """The parse of recognised words (`edgespeech.text.grammar.Parse`)."""

    @property
    def intent(self) -> str:
        """The intent's name."""
        ...

    @property
    def slots(self) -> Mapping[str, str]:
        """Slot name to canonical value."""
        ...


def accepted(parse: Understood | None, intent: str, slots: Mapping[str, str]) -> bool:
    """Whether the intent and every labelled slot value are exactly right.

    Args:
        parse: of the hypothesis; None (not parsed) is never accepted.
        intent: the label.
        slots: labelled slots with their canonical values. Additional slots in `parse` are ignored.
    """
    if parse is None or parse.intent != intent:
        return False
    return all(parse.slots.get(name) == value for name, value in slots.items())


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """The command acceptance rate over the utterances with an intent; nothing without any."""
    judged = [(item.accepted, item.speaker) for item in scored if item.accepted is not None]
    if not judged:
        return {}
    return share_figure(
        METRICS[0], [bool(flag) for flag, _ in judged], [group for _, group in judged], seed=seed
    )

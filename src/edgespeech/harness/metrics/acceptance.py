"""Command acceptance: would the device have done what was asked?

The rule is that of the measurement definitions (section 3) and of the coffee benchmark itself
(Picovoice/speech-to-intent-benchmark, `benchmark/engine.py`): the intent and every labelled slot value are
exactly right. A slot that was not labelled but came out of the parse does not count against it, as there; how
many accepted commands carry one is reported beside the rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgespeech.errors import bad
from edgespeech.harness.metrics.registry import Direction, Metric, Scored, share_figure
from edgespeech.harness.records import Figure

METRICS = (
    Metric(
        id="acceptance",
        unit="ratio",
        direction=Direction.HIGHER,
        definition="share of commands whose intent and every labelled slot value are exactly right",
    ),
)


class Understood(Protocol):
    """What a parser made of recognised words (`edgespeech.data.grammar.Parse`)."""

    @property
    def intent(self) -> str:
        """The intent's name."""
        ...

    @property
    def slots(self) -> Mapping[str, str]:
        """Slot name to canonical value."""
        ...


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Counts over the utterances of a manifest that have an intent.

    Attributes:
        n: how many there are.
        accepted: how many of them were understood exactly.
        with_extra_slots: how many of the accepted carry a slot beyond the labelled ones.
    """

    n: int
    accepted: int
    with_extra_slots: int

    @property
    def rate(self) -> float:
        """The command acceptance rate, 0 to 1."""
        return self.accepted / self.n


def accepted(parse: Understood | None, intent: str, slots: Mapping[str, str]) -> bool:
    """Whether the intent and every labelled slot value are exactly right.

    Args:
        parse: what was understood; None (nothing was) is never accepted.
        intent: the label.
        slots: labelled slots with their canonical values. Further slots in `parse` are not held against it.
    """
    if parse is None or parse.intent != intent:
        return False
    return all(parse.slots.get(name) == value for name, value in slots.items())


def command_acceptance(
    parses: Sequence[Understood | None], labels: Sequence[tuple[str, Mapping[str, str]]]
) -> Acceptance:
    """Acceptance over a manifest.

    Args:
        parses: one per labelled utterance, None where nothing was understood or the recogniser failed.
        labels: intent and slots, in the same order.

    Raises:
        EdgeSpeechError: the two differ in length, or there is nothing to score.
    """
    if len(parses) != len(labels) or not labels:
        raise bad(
            "command acceptance", "parses", len(parses), f"one for each of {len(labels)} labels, at least 1"
        )
    passed = [
        parse.slots.keys() - slots.keys()
        for parse, (intent, slots) in zip(parses, labels, strict=True)
        if parse is not None and accepted(parse, intent, slots)
    ]
    return Acceptance(len(labels), len(passed), sum(bool(extra) for extra in passed))


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """The command acceptance rate over the utterances with an intent; nothing without any."""
    judged = [(item.accepted, item.speaker) for item in scored if item.accepted is not None]
    if not judged:
        return {}
    return share_figure(
        METRICS[0], [bool(flag) for flag, _ in judged], [group for _, group in judged], seed=seed
    )

"""Words hallucinated on silence, noise and music."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.errors import bad
from edgespeech.metrics.registry import Scored, lower, ratio_figure
from edgespeech.records.records import Figure

METRICS = (lower("invented_wpm", "wpm", "words emitted per minute of audio whose reference is empty"),)


def words_invented_per_minute(hyps: Sequence[str], durations_s: Sequence[float]) -> float:
    """Words per minute over recordings without speech, as one ratio over all of them.

    Args:
        hyps: normalised hypotheses.
        durations_s: length of each recording in seconds.

    Raises:
        EdgeSpeechError: the two do not have the same length, or there is no audio.
    """
    if len(hyps) != len(durations_s):
        raise bad("silence", "durations", len(durations_s), f"as many as hypotheses, {len(hyps)}")
    minutes = sum(durations_s) / 60
    if minutes <= 0:
        raise bad("silence", "audio", f"{minutes} minutes", "more than none")
    return sum(len(hyp.split()) for hyp in hyps) / minutes


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """The rate over utterances with an empty reference that ran to the end; nothing if there is none."""
    silent = [item for item in scored if not item.reference.split()]
    used = [item for item in silent if item.timeline is None or item.timeline.failure is None]
    return ratio_figure(
        METRICS[0],
        [len(item.hypothesis.split()) for item in used],
        [item.duration_s / 60 for item in used],
        [item.speaker for item in used],
        n=len(used),
        used_share=len(used) / len(silent) if silent else 0.0,
        seed=seed,
    )

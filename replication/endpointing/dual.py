"""Policies with two thresholds chosen on the tuning set: one publishes a speculative result, one ends the utterance."""

from __future__ import annotations

import math
from collections.abc import Iterator

from replication.endpointing.curves import Sweep
from replication.endpointing.listening import Heard, early, played
from replication.endpointing.material import Config, each_set, heard_set, tuned_sweeps, word_errors

from edgespeech.contracts import EventKind
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.metrics.latency import UtteranceTimes, utterance_timing
from edgespeech.metrics.statistics import (
    bootstrap_quantile,
    bootstrap_share,
    paired_quantile_difference,
    quantile,
)
from edgespeech.records.trace import Timeline

Placed = tuple[str, float]
"""A scorer and its threshold."""


def dual_thresholds(config: Config, parts: Config, tuned: dict[str, Sweep]) -> tuple[Placed, Placed]:
    """Scorers and thresholds of a dual policy's final and speculative gates, chosen on the tuning set.

    Raises:
        EdgeSpeechError: the tuning set is missing, or no threshold satisfies the rate on it.
    """
    rate, settings = config["cut_off_rate"], config["dual"]
    place = tuned[parts["final"]].at(rate)
    if place is None:
        raise EdgeSpeechError(
            f"{parts['final']} cuts off more than {rate:g} of the tuning set at every threshold"
        )
    closing = (parts["final"], float(tuned[parts["final"]].thresholds[place]))
    candidates = _candidates(config, tuned[parts["speculative"]])
    tried = _tried(heard_set(config, "tuning"), closing, parts["speculative"], candidates, config["chunk_s"])
    kept = [one for one in tried if one["confirmed"] >= settings["confirmed"]]
    if not kept:
        raise EdgeSpeechError("no speculative threshold is confirmed often enough on the tuning set")
    ahead_s = parts.get("advance_s", math.inf)  # by default as early as possible
    chosen = min(kept, key=lambda one: (abs(one["advance_s"] - ahead_s), one["threshold"]))
    return closing, (parts["speculative"], chosen["threshold"])


def _candidates(config: Config, tuned: Sweep) -> list[float]:
    """Candidate speculative thresholds."""
    return [float(threshold) for threshold in tuned.thresholds[:: config["dual"]["every"]]]


def dual(config: Config, seed: int) -> Iterator[Row]:
    """Two thresholds chosen on the tuning set, and their results on the other sets."""
    del seed
    tuned = tuned_sweeps(config)
    for policy, parts in config["dual"]["policies"].items():
        try:
            closing, opening = dual_thresholds(config, parts, tuned)
        except EdgeSpeechError as error:
            yield {"claim": "endpointing.dual_confirmed", "detail": policy, "skipped": str(error)}
            continue
        candidates = _candidates(config, tuned[parts["speculative"]])
        for set_name, heard in each_set(config):
            if not isinstance(heard, str):
                yield from _dual_rows(config, policy, set_name, heard, closing, opening, candidates)


def _tried(
    heard: list[Heard], closing: Placed, scorer: str, thresholds: list[float], chunk_s: float
) -> list[dict[str, float]]:
    """The result of each speculative threshold, from the lowest."""
    return [
        {
            "threshold": threshold,
            **early([played(one, closing, (scorer, threshold), chunk_s=chunk_s) for one in heard]).as_row(),
        }
        for threshold in thresholds
    ]


def _dual_rows(
    config: Config,
    policy: str,
    set_name: str,
    heard: list[Heard],
    closing: Placed,
    opening: Placed,
    candidates: list[float],
) -> Iterator[Row]:
    """A dual policy on a set, beside its final end-pointer alone."""
    chunk_s = config["chunk_s"]
    runs = {
        "single": [played(one, closing, chunk_s=chunk_s) for one in heard],
        "dual": [played(one, closing, opening, chunk_s=chunk_s) for one in heard],
    }
    upl, rates, cut = {}, {}, {}
    for name, timelines in runs.items():
        timings = [
            utterance_timing(timeline, UtteranceTimes(eos_s=one.case.eos_s))
            for timeline, one in zip(timelines, heard, strict=True)
        ]
        upl[name] = [math.inf if one.upl_s is None else one.upl_s for one in timings]
        rates[name] = word_errors(config, set_name, heard).wer([timeline.text for timeline in timelines])
        cut[name] = sum(bool(one.cut_off) for one in timings) / len(timings)
    found, groups, seed = early(runs["dual"]), [one.case.speaker for one in heard], config["seed"]
    resets = [one for one in runs["dual"] if one.last(EventKind.RESET) is not None]
    common = {"policy": policy, "set": set_name, "n": len(heard)}
    p50 = {name: quantile(values, 0.5) for name, values in upl.items()}
    early_ones = [place for place, one in enumerate(found.each_confirmed) if one is not None]
    confirmed: Row = {
        **common,
        "claim": "endpointing.dual_confirmed" if set_name in config["held"] else "endpointing.dual_other",
        "detail": f"{policy}, {set_name}; {found.published:.3f} have one, {found.resets:.3f} resets",
        "measured": found.confirmed,
        "dual": {
            **found.as_row(),
            "upl_p50_single_s": p50["single"],
            "upl_p50_s": p50["dual"],
            "cut_off_rate": cut["dual"],
            "wer": rates["dual"],
            "final": closing,
            "speculative": opening,
        },
        "pareto": _tried(heard, closing, opening[0], candidates, chunk_s),
    }
    if len(early_ones) > 1:
        flags = [bool(found.each_confirmed[place]) for place in early_ones]
        confirmed |= bootstrap_share(flags, [groups[place] for place in early_ones], seed=seed).as_row()
    if resets:
        confirmed["example"] = example(resets[0])
    yield confirmed
    if set_name not in config["held"]:
        return
    yield {
        **common,
        "claim": "endpointing.dual_advance",
        "detail": f"{policy}, {set_name}",
        "measured": found.advance_s,
        **bootstrap_quantile([[one] for one in found.advances_s], 0.5, groups, seed=seed).as_row(),
    }
    row = {
        **common,
        "claim": "endpointing.dual_upl",
        "detail": f"{policy}, {set_name}; {p50['single']:.2f} s to {p50['dual']:.2f} s",
    }
    try:
        gain = paired_quantile_difference(upl["single"], upl["dual"], 0.5, groups, seed=seed)
    except EdgeSpeechError as error:
        yield {**row, "skipped": str(error)}
        return
    yield {**row, "measured": gain.difference, **gain.interval.as_row()}


def example(timeline: Timeline) -> Row:
    """The events of one utterance, as JSON."""
    return {
        "id": timeline.trace.utterance_id,
        "events": [[one.t_s, one.event.kind.value, one.event.text] for one in timeline.events],
    }

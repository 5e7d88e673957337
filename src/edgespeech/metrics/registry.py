"""The definition of metrics, and their registry, which is discovered from the modules of this package.

A metric family is one file here with two names: `METRICS`, a tuple of `Metric`, and
`measure(scored, *, seed) -> dict[str, Figure]`, which leaves out figures that do not apply. Nothing else needs an edit:
listings, records and the file of all figures use `metrics()` and `measure()`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType

from edgespeech.errors import bad
from edgespeech.metrics.statistics import (
    Groups,
    Interval,
    bootstrap_quantiles,
    bootstrap_ratio,
    bootstrap_share,
    quantile,
)
from edgespeech.records.records import Figure
from edgespeech.records.trace import Timeline


class Direction(StrEnum):
    """Which direction is better."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        id: unique; the key of its figure and that figure's `definition`.
        unit: of the value: `ratio`, `s`, `wpm`, `bytes`.
        direction: which way is better.
        definition: one line, complete enough for recomputation.
        network: whether it depends on the network profile of the replay.
        words: whether it compares words. A record has such a metric once for every normaliser, and computes it without
            a timeline.
    """

    id: str
    unit: str
    direction: Direction
    definition: str
    network: bool = False
    words: bool = False


def lower(id_: str, unit: str, definition: str, *, network: bool = False, words: bool = False) -> Metric:
    """A metric of which lower is better; see `Metric`."""
    return Metric(
        id=id_, unit=unit, direction=Direction.LOWER, definition=definition, network=network, words=words
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One utterance as the input of metrics.

    Attributes:
        duration_s: length of the audio, > 0.
        reference: normalised; may be empty.
        hypothesis: normalised alike; empty after a failure.
        speaker: id of the speaker, if known.
        context: normalised context phrases of the utterance.
        sos_s: start of speech in audio time, if known; `eos_s` the end.
        accepted: whether intent and every slot are right; None without labels.
        timeline: events with times; None if there is no timing (a hypothesis that was not measured here).
    """

    duration_s: float
    reference: str
    hypothesis: str
    speaker: str | None = None
    context: tuple[str, ...] = ()
    sos_s: float | None = None
    eos_s: float | None = None
    accepted: bool | None = None
    timeline: Timeline | None = None


def metrics() -> dict[str, Metric]:
    """Every metric by its id, in the order of the files and of their `METRICS`.

    Raises:
        EdgeSpeechError: two metrics share an id, or one depends on both words and the network.
    """
    found: dict[str, Metric] = {}
    for family in _families():
        for metric in family.METRICS:
            if metric.id in found:
                raise bad(family.__name__, "metric id", metric.id, "an id that no other metric has")
            if metric.words and metric.network:
                raise bad(family.__name__, metric.id, "words and network", "at most one of the two")
            found[metric.id] = metric
    return found


def measure(
    scored: Sequence[Scored], *, seed: int, wanted: Callable[[Metric], bool] = lambda metric: True
) -> dict[str, Figure]:
    """All figures that apply to a run, by metric id.

    Args:
        scored: the utterances run, failures included.
        seed: of the intervals.
        wanted: which metrics; a family without any of them is not computed.

    Raises:
        EdgeSpeechError: a family returns a figure that it does not declare, or two share an id.
    """
    known = metrics()
    figures: dict[str, Figure] = {}
    for family in _families():
        names = {metric.id for metric in family.METRICS}
        chosen = {name for name in names if wanted(known[name])}
        if not chosen:
            continue
        measured: dict[str, Figure] = family.measure(scored, seed=seed)
        if unknown := measured.keys() - names:
            raise bad(family.__name__, "figures", sorted(unknown), "only ids that its METRICS declare")
        figures |= {name: figure for name, figure in measured.items() if name in chosen}
    return figures


def figure(metric: Metric, value: float, *, n: int, used_share: float, interval: Interval | None) -> Figure:
    """A figure of this metric; without an interval (one utterance only), its ends are left out."""
    return Figure(
        value=value,
        unit=metric.unit,
        n=n,
        used_share=used_share,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        method="" if interval is None else interval.describe(),
        definition=metric.id,
    )


def ratio_figure(
    metric: Metric,
    numerators: Sequence[float],
    denominators: Sequence[float],
    groups: Groups,
    *,
    n: int,
    used_share: float = 1.0,
    seed: int,
) -> dict[str, Figure]:
    """The figure of a ratio of sums, under its id; nothing when the denominators sum to 0."""
    if not sum(denominators) > 0:
        return {}
    interval = bootstrap_ratio(numerators, denominators, groups, seed=seed) if len(groups) > 1 else None
    value = sum(numerators) / sum(denominators)
    return {metric.id: figure(metric, value, n=n, used_share=used_share, interval=interval)}


def share_figure(
    metric: Metric, flags: Sequence[bool | None], groups: Groups, *, seed: int
) -> dict[str, Figure]:
    """The figure of a share of utterances, under its id; None leaves an utterance out.

    Nothing if all are left out.
    """
    used = [(flag, group) for flag, group in zip(flags, groups, strict=True) if flag is not None]
    if not used:
        return {}
    known, of = [flag for flag, _ in used], [group for _, group in used]
    interval = bootstrap_share(known, of, seed=seed) if len(used) > 1 else None
    share, n = sum(known) / len(known), len(known)
    return {metric.id: figure(metric, share, n=n, used_share=n / len(flags), interval=interval)}


def quantile_figures(
    wanted: Sequence[tuple[Metric, float]],
    values: Sequence[Sequence[float]],
    groups: Groups,
    *,
    used_share: float,
    seed: int,
) -> dict[str, Figure]:
    """The figures of quantiles over all utterances' values pooled, under their ids; nothing without values.

    Args:
        wanted: metrics, each with its quantile.
        values: per utterance its values.
        groups: per utterance its speaker, or None.
        used_share: share of usable values.
        seed: of the intervals.
    """
    pooled = [value for item in values for value in item]
    n = len(pooled)
    if not n:
        return {}
    intervals: Sequence[Interval | None] = [None] * len(wanted)
    if sum(bool(item) for item in values) > 1:
        intervals = bootstrap_quantiles(values, [q for _, q in wanted], groups, seed=seed)
    return {
        metric.id: figure(metric, quantile(pooled, q), n=n, used_share=used_share, interval=interval)
        for (metric, q), interval in zip(wanted, intervals, strict=True)
    }


def _families() -> Iterator[ModuleType]:
    """The modules of this package that declare metrics, by name."""
    package = importlib.import_module(__package__)
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        if hasattr(module, "METRICS"):
            yield module

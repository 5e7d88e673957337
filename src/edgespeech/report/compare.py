"""Two records beside each other: paired differences on the same utterances, with intervals and verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgespeech.contracts import Difference
from edgespeech.core.files import regular
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.metrics.statistics import bootstrap_quantile, paired_ratio_difference, quantile
from edgespeech.metrics.wer import count_errors
from edgespeech.records.records import Record, Row, load_record, load_rows
from edgespeech.report.text import Style, markdown_table, number
from edgespeech.text.normalise import normalisers

Pairs = Sequence[tuple[Row, Row]]
SEED = 0
"""Of the resamples: a comparison of two records always says the same."""

MEDIAN_REMARK = (
    "UPL: A and B are the medians of each record; A - B is the median of the utterances' paired differences, which is "
    "not the difference of the two medians."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """A minus B in one metric.

    Attributes:
        metric: what is compared.
        style: how its values are shown.
        a: A's value over the utterances of both; `b` B's.
        difference: A minus B; for latencies the median of the utterances' differences.
        low: lower end of its 95 % interval, `high` the upper end.
        verdict: on A; `tie` when the interval holds 0.
        n: utterances.
        method: what was resampled.
    """

    metric: str
    style: Style
    a: float
    b: float
    difference: float
    low: float
    high: float
    verdict: Difference
    n: int
    method: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What `edgespeech compare A B` says.

    Attributes:
        a: one record.
        b: the other.
        rows: one per metric that both have.
        remarks: what was not compared, and why.
    """

    a: Record
    b: Record
    rows: tuple[Paired, ...]
    remarks: tuple[str, ...]

    def to_text(self) -> str:
        """A Markdown table and the remarks."""
        head = ("Metric", "A", "B", "A - B", "95 % interval", "A is", "n", "Intervals")
        cells = [
            (
                row.metric,
                number(row.a, row.style),
                number(row.b, row.style),
                number(row.difference, row.style),
                f"[{number(row.low, row.style)}, {number(row.high, row.style)}]",
                row.verdict.value,
                str(row.n),
                row.method,
            )
            for row in self.rows
        ]
        names = [f"{name}: {record.stem}\n" for name, record in (("A", self.a), ("B", self.b))]
        remarks = "".join(f"{remark}\n" for remark in self.remarks)
        return "".join(names) + "\n" + markdown_table(head, cells) + ("\n" + remarks if remarks else "")


def compare_records(path_a: Path, path_b: Path) -> Comparison:
    """Paired differences of two records, A minus B.

    Args:
        path_a: a record's file, its rows beside it.
        path_b: another one's.

    Raises:
        EdgeSpeechError: a record is not right, or the two must not be compared (the message says why).
    """
    a, b = _record(path_a), _record(path_b)
    if (reason := records_comparable(a, b)) is not None:
        raise EdgeSpeechError(f"{path_a.name} and {path_b.name} must not be compared: {reason}")
    pairs = pair(load_rows(path_a.parent, a), load_rows(path_b.parent, b))
    if len(pairs) != a.corpus.n_utterances or len(pairs) != b.corpus.n_utterances:
        expected = f"all of {a.corpus.n_utterances} and {b.corpus.n_utterances}"
        raise bad(path_b.name, "utterances in both", len(pairs), expected)
    rows = [word_errors(pairs, name) for name in a.accuracy]
    if (rejections := acceptance(pairs)) is not None:
        rows.append(rejections)
    remarks = _versions(a, b)
    if (reason := _times_comparable(a, b)) is None:
        latencies = list(_latencies(a, b, pairs))
        rows += latencies
        if latencies:
            remarks.append(MEDIAN_REMARK)
    else:
        remarks.append(f"Latencies are not compared: {reason}.")
    return Comparison(a=a, b=b, rows=tuple(rows), remarks=tuple(remarks))


def _record(path: Path) -> Record:
    """A record; a readable file that is something else is refused by what it is, not by its first odd field."""
    try:
        return load_record(path)
    except EdgeSpeechError:
        if _looks_like_one(path):
            raise
        raise EdgeSpeechError(
            f"{path}: not a record of a run, expected a .json file that `edgespeech evaluate` wrote"
        ) from None


def _looks_like_one(path: Path) -> bool:
    """Whether a file has a record's first field, or cannot be read at all."""
    try:
        content = json.loads(regular(path).read_bytes())
    except OSError:
        return True
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "run_id" in content


def records_comparable(a: Record, b: Record, *, whole: bool = True) -> str | None:
    """Why two records must not be compared, or None when they may.

    The context that a request brings along belongs to the system and may differ; what the microphone heard
    and how words are counted may not.

    Args:
        a: one record.
        b: another.
        whole: also demand the same subset; False when the caller pairs utterance by utterance.
    """
    for record in (a, b):
        if record.status != "passed":
            return f"{record.stem} {record.status}: {record.reason}"
    if a.corpus.name != b.corpus.name:
        return f"other corpora: {a.corpus.name} and {b.corpus.name}"
    if a.corpus.manifest_sha256 != b.corpus.manifest_sha256:
        hashes = f"{a.corpus.manifest_sha256} and {b.corpus.manifest_sha256}"
        return f"other manifests of {a.corpus.name}: {hashes}"
    if whole and a.corpus.subset != b.corpus.subset:
        return f"other subsets of {a.corpus.name}: {_subset(a)} and {_subset(b)}"
    sound_a, sound_b = (r.condition.model_copy(update={"context": False}) for r in (a, b))
    if sound_a != sound_b:
        return f"other conditions: {sound_a.label} and {sound_b.label}"
    if sound_a.noise is not None and a.seed != b.seed:
        return f"other noise segments: seed {a.seed} and {b.seed}"
    if a.accuracy.keys() != b.accuracy.keys():
        return f"other normalisers: {', '.join(a.accuracy)} and {', '.join(b.accuracy)}"
    return None


def pair(rows_a: Sequence[Row], rows_b: Sequence[Row]) -> Pairs:
    """The rows of the utterances that are in both, in the order of `rows_a`.

    Raises:
        EdgeSpeechError: an utterance has another reference in the other.
    """
    by_id = {row.id: row for row in rows_b}
    pairs = [(row, by_id[row.id]) for row in rows_a if row.id in by_id]
    for a, b in pairs:
        if a.ref != b.ref:
            raise bad(a.id, "reference", b.ref, f"{a.ref!r}, as in the other record")
    return pairs


def _versions(a: Record, b: Record) -> list[str]:
    """Which normalisers are newer here than in a record; both are scored again from their raw hypotheses."""
    known = normalisers()
    remarks = []
    for name in a.accuracy:
        versions = {record.accuracy[name].normaliser_version for record in (a, b)}
        hashes = {record.accuracy[name].normaliser_sha256 for record in (a, b)}
        if name in known and hashes != {known[name].sha256}:
            old = " and ".join(sorted(versions))
            remarks.append(f"WER {name} is of version {known[name].version}; the records have {old}.")
    return remarks


def word_errors(pairs: Pairs, normaliser: str) -> Paired:
    """Difference in WER under one normaliser of today, from raw hypotheses, whatever version the records have.

    Args:
        pairs: rows of A and B.
        normaliser: its name.

    Raises:
        EdgeSpeechError: there is no such normaliser.
    """
    known = normalisers().get(normaliser)
    if known is None:
        raise bad("records", "normaliser", normaliser, "one of " + ", ".join(normalisers()))
    refs = known.all([a.ref for a, _ in pairs])
    errors_a = count_errors(refs, known.all([a.hyp_raw for a, _ in pairs]))
    errors_b = count_errors(refs, known.all([b.hyp_raw for _, b in pairs]))
    words = [count.ref_words for count in errors_a]
    return _ratio(
        f"WER {normaliser}", [c.errors for c in errors_a], [c.errors for c in errors_b], words, _groups(pairs)
    )


def acceptance(pairs: Pairs) -> Paired | None:
    """Difference in the share of commands that were not accepted; None without commands in both."""
    judged = [(a, b) for a, b in pairs if a.accepted is not None and b.accepted is not None]
    if not judged:
        return None
    rejected = [[float(not row.accepted) for row in rows] for rows in zip(*judged, strict=True)]
    return _ratio("not accepted", rejected[0], rejected[1], [1] * len(judged), _groups(judged))


def upl_of(row: Row, network: str) -> float | None:
    """An utterance's user-perceived latency over a network, in seconds; None where it is not known."""
    if row.timing is None or row.events_network is None:
        return None
    found = row.timing.networks.get(network) or row.timing.networks.get(row.events_network)
    return None if found is None else found.upl_s


def _latencies(a: Record, b: Record, pairs: Pairs) -> Iterator[Paired]:
    for network in a.networks:
        same = (
            network in b.networks and a.networks[network].profile_sha256 == b.networks[network].profile_sha256
        )
        times = [(upl_of(x, network), upl_of(y, network)) for x, y in pairs]
        known = [
            (x, y, rows) for (x, y), rows in zip(times, pairs, strict=True) if x is not None and y is not None
        ]
        if not same or len(known) < 2:
            continue
        # Two results that never came are equally late.
        differences = [0.0 if math.isinf(x) and math.isinf(y) else x - y for x, y, _ in known]
        groups = _groups([rows for _, _, rows in known])
        interval = bootstrap_quantile([[value] for value in differences], 0.5, groups, seed=SEED)
        yield Paired(
            metric=f"UPL {network}, median",
            style="s",
            a=quantile([x for x, _, _ in known], 0.5),
            b=quantile([y for _, y, _ in known], 0.5),
            difference=quantile(differences, 0.5),
            low=interval.low,
            high=interval.high,
            verdict=_verdict(interval.low, interval.high),
            n=len(known),
            method=interval.describe(),
        )


def _ratio(
    metric: str,
    top_a: Sequence[float],
    top_b: Sequence[float],
    below: Sequence[float],
    groups: Sequence[str | None],
) -> Paired:
    found = paired_ratio_difference(top_a, top_b, below, groups, seed=SEED)
    return Paired(
        metric=metric,
        style="percent",
        a=sum(top_a) / sum(below),
        b=sum(top_b) / sum(below),
        difference=found.difference,
        low=found.interval.low,
        high=found.interval.high,
        verdict=found.verdict,
        n=len(below),
        method=found.interval.describe(),
    )


def _verdict(low: float, high: float) -> Difference:
    if high < 0:
        return Difference.BETTER
    return Difference.WORSE if low > 0 else Difference.TIE


def _times_comparable(a: Record, b: Record) -> str | None:
    """Why latencies of two records must not be compared, or None."""
    machines = [(r.provenance.cpu_model, r.provenance.cores, r.provenance.threads) for r in (a, b)]
    if machines[0] != machines[1]:
        return "absolute times are never compared between machines or numbers of threads"
    if a.cloud_speedup != b.cloud_speedup:
        return f"cloud_speedup is {a.cloud_speedup:g} and {b.cloud_speedup:g}"
    return None


def _groups(pairs: Pairs) -> list[str | None]:
    return [a.speaker for a, _ in pairs]


def _subset(record: Record) -> str:
    subset = record.corpus.subset
    return "all" if subset is None else f"{subset.n} by seed {subset.seed}"

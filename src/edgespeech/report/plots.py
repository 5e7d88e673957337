"""The plots: deterministic SVG from records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespeech.metrics.statistics import quantile
from edgespeech.records.records import Figure, Record, load_rows
from edgespeech.report.compare import upl_of
from edgespeech.report.drawing import LIGHT, Look, looks_of, svg
from edgespeech.report.noise import against_noise, label_of
from edgespeech.report.reference import Reference
from edgespeech.report.table import NETWORK, NORMALISER, uses_network
from edgespeech.report.tables import NULL, latest
from edgespeech.report.tradeoff import tradeoff_plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def all_plots(
    records_dir: Path, records: Sequence[Record], references: Sequence[Reference]
) -> dict[str, str]:
    """Every plot that the records have data for: name to SVG.

    Args:
        records_dir: where the rows lie.
        records: the records.
        references: what others published.
    """
    shown = [record for record in latest(records) if record.status == "passed" and record.system.name != NULL]
    looks = looks_of(shown)
    drawn = {
        **tradeoff_plots(records, looks),
        "wer": _wer(shown, looks),
        "acceptance": _acceptance(shown, references, looks),
        "latency": _latency(records_dir, shown, looks),
        "networks": _networks(records_dir, shown, looks),
        "uplink": _uplink(shown, looks),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _wer(records: Sequence[Record], looks: Mapping[str, Look]) -> str | None:
    clean = [r for r in records if r.condition.clean and NORMALISER in r.accuracy]
    corpora = sorted({record.corpus.name for record in clean})
    if not clean:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for row, record in enumerate(reversed(clean)):
            _point(axes, record.accuracy[NORMALISER].wer, row, looks[label_of(record)], scale=100)
        axes.set_yticks(range(len(clean)), [label_of(record) for record in reversed(clean)])
        for row, record in enumerate(reversed(clean)):
            following = clean[len(clean) - row] if row else None
            if following is not None and following.corpus.name != record.corpus.name:
                axes.axhline(row - 0.5, color=LIGHT["grid"], linewidth=0.8)
            previous = clean[len(clean) - 2 - row] if row < len(clean) - 1 else None
            if previous is None or previous.corpus.name != record.corpus.name:
                label = f"{record.corpus.name}, n = {record.corpus.n_utterances}"
                axes.annotate(
                    label,
                    (1, row),
                    xycoords=("axes fraction", "data"),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    color=LIGHT["muted"],
                )
        axes.set_xlim(left=0)
        axes.set_ylim(-0.6, len(clean) - 0.4)
        axes.set_xlabel(f"word error rate, % (normaliser {NORMALISER}); bars: 95 % intervals")
        axes.set_title("Word errors on clean audio, by corpus and system: lower is better")
        axes.grid(axis="x")

    return svg(draw, 1.2 + 0.28 * len(clean) + 0.05 * len(corpora))


def _acceptance(
    records: Sequence[Record], references: Sequence[Reference], looks: Mapping[str, Look]
) -> str | None:
    noisy = [
        r
        for r in records
        if r.condition.noise is not None and not r.condition.band and r.acceptance is not None
    ]
    if not noisy:
        return None
    first = noisy[0]
    setting = (first.corpus.name, first.condition.noise, first.condition.snr_rule)
    ratios = {r.condition.snr_db for r in noisy if r.condition.snr_db is not None}
    theirs = [
        (name, values)
        for ref in references
        if (ref.corpus, ref.noise, ref.snr_rule, ref.metric) == (*setting, "acceptance")
        for name, values in ref.values.items()
    ]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for index, (name, values) in enumerate(theirs):
            points = sorted((float(at), 100 * value) for at, value in values.items())
            style = "-" if "device" in name else ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))[index % 4]
            axes.plot(
                *zip(*points, strict=True),
                linestyle=style,
                color=LIGHT["muted"],
                linewidth=1.2,
                label=f"{name}, published",
            )
        for label, runs in against_noise(records, setting).items():
            measured = sorted((at, r.acceptance) for at, r in runs.items() if at is not None and r.acceptance)
            if not measured:
                continue
            look = looks[label]
            low, high = ([_end(found, side) for _, found in measured] for side in (0, 1))
            values_here = [100 * found.value for _, found in measured]
            axes.errorbar(
                [at for at, _ in measured],
                values_here,
                yerr=[low, high],
                **_style(look),
                linestyle=look.line,
                label=f"{label}, here",
            )
        axes.set_ylim(0, 102)
        axes.set_xlabel(f"signal-to-noise ratio, dB ({setting[1]} noise, {setting[2]} rule)")
        axes.set_ylabel("commands accepted, %")
        axes.set_title(f"Commands understood against noise, {setting[0]}: higher is better")
        axes.grid()
        axes.set_xticks(sorted({at for _, values in theirs for at in map(float, values)} | ratios))
        canvas.legend(loc="outside lower center", ncols=3, fontsize=8)

    return svg(draw, 4.8)


def _latency(records_dir: Path, records: Sequence[Record], looks: Mapping[str, Look]) -> str | None:
    panels: dict[str, list[tuple[Record, str]]] = {}
    for record in records:
        if record.condition.clean and NETWORK in record.networks:
            panels.setdefault(record.corpus.name, []).append((record, NETWORK))
    title = (
        f"How long users wait after they stop speaking, over {NETWORK}: further left is better\n"
        "(marks: P50 and P90 with 95 % intervals; the axis ends behind the slowest system's P95)"
    )
    return _waits(records_dir, panels, looks, title)


def _networks(records_dir: Path, records: Sequence[Record], looks: Mapping[str, Look]) -> str | None:
    """Of the corpus with most systems that use a network, those systems over every network."""
    clean = [record for record in records if record.condition.clean and uses_network(record)]
    online = Counter(record.corpus.name for record in clean)
    if not online:
        return None
    corpus = max(sorted(online), key=lambda name: online[name])
    panels: dict[str, list[tuple[Record, str]]] = {}
    for record in clean:
        for network in record.networks if record.corpus.name == corpus else ():
            panels.setdefault(network, []).append((record, network))
    title = (
        f"How long users wait after they stop speaking, {corpus} over every network: further left is better\n"
        "(marks: P50 and P90 with 95 % intervals; a curve ends below 1 where utterances got no answer)"
    )
    return _waits(records_dir, panels, looks, title)


def _waits(
    records_dir: Path,
    panels: Mapping[str, Sequence[tuple[Record, str]]],
    looks: Mapping[str, Look],
    title: str,
) -> str | None:
    """User-perceived latency as distributions: in each panel, some records over a network each."""
    series: dict[str, list[tuple[Record, str, list[float]]]] = {}
    for name, runs in panels.items():
        for record, network in runs:
            found = [upl_of(row, network) for row in load_rows(records_dir, record)]
            if known := sorted(value for value in found if value is not None):
                series.setdefault(name, []).append((record, network, known))
    if not series:
        return None

    def draw(canvas: Canvas) -> None:
        all_values = [values for runs in series.values() for _, _, values in runs]
        ends = [end for values in all_values if math.isfinite(end := quantile(values, 0.95))]
        columns = min(2, len(series))
        grid = canvas.subplots(
            math.ceil(len(series) / columns), columns, sharex=True, sharey=True, squeeze=False
        )
        for axes in grid.flat[len(series) :]:
            axes.set_axis_off()
        for axes, (name, runs) in zip(grid.flat, series.items(), strict=False):
            for record, network, values in runs:
                look, n = looks[label_of(record)], len(values)
                kept = [value for value in values if math.isfinite(value)]
                shares = [(i + 1) / n for i in range(len(kept))]
                axes.step(
                    kept,
                    shares,
                    where="post",
                    color=look.colour,
                    linestyle=look.line,
                    linewidth=1.4,
                    label=label_of(record),
                )
                for key, share in (("upl_p50", 0.5), ("upl_p90", 0.9)):
                    marked = record.networks[network].latency.get(key)
                    if marked is not None and math.isfinite(marked.value):
                        _point(axes, marked, share, look)
            axes.set_title(f"{name}, n = {max(len(values) for _, _, values in runs)}")
            axes.set_ylim(0, 1.02)
            axes.grid()
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.set_xlabel("user-perceived latency, s")
        if ends:
            grid.flat[0].set_xlim(min(0.0, *(values[0] for values in all_values)), 1.05 * max(ends))
        for row in grid:
            row[0].set_ylabel("share of utterances")
        handles = {t: h for axes in grid.flat for h, t in zip(*axes.get_legend_handles_labels(), strict=True)}
        canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
        canvas.suptitle(title, x=0.01, ha="left", fontsize=10)

    return svg(draw, 1.3 + 2.5 * math.ceil(len(series) / 2))


def _uplink(records: Sequence[Record], looks: Mapping[str, Look]) -> str | None:
    by_corpus: dict[str, Record] = {}
    sent: list[Record] = []
    for record in records:
        if record.condition.clean and record.uplink is not None:
            by_corpus.setdefault(record.corpus.name, record)
            if NETWORK in record.networks and record.networks[NETWORK].up_bytes.value > 0:
                sent.append(record)
    if not by_corpus:
        return None
    rows = sorted(by_corpus, reverse=True)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for y, corpus in enumerate(rows):
            record = by_corpus[corpus]
            n = record.corpus.n_utterances
            uplink = record.uplink
            assert uplink is not None
            payload = {"PCM": uplink.pcm_bytes, "FLAC": uplink.flac_bytes, "Opus": uplink.opus_bytes}
            points = [total / n / 1000 for total in payload.values()]
            axes.plot([0.0, *points], [y] * 4, color=LIGHT["grid"], linewidth=2, zorder=1)
            for name, x in zip(payload, points, strict=True):
                axes.plot(x, y, marker="|", markersize=12, color=LIGHT["ink"], zorder=2)
                axes.annotate(
                    f"{name} {x:.1f}",
                    (x, y),
                    xytext=(0, 9),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        for record in sent:
            look = looks[label_of(record)]
            x = record.networks[NETWORK].up_bytes.value / 1000
            axes.plot(
                x,
                rows.index(record.corpus.name) - 0.25,
                look.marker,
                color=look.colour,
                markersize=6,
                fillstyle=look.fill,
                linestyle="none",
                label=label_of(record),
                clip_on=False,
            )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(-0.6, len(rows) - 0.3)
        axes.set_xlim(left=0)
        axes.set_xlabel(
            "kB per utterance; ticks: audio in each codec; marks: sent, with framing (others send nothing)"
        )
        axes.set_title("What goes up to the network: further left is better")
        axes.grid(axis="x")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        if unique:
            canvas.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, fontsize=8)

    return svg(draw, 1.6 + 0.75 * len(rows))


def _point(axes: Axes, found: Figure, y: float, look: Look, *, scale: float = 1) -> None:
    """A value with its interval as a horizontal bar."""
    spread = [[_end(found, 0, scale)], [_end(found, 1, scale)]]
    axes.errorbar(
        [found.value * scale],
        [y],
        xerr=spread,
        **_style(look),
        clip_on=False,
        zorder=3,
    )


def _style(look: Look) -> dict[str, Any]:
    """Of a value with its interval."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "fillstyle": look.fill,
        "capsize": 2,
        "markersize": 5,
        "linewidth": 1.4,
    }


def _end(found: Figure, side: int, scale: float = 100) -> float:
    """Distance from a value to the lower (0) or upper (1) end of its interval; 0 without a finite one."""
    end = (found.low, found.high)[side]
    return 0.0 if end is None or math.isinf(end) else max(0.0, abs(end - found.value)) * scale

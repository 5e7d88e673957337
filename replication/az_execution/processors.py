"""Costs of packed models on the modelled processors: rows for a record, tables and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespeech.arms.accelerator import (
    Claim,
    Processor,
    Workload,
    execute,
    multiplied,
    sparsity_of,
    thinned,
)
from edgespeech.arms.packed_bench import networks
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.edge_file import Tensor, read_edge
from edgespeech.records.records import without_paths
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Row = dict[str, Any]
"""A layout on a processor, as JSON: see `model_rows`."""

SPEECH = "Everything is per second of speech; energy is modelled."
_LEAST = 0.01
"""Shares of the time below this are not shown."""
_MARKERS = {"dram": "o", "sram": "s", "decoder": "^", "array": "D", "imbalance": "X"}


def model_rows(
    files: Mapping[str, Path], processors: Sequence[Processor], workload: Workload
) -> Iterator[Row]:
    """Every packed model on every processor, with skipping of zero weights, and also of zero activations.

    Args:
        files: `.edge` files by the name of their layout.
        processors: from `load_numbers`.
        workload: from `listen`.

    Yields:
        `layout`, `swept` (false) and what `Execution` has under the same names: `processor`, `skips_activations`,
        `packed_bytes`, `resident_bytes`, `dram_bytes`, `macs`, `time_s`, `energy_j`, `imbalance`, `decoder_needed`
        and `times`; and `bits` (None where they differ) and `sparsity` of the matrices. For a layout that the
        processors cannot run, one row with `skipped`, the reason, instead.

    Raises:
        EdgeSpeechError: a file is missing or damaged.
    """
    for layout, path in files.items():
        yield from _rows(layout, networks(read_edge(path).tensors), processors, workload, swept=False)


def swept_rows(
    tensors: Mapping[str, Tensor],
    processors: Sequence[Processor],
    workload: Workload,
    *,
    bits: Sequence[int],
    sparsities: Sequence[float],
) -> Iterator[Row]:
    """Rows as from `model_rows`, `swept`, of one model at each number of bits and each sparsity."""
    for width in bits:
        for sparsity in sparsities:
            layout = f"{width} bits, {100 * sparsity:.0f} % zeros"
            yield from _rows(layout, thinned(tensors, width, sparsity), processors, workload, swept=True)


def accelerator_table(rows: Sequence[Row]) -> str:
    """The files' rows as Markdown."""
    head = (
        "Layout",
        "Processor",
        "Zeros skipped",
        "Packed",
        "In SRAM",
        "From DRAM",
        "MACs, millions",
        "Time",
        "Energy",
        "What takes the time",
        "Array's cycles over its work",
        "Decoder needed, codes a cycle",
    )
    lines = []
    for row in rows:
        if row["swept"]:
            continue
        if "skipped" in row:
            lines.append((row["layout"], *[NONE] * 8, f"not run: {row['skipped']}", *[NONE] * 2))
            continue
        lines.append(
            (
                row["layout"],
                row["processor"],
                _skipped_zeros(row),
                number(row["packed_bytes"], "bytes"),
                number(row["resident_bytes"], "bytes"),
                number(row["dram_bytes"], "bytes"),
                f"{row['macs'] / 1e6:.1f}",
                f"{1e3 * row['time_s']:.3g} ms",
                f"{1e3 * row['energy_j']:.3g} mJ",
                _shares(row),
                f"{row['imbalance']:.2f}",
                f"{row['decoder_needed']:.1f}",
            )
        )
    return f"{markdown_table(head, lines)}\n{SPEECH}\n"


def limits_table(rows: Sequence[Row]) -> str:
    """The limiting part at all bits and sparsities of the sweep, and the share of the array's waiting."""
    swept = sorted(
        (row for row in _ran(rows) if row["swept"]),
        key=lambda row: (row["processor"], row["skips_activations"]),
    )
    asked = list(dict.fromkeys(_asked(row) for row in swept))
    lines: dict[tuple[str, str, int], dict[str, str]] = {}
    for row in swept:
        waits = row["times"]["imbalance"] / row["time_s"]
        lead = max(row["times"], key=row["times"].__getitem__)
        text = lead if waits < _LEAST else f"{lead} (waiting {100 * waits:.0f} %)"
        line = lines.setdefault((row["processor"], _skipped_zeros(row), row["bits"]), {})
        line[_asked(row)] = text
    head = ("Processor", "Zeros skipped", "Bits", *asked)
    table = [(*start[:2], str(start[2]), *(line[zeros] for zeros in asked)) for start, line in lines.items()]
    return (
        f"{markdown_table(head, table)}\nColumns: the share of weights that are zero, here the smallest ones. "
        "`imbalance`: most of the time is waiting for the slowest processing element.\n"
    )


def claims_table(claims: Sequence[Claim], rows: Sequence[Row], baseline: str) -> str:
    """Published claims about AZ1 and AZ2, beside this model's layout of least energy against `baseline`."""
    found = [
        row for row in rows if not row["swept"] and "skipped" not in row and not row["skips_activations"]
    ]
    lines = []
    for claim in claims:
        beside = []
        for processor in dict.fromkeys(row["processor"] for row in found):
            here = [row for row in found if row["processor"] == processor]
            before = [row for row in here if row["layout"] == baseline]
            best = min(here, key=lambda row: float(row["energy_j"]))
            if claim.measure != "none" and before and best["layout"] != baseline:
                gain = _gain(claim.measure, before[0], best)
                beside.append(f"{_claimed(claim.measure, gain)} ({best['layout']}, {processor})")
        lines.append(
            (claim.statement, _claimed(claim.measure, claim.claimed), "; ".join(beside) or NONE, claim.source)
        )
    head = ("Claim", "Claimed", f"This model, against {baseline}", "Source")
    return (
        f"{markdown_table(head, lines)}\nThe claims are not tested here: AZ1's model, the silicon that it is compared "
        "with and the measure are unpublished.\n"
    )


def numbers_table(processors: Sequence[Processor]) -> str:
    """The processors' numbers with their sources."""
    lines = []
    for name in processors[0].sources:
        values = [f"{getattr(one, name):g}" for one in processors]
        sources = dict.fromkeys(one.sources[name] for one in processors)
        lines.append((name, *values, "; ".join(sources)))
    return markdown_table(("Number", *(one.name for one in processors), "Source"), lines)


def accelerator_plot(rows: Sequence[Row]) -> str:
    """Time and modelled energy against sparsity, a line for each number of bits; the mark says what limits.

    Args:
        rows: those of the sweep are lines, those of files crosses.

    Returns:
        An SVG; the same rows give the same bytes.
    """
    ran = _ran(rows)
    processors = list(dict.fromkeys(row["processor"] for row in ran))
    widths = sorted({row["bits"] for row in ran if row["swept"]}, reverse=True)
    colours = {bits: LIGHT[f"s{index % 8}"] for index, bits in enumerate(widths)}

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(2, len(processors), squeeze=False, sharex=True)
        for column, processor in enumerate(processors):
            here = [row for row in ran if row["processor"] == processor]
            for axes, key, unit in ((grid[0][column], "time_s", "ms"), (grid[1][column], "energy_j", "mJ")):
                for bits in widths:
                    for skips in (False, True):
                        line = [
                            row
                            for row in here
                            if row["swept"] and (row["bits"], row["skips_activations"]) == (bits, skips)
                        ]
                        _line(axes, line, key, colours[bits], dashed=skips)
                files = [row for row in here if not (row["swept"] or row["skips_activations"])]
                axes.plot(
                    [100 * row["sparsity"] for row in files],
                    [1e3 * row[key] for row in files],
                    "x",
                    color=LIGHT["ink"],
                    markersize=7,
                    zorder=4,
                )
                axes.set_ylim(bottom=0)
                axes.grid()
                axes.set_ylabel(f"{'time' if key == 'time_s' else 'modelled energy'}, {unit}")
            grid[0][column].set_title(processor)
            grid[1][column].set_xlabel("weights that are zero, %")
        _legend(canvas, grid[0][0], colours)
        canvas.suptitle(
            "A packed model on an edge processor, per second of speech", x=0.01, ha="left", fontsize=10
        )

    return svg(draw, 6.2)


def _rows(
    layout: str,
    tensors: Mapping[str, Tensor],
    processors: Sequence[Processor],
    workload: Workload,
    *,
    swept: bool,
) -> Iterator[Row]:
    try:
        runs = [
            execute(tensors, processor, workload, skip_activations=skips)
            for processor in processors
            for skips in (False, True)
        ]
    except EdgeSpeechError as error:
        yield {"layout": layout, "swept": swept, "skipped": without_paths(str(error))}
        return
    bits = sorted({codes.bits for codes in multiplied(tensors)})
    for done in runs:
        yield {
            "layout": layout,
            "swept": swept,
            "bits": bits[0] if len(bits) == 1 else None,
            "sparsity": sparsity_of(tensors),
            **done.as_row(),
        }


def _ran(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "skipped" not in row]


def _skipped_zeros(row: Row) -> str:
    return "weights, activations" if row["skips_activations"] else "weights"


def _asked(row: Row) -> str:
    """The nominal sparsity of a swept row, from its layout."""
    return str(row["layout"]).partition(", ")[2].removesuffix(" zeros")


def _shares(row: Row) -> str:
    shares = {name: time / row["time_s"] for name, time in row["times"].items()}
    told = sorted((name for name in shares if shares[name] >= _LEAST), key=lambda name: -shares[name])
    return ", ".join(f"{name} {100 * shares[name]:.0f} %" for name in told)


def _gain(measure: str, before: Row, after: Row) -> float:
    if measure == "memory":
        return float(1 - after["packed_bytes"] / before["packed_bytes"])
    key = {"speed": "time_s", "energy": "energy_j"}[measure]
    return float(before[key] / after[key])


def _claimed(measure: str, value: float) -> str:
    return f"{100 * value:.0f} % less" if measure == "memory" else f"{value:.3g} times"


def _line(axes: Axes, line: Sequence[Row], key: str, colour: str, *, dashed: bool) -> None:
    """One number of bits; hollow marks and dashes where activations of zero are skipped."""
    x, y = [100 * row["sparsity"] for row in line], [1e3 * row[key] for row in line]
    axes.plot(x, y, color=colour, linestyle="--" if dashed else "-", linewidth=1.2)
    for row, across, up in zip(line, x, y, strict=True):
        lead = max(row["times"], key=row["times"].__getitem__)
        axes.plot(
            across, up, _MARKERS[lead], color=colour, markersize=4.5, fillstyle="none" if dashed else "full"
        )


def _legend(canvas: Canvas, axes: Axes, colours: Mapping[int, str]) -> None:
    entries = {
        f"{bits} bits": axes.plot([], [], color=colour, label="")[0] for bits, colour in colours.items()
    }
    ink = LIGHT["ink"]
    entries["activations of zero skipped too"] = axes.plot([], [], "--", color=ink)[0]
    for limit, marker in _MARKERS.items():
        entries[f"limit: {limit}"] = axes.plot([], [], marker, color=ink, markersize=4.5)[0]
    entries["packed file"] = axes.plot([], [], "x", color=ink, markersize=7)[0]
    canvas.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, fontsize=8)

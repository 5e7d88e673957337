"""The truth table of compressed execution: rows of a record, claims about them, and their Markdown.

A row of a peer has `name` and `ours`; then `skipped`, the reason, or `kernel`, `version`, `load_s`,
`file_bytes`, `peak_added_bytes`, `traffic_bytes_per_s`, `wer` (see `arms.peer_bench.error_rates`), `cold` and `warm`
(see `arms.peer_bench.chunk_figures`), and of ours `packed_bytes`, `formula_bytes`, `weights` and `stored` (how).
Unknown values are None or missing. A report of products is the output of `replication/az_execution/products.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.report.text import NONE, markdown_table, number

Row = dict[str, Any]
Report = dict[str, Any]
_PRODUCT_BARS = (
    ("product_4_fp32", "4 bits, 50 % zeros", "fp32"),
    ("product_4_int8", "4 bits, 50 % zeros", "int8"),
    ("product_8_int8", "int8, 50 % zeros", "int8"),
)
"""A claim, its layout, and the kind of product with which it is compared."""


def bars(
    rows: Sequence[Row],
    ours: str,
    fewer: str,
    seconds: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Iterator[Row]:
    """Claims about the truth table, as rows of a page's record.

    Args:
        rows: of all peers.
        ours: the layout that is compared with the peers, chunk by chunk.
        fewer: another one, with fewer bits than any peer, without a bar.
        seconds: by peer, `cold` and `warm`, of all chunks of each utterance; intervals of the ratios of means
            resample these in pairs. None: no intervals.

    Raises:
        EdgeSpeechError: that layout or every peer did not run.
    """
    ran = [row for row in rows if "skipped" not in row]
    layouts = [row for row in ran if row["ours"]]
    peers = [row for row in ran if not row["ours"] and "wer" in row]
    subject = next((row for row in layouts if row["name"] == ours), None)
    if subject is None or not peers:
        raise EdgeSpeechError(f"truth table: {ours} and a peer did not both run")
    for figure in ("mean", "p99"):
        for key in ("cold", "warm"):
            best = min(peers, key=lambda row: float(row[key][f"{figure}_s"]))
            for row in (row for row in layouts if row["name"] in (ours, fewer)):
                claim = f"chunk_{figure}" if row is subject else "chunk_fewer_bits"
                told: Row = {
                    "claim": f"az_execution.{claim}",
                    "detail": f"{row['name']}, {figure}, {key}; best peer: {best['name']}",
                    "measured": best[key][f"{figure}_s"] / row[key][f"{figure}_s"],
                    "n": row[key]["n"],
                }
                if figure == "mean" and seconds is not None:
                    told |= _ratio(seconds[best["name"]][key], seconds[row["name"]][key])
                yield told
    ratios = {row["name"]: row["packed_bytes"] / row["formula_bytes"] for row in layouts}
    off = max(ratios, key=lambda name: abs(ratios[name] - 1))
    yield _worst("bytes", off, ratios[off], len(layouts))
    above = {
        row["name"]: (row["peak_added_bytes"] - row["packed_bytes"]) / 1e6
        for row in layouts
        if row["peak_added_bytes"] is not None
    }
    if above:
        most = max(above, key=above.__getitem__)
        yield _worst("memory", most, above[most], len(above))
    slowest = max(layouts, key=lambda row: float(row["load_s"]))
    yield _worst("load", slowest["name"], slowest["load_s"], len(layouts))


def shared(answers: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], streams: int) -> Iterator[Row]:
    """Ratio of a stream's time among several to its time alone, as rows of a page's record.

    Args:
        answers: for `cold` and `warm`, seconds of each chunk by `one` and `together`, for each utterance.
        streams: number of streams in the batch.
    """
    for key, found in answers.items():
        one = [sum(answer["one"]) for answer in found]
        together = [sum(answer["together"]) / streams for answer in found]
        yield {
            "claim": "az_execution.shared",
            "detail": f"{streams} streams, {key}",
            "measured": sum(together) / sum(one),
            "n": sum(len(answer["one"]) for answer in found),
            **_ratio(together, one),
        }


def _ratio(above: Sequence[float], below: Sequence[float]) -> Row:
    """The interval of the ratio of two sums over the same utterances, as fields of a row; empty for a single one."""
    if len(above) < 2:
        return {}
    return bootstrap_ratio(above, below, [None] * len(above), seed=0).as_row()


def product_bars(report: Report) -> Iterator[Row]:
    """Claims about cold products: speed relative to the best of a kind, ours or a peer's."""
    for shape in report["shapes"]:
        seconds = {row["name"]: float(row["cold_s"]) for row in shape["products"]}
        for claim, layout, kind in _PRODUCT_BARS:
            best = min(
                (row["name"] for row in shape["products"] if row["kind"] == kind), key=seconds.__getitem__
            )
            yield {
                "claim": f"az_execution.{claim}",
                "detail": f"{shape['rows']} x {shape['cols']}, {layout} against {best}",
                "measured": seconds[best] / seconds[layout],
                "n": report["rounds"],
            }


def truth_table(rows: Sequence[Row]) -> str:
    """The table of all peers, with reasons for those that did not run."""
    corpora = list(dict.fromkeys(corpus for row in rows for corpus in row.get("wer", ())))
    head = (
        "Peer",
        *(f"WER {corpus} (difference [95 %], points)" for corpus in corpora),
        "File",
        "Bits a weight",
        "Peak memory added",
        "Load",
        "Weights read a second of speech",
        "Chunk cold, mean / P99",
        "Chunk warm, mean / P99",
        "Runs on",
    )
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append((row["name"], *[NONE] * (len(head) - 2), f"not run: {row['skipped']}"))
            continue
        bits = NONE if "weights" not in row else f"{8 * row['packed_bytes'] / row['weights']:.2f}"
        lines.append(
            (
                row["name"],
                *(_rate(row.get("wer", {}).get(corpus)) for corpus in corpora),
                number(row.get("file_bytes"), "bytes"),
                bits,
                number(row["peak_added_bytes"], "bytes"),
                number(row["load_s"], "ms"),
                number(row.get("traffic_bytes_per_s"), "bytes"),
                *(
                    f"{_milliseconds(row[key]['mean_s'])} / {_milliseconds(row[key]['p99_s'])}"
                    for key in ("cold", "warm")
                ),
                f"{row['kernel']} ({row['version']})" + (f"; {row['stored']}" if "stored" in row else ""),
            )
        )
    chunks = next((row for row in rows if "skipped" not in row), None)
    n = "" if chunks is None else f" Chunks: {chunks['cold']['n']} cold, {chunks['warm']['n']} warm."
    return f"{markdown_table(head, lines)}\nTimes of a chunk are milliseconds.{n}\n"


def products_table(report: Report) -> str:
    """Times of single products, cold and warm, and the share of the read bandwidth that the cold ones reach."""
    lines = []
    for shape in report["shapes"]:
        for row in shape["products"]:
            rate = row["bytes"] / row["cold_s"]
            lines.append(
                (
                    f"{shape['rows']} x {shape['cols']}",
                    row["name"],
                    number(row["bytes"], "bytes"),
                    f"{1e6 * row['cold_s']:.1f}",
                    f"{1e6 * row['warm_s']:.1f}",
                    f"{rate / 1e9:.1f}",
                    number(rate / report["read_bytes_per_s"], "percent"),
                )
            )
    head = ("Matrix", "Product", "Weights", "Cold, µs", "Warm, µs", "GB/s, cold", "Of a plain read")
    skipped = "".join(f" Not run: {name} ({reason})." for name, reason in report["skipped"].items())
    return (
        f"{markdown_table(head, lines)}\nOur kernels: {report['isa']}. Medians of {report['rounds']}; a plain read "
        f"of memory: {report['read_bytes_per_s'] / 1e9:.1f} GB/s.{skipped}\n"
    )


def _worst(claim: str, name: str, measured: float, n: int) -> Row:
    """The row of a bar for all layouts."""
    return {"claim": f"az_execution.{claim}", "detail": name, "measured": measured, "n": n}


def _rate(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return NONE
    text = number(rate["wer"], "percent")
    if "difference" in rate:
        difference, low, high = (f"{100 * rate[key]:.2f}" for key in ("difference", "low", "high"))
        text += f" ({difference} [{low}, {high}])"
    return text


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"

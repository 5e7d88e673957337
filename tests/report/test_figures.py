from __future__ import annotations

import csv
import io
from pathlib import Path

from edgespeech.records.records import Figure, Record
from edgespeech.report.figures import COLUMNS, figures_csv, is_same, pack
from helpers_demo import publish_demo
from helpers_records import publish


def lines(records: list[Record]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figures_csv(records))))


def test_every_figure_of_every_record_is_one_line(tmp_path: Path) -> None:
    made = publish(tmp_path, cloud=True)
    found = lines([made])
    accuracy = sum(f is not None for row in made.accuracy.values() for f in (row.wer, row.b_wer, row.u_wer))
    networks = sum(len(row.latency) + 3 for row in made.networks.values())
    assert len(found) == accuracy + 1 + len(made.latency) + networks
    wer = next(line for line in found if (line["metric"], line["normaliser"]) == ("wer", "whisper-en"))
    assert float(wer["value"]) == made.accuracy["whisper-en"].wer.value
    late = next(line for line in found if (line["metric"], line["network"]) == ("upl_p99", "lte"))
    assert (late["value"], late["unit"], late["normaliser"]) == ("inf", "s", "")


def test_a_metric_nobody_knows_here_shows_up(tmp_path: Path) -> None:
    new = Figure(value=3.0, unit="wpm", n=20, definition="brand_new")
    made = publish(tmp_path).model_copy(update={"latency": {"brand_new": new}})
    line = next(line for line in lines([made]) if line["metric"] == "brand_new")
    assert (line["value"], line["unit"], line["values"], line["low"]) == ("3.0", "wpm", "20", "")


def test_figures_that_the_tables_do_not_show_are_marked(tmp_path: Path) -> None:
    old = publish(tmp_path, created="2026-01-01T00:00:00Z")
    new = publish(tmp_path, created="2026-02-01T00:00:00Z")
    shown = {line["run_id"]: line["shown"] for line in lines([new, old])}
    assert shown == {old.run_id: "0", new.run_id: "1"}


def test_the_order_of_records_makes_no_difference(tmp_path: Path) -> None:
    records = publish_demo(tmp_path)
    assert figures_csv(records) == figures_csv(records[::-1])
    assert figures_csv([]) == ",".join(COLUMNS) + "\n"


def test_a_packed_file_is_compared_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "figures.csv.gz"
    assert not is_same(path, "a\n")
    path.write_bytes(pack("a\n"))
    assert is_same(path, "a\n")
    assert not is_same(path, "b\n")
    assert pack("a\n") == pack("a\n")
    path.write_bytes(b"not gzip")
    assert not is_same(path, "a\n")

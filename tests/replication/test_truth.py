"""The truth table: what its rows are held to, and how they are shown."""

from __future__ import annotations

from typing import Any

import pytest
from replication.az_execution.truth import bars, product_bars, products_table, shared, truth_table

from edgespeech.errors import EdgeSpeechError


def row(name: str, *, ours: bool, mean: float = 1e-3, **changes: Any) -> dict[str, Any]:
    figures = {"mean_s": mean, "p99_s": 2 * mean, "n": 50}
    made: dict[str, Any] = {
        "name": name, "ours": ours, "kernel": "avx2", "version": "1", "load_s": 0.01,
        "file_bytes": 5_000_000, "peak_added_bytes": 6_500_000, "traffic_bytes_per_s": 1e8,
        "wer": {"toy": {"wer": 0.125, "n": 9, "difference": 0.0015, "low": -0.001, "high": 0.004}},
        "warm": figures, "cold": {**figures, "mean_s": 10 * mean, "p99_s": 30 * mean},
    }  # fmt: skip
    if ours:
        made |= {
            "packed_bytes": 4_000_000,
            "formula_bytes": 4_000_000.0,
            "weights": 4_000_000,
            "stored": "8 bits x 2",
        }
    return {**made, **changes}


ROWS = [
    row("int8", ours=True),
    row("4 bits", ours=True, packed_bytes=2_060_000, formula_bytes=2_000_000.0, load_s=0.02),
    row("slow", ours=False, mean=9e-3),
    row("quick", ours=False, mean=4e-3, cold={"mean_s": 0.1, "p99_s": 0.12, "n": 50}),
    {"name": "gone", "ours": False, "skipped": "not installed"},
    {key: value for key, value in row("features", ours=False, mean=1e-9).items() if key != "wer"},
]


def test_ours_is_held_against_the_best_peer_of_each_figure() -> None:
    found = {
        (one["claim"].partition(".")[2], one["detail"]): one["measured"]
        for one in bars(ROWS, "int8", "4 bits")
    }
    assert found == {
        ("chunk_mean", "int8, mean, cold; best peer: slow"): pytest.approx(9),
        ("chunk_mean", "int8, mean, warm; best peer: quick"): pytest.approx(4),
        ("chunk_p99", "int8, p99, cold; best peer: quick"): pytest.approx(4),
        ("chunk_p99", "int8, p99, warm; best peer: quick"): pytest.approx(4),
        ("chunk_fewer_bits", "4 bits, mean, cold; best peer: slow"): pytest.approx(9),
        ("chunk_fewer_bits", "4 bits, mean, warm; best peer: quick"): pytest.approx(4),
        ("chunk_fewer_bits", "4 bits, p99, cold; best peer: quick"): pytest.approx(4),
        ("chunk_fewer_bits", "4 bits, p99, warm; best peer: quick"): pytest.approx(4),
        ("bytes", "4 bits"): pytest.approx(1.03),
        ("memory", "4 bits"): pytest.approx(4.44),
        ("load", "4 bits"): 0.02,
    }


def test_bytes_below_the_formula_are_off_too() -> None:
    rows = [*ROWS, row("lost", ours=True, packed_bytes=1_900_000, formula_bytes=2_000_000.0)]
    (found,) = [one for one in bars(rows, "int8", "4 bits") if one["claim"] == "az_execution.bytes"]
    assert (found["detail"], found["measured"], found["n"]) == ("lost", 0.95, 3)


def test_memory_that_nobody_knows_has_no_bar() -> None:
    rows = [{**one, "peak_added_bytes": None} for one in ROWS]
    assert "az_execution.memory" not in {one["claim"] for one in bars(rows, "int8", "4 bits")}
    assert "| \N{EN DASH} |" in truth_table(rows)


@pytest.mark.parametrize("rows", [ROWS[1:], ROWS[:2], [*ROWS[:2], *ROWS[4:]]])
def test_a_comparison_needs_both_sides(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(EdgeSpeechError, match="int8 and a peer did not both run"):
        list(bars(rows, "int8", "4 bits"))


def test_the_share_of_a_stream_is_that_of_the_time_together() -> None:
    answers = [{"one": [1.0, 2.0], "together": [6.0, 6.0]}, {"one": [1.0], "together": [4.0]}]
    (found,) = shared({"warm": answers}, 8)
    assert (found["measured"], found["n"], found["detail"]) == (0.5, 3, "8 streams, warm")


def test_the_truth_table_shows_every_peer() -> None:
    lines = truth_table(ROWS).splitlines()
    int8, four, *_, gone, features = lines[2:8]
    assert "12.5 % (0.15 [-0.10, 0.40])" in int8
    assert (
        "| 5.0 MB | 8.00 | 6.5 MB | 10 ms | 100.0 MB | 10.000 / 30.000 | 1.000 / 2.000 | avx2 (1); 8 bits x 2 |"
        in int8
    )
    assert "| 4.12 |" in four
    assert gone.endswith("| not run: not installed |")
    assert features.startswith("| features | \N{EN DASH} |")
    assert "50 cold, 50 warm" in lines[-1]


REPORT = {
    "isa": "avx2",
    "rounds": 3,
    "read_bytes_per_s": 4e9,
    "skipped": {"onnx_peers": "no onnx"},
    "shapes": [
        {
            "rows": 8,
            "cols": 4,
            "products": [
                {"name": name, "kind": kind, "bytes": 4000, "cold_s": cold, "warm_s": 1e-6}
                for name, kind, cold in (
                    ("int8", "int8", 4e-6),
                    ("int8, 50 % zeros", "other", 2e-6),
                    ("4 bits, 50 % zeros", "other", 1e-6),
                    ("a fp32", "fp32", 12e-6),
                    ("b fp32", "fp32", 10e-6),
                    ("b int8", "int8", 3e-6),
                )
            ],
        }
    ],
}


def test_products_are_held_against_the_best_of_their_kind() -> None:
    found = [(one["claim"].partition(".")[2], one["detail"], one["measured"]) for one in product_bars(REPORT)]
    assert found == [
        ("product_4_fp32", "8 x 4, 4 bits, 50 % zeros against b fp32", pytest.approx(10)),
        ("product_4_int8", "8 x 4, 4 bits, 50 % zeros against b int8", pytest.approx(3)),
        ("product_8_int8", "8 x 4, int8, 50 % zeros against b int8", pytest.approx(1.5)),
    ]


def test_the_table_of_products_shows_the_share_of_the_bandwidth() -> None:
    text = products_table(REPORT)
    assert "| 8 x 4 | 4 bits, 50 % zeros | 4.0 kB | 1.0 | 1.0 | 4.0 | 100.0 % |" in text
    assert "Not run: onnx_peers (no onnx)." in text
    assert "a plain read of memory: 4.0 GB/s" in text


def test_ratios_of_means_have_intervals_over_utterances() -> None:
    seconds = {row["name"]: {key: [1.0, 2.0, 3.0] for key in ("cold", "warm")} for row in ROWS}
    found = [
        one for one in bars(ROWS, "int8", "4 bits", seconds) if one["claim"] == "az_execution.chunk_mean"
    ]
    assert [(one["low"], one["high"]) for one in found] == [(1.0, 1.0)] * 2
    assert {one["resampled"] for one in found} == {("utterances",)}
    answers = [{"one": [1.0, 1.0], "together": [2.0, 2.0]}, {"one": [2.0], "together": [1.0]}]
    for one in shared({"warm": answers}, 2):
        assert one["low"] <= one["measured"] == 2.5 / 4 <= one["high"]

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from replication.az_execution.processors import (
    Row,
    accelerator_plot,
    accelerator_table,
    claims_table,
    limits_table,
    model_rows,
    numbers_table,
    swept_rows,
)

from edgespeech.arms.accelerator import NUMBERS, Numbers, Workload, execute, load_numbers
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.edge_file import Tensor, write_edge
from edgespeech.packed.pack import EMBEDDING
from helpers_edge import random_codes

BITS = (8, 4)
SPARSITIES = (0.0, 0.05, 0.5)


def model(bits: int, sparsity: float | None) -> dict[str, Tensor]:
    rng = np.random.default_rng(bits)
    return {
        "transcriber.a": random_codes(rng, (128, 130), bits, 0, sparsity=sparsity, codebook=False),
        "transcriber.bias": rng.random((1, 128), np.float32),
        EMBEDDING: random_codes(rng, (6, 16), 8, 0, sparsity=None, codebook=False),
        "joiner.weight": random_codes(rng, (64, 64), bits, 0, sparsity=sparsity, codebook=False),
    }


@pytest.fixture(scope="module")
def numbers() -> Numbers:
    return load_numbers(NUMBERS)


@pytest.fixture(scope="module")
def workload() -> Workload:
    rng = np.random.default_rng(0)
    inputs = {
        "transcriber.a": rng.standard_normal((3, 130), np.float32),
        "joiner.weight": np.maximum(rng.standard_normal((3, 64), np.float32), 0),
    }
    return Workload(
        audio_s=2.0, calls={"transcriber": 50, "predictor": 4, "joiner": 60}, lookups=8, inputs=inputs
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, numbers: Numbers, workload: Workload) -> list[Row]:
    folder = tmp_path_factory.mktemp("edge")
    layouts: dict[str, dict[str, Tensor]] = {
        "dense": model(8, None),
        "sparse": model(4, 0.5),
        "floats": {"transcriber.a": np.ones((2, 2), np.float32)},
    }
    files = {}
    for name, tensors in layouts.items():
        files[name] = folder / f"{name}.edge"
        write_edge(files[name], tensors, {})
    made = list(model_rows(files, numbers.processors, workload))
    made += swept_rows(model(8, None), numbers.processors, workload, bits=BITS, sparsities=SPARSITIES)
    again: list[Row] = json.loads(json.dumps(made))  # as a record gives them back
    assert again == made
    return again


def test_a_row_is_what_the_model_says(rows: list[Row], numbers: Numbers, workload: Workload) -> None:
    assert len(rows) == 2 * 2 * 2 + 1 + len(BITS) * len(SPARSITIES) * 2 * 2
    row = next(row for row in rows if row["layout"] == "sparse" and row["skips_activations"])
    one = next(one for one in numbers.processors if one.name == row["processor"])
    done = execute(model(4, 0.5), one, workload, skip_activations=True)
    assert row["time_s"] == done.time_s
    assert row["energy_j"] == done.energy_j
    assert row["packed_bytes"] == done.packed_bytes
    assert (row["bits"], row["swept"]) == (4, False)
    assert row["sparsity"] == pytest.approx(0.5, abs=0.02)


def test_what_cannot_run_says_why_once(rows: list[Row]) -> None:
    (row,) = [row for row in rows if "skipped" in row]
    assert row["layout"] == "floats"
    lines = [line for line in accelerator_table(rows).splitlines() if line.startswith("| floats |")]
    assert len(lines) == 1
    assert "not run: tensor transcriber.a" in lines[0]


def test_a_missing_file_is_an_error(tmp_path: Path, numbers: Numbers, workload: Workload) -> None:
    with pytest.raises(EdgeSpeechError, match="could not be read"):
        list(model_rows({"x": tmp_path / "x.edge"}, numbers.processors, workload))


def test_the_table_has_files_alone_and_says_that_energy_is_modelled(rows: list[Row]) -> None:
    table = accelerator_table(rows)
    assert table.count("\n| dense |") == table.count("\n| sparse |") == 4
    assert "8 bits, 0 % zeros" not in table
    assert "energy is modelled" in table


def row_of(layout: str, *, swept: bool = False, **changes: object) -> Row:
    times = {"dram": 0.0, "sram": 0.0, "decoder": 0.0, "array": 0.75, "imbalance": 0.25}
    return {
        "layout": layout,
        "swept": swept,
        "processor": "p",
        "skips_activations": False,
        "bits": 8,
        "sparsity": 0.5,
        "packed_bytes": 1000,
        "resident_bytes": 0,
        "dram_bytes": 0.0,
        "macs": 0.0,
        "time_s": 1.0,
        "energy_j": 1.0,
        "imbalance": 1.25,
        "decoder_needed": 1.0,
        "times": times,
        **changes,
    }


def test_limits_are_the_longest_parts() -> None:
    waiting = {"dram": 0.0, "sram": 0.0, "decoder": 0.0, "array": 0.4, "imbalance": 0.6}
    made = [
        row_of("8 bits, 5 % zeros", swept=True),
        row_of("8 bits, 90 % zeros", swept=True, times=waiting),
        row_of("a file"),
    ]
    lines = limits_table(made).splitlines()
    assert lines[0] == "| Processor | Zeros skipped | Bits | 5 % | 90 % |"
    assert lines[2] == "| p | weights | 8 | array (waiting 25 %) | imbalance (waiting 60 %) |"
    assert "a file" not in "".join(lines)


def test_claims_stand_beside_what_a_layout_gains(numbers: Numbers) -> None:
    made = [
        row_of("dense"),
        row_of("best", time_s=0.25, energy_j=0.1, packed_bytes=300),
        row_of("other", time_s=0.2, energy_j=0.5, packed_bytes=100),
    ]
    lines = {line.split(" | ")[0]: line for line in claims_table(numbers.claims, made, "dense").splitlines()}
    beside = {claim.measure: lines[f"| {claim.statement}"].split(" | ")[1:3] for claim in numbers.claims}
    assert beside["speed"] == ["2 times", "4 times (best, p)"]
    assert beside["energy"] == ["20 times", "10 times (best, p)"]
    assert beside["memory"] == ["85 % less", "70 % less (best, p)"]
    assert beside["none"] == ["22 times", "\u2013"]


def test_claims_stand_alone_without_a_layout_to_compare(numbers: Numbers) -> None:
    for made in ([], [row_of("dense")], [row_of("other")]):
        assert " times (" not in claims_table(numbers.claims, made, "dense")


def test_every_number_has_its_source(numbers: Numbers) -> None:
    table = numbers_table(numbers.processors)
    for one in numbers.processors:
        for name, source in one.sources.items():
            line = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
            assert source in line
            assert f" {getattr(one, name):g} " in line


def test_the_plot_is_the_same_every_time_and_shows_every_width(rows: list[Row]) -> None:
    svg = accelerator_plot(rows)
    assert svg == accelerator_plot(rows)
    for text in (
        "8 bits",
        "4 bits",
        "modelled energy, mJ",
        "weights-on-chip",
        "weights-off-chip",
        "limit: decoder",
    ):
        assert f">{text}<" in svg
    assert svg != accelerator_plot([row for row in rows if row["layout"] != "sparse"])

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from edgespeech.arms.accelerator import (
    NUMBERS,
    Processor,
    Workload,
    execute,
    load_numbers,
    multiply,
    sparsity_of,
    thinned,
)
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes, dequantise
from edgespeech.packed.edge_file import Tensor, sections, write_edge
from edgespeech.packed.loader import EdgeFile
from edgespeech.packed.pack import EMBEDDING
from edgespeech.packed.reference import quantise_activations
from helpers_edge import get, random_codes

SHIPPED = NUMBERS
FREE = 1 << 40
"""Of bytes or of bytes a second: enough never to matter."""


def processor(**changes: Any) -> Processor:
    numbers = {
        "pes": 4,
        "clock_hz": 100.0e6,
        "window": 8,
        "decoder_codes_per_cycle": 4,
        "sram_bytes": 0,
        "sram_bytes_per_cycle": FREE,
        "dram_bytes_per_s": FREE,
        "mac_pj": 1.0,
        "dram_pj_per_byte": 0.0,
        "sram_pj_per_byte": 0.0,
        "activation_pj_per_byte": 0.0,
    }
    return Processor.model_validate({"name": "p", "sources": {}, **numbers, **changes})


def workload(**inputs: NDArray[np.float32]) -> Workload:
    """Two seconds in which the transcriber ran 50 times, the predictor and the joiner less often."""
    named = {name.replace("_", "."): x for name, x in inputs.items()}
    return Workload(
        audio_s=2.0, calls={"transcriber": 50, "predictor": 6, "joiner": 10}, lookups=12, inputs=named
    )


def matrix(
    shape: tuple[int, int], sparsity: float | None = None, *, bits: int = 8, group: int = 0, seed: int = 0
) -> Codes:
    return random_codes(
        np.random.default_rng(seed), shape, bits, group, sparsity=sparsity, codebook=bits == 4
    )


def model(sparsity: float | None = 0.5, bits: int = 5) -> dict[str, Tensor]:
    rng = np.random.default_rng(1)
    return {
        "transcriber.mean": rng.random((1, 80), np.float32),
        "transcriber.a": matrix((8, 70), sparsity, bits=bits, seed=2),
        "transcriber.b": matrix((12, 24), sparsity, bits=bits, group=64, seed=3),
        EMBEDDING: matrix((6, 16), bits=8, seed=4),
        "predictor.c": matrix((4, 33), sparsity, bits=bits, seed=5),
        "joiner.weight": matrix((4, 16), sparsity, bits=bits, seed=6),
        "joiner.bias": rng.random((1, 6)).astype(np.float16),
    }


class TestBytesAreTheFiles:
    @pytest.mark.parametrize("bits", range(2, 9))
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 1.0])
    def test_every_section_lies_where_its_length_says(
        self, tmp_path: Path, bits: int, sparsity: float | None
    ) -> None:
        tensors: dict[str, Tensor] = {
            f"{rows} x {cols}, group {group}": matrix((rows, cols), sparsity, bits=bits, group=group)
            for rows, cols in [(1, 1), (3, 64), (5, 65), (7, 200)]
            for group in (0, 64)
        }
        tensors |= {"f": np.ones((2, 3), np.float32), "h": np.ones((1, 7), np.float16)}
        write_edge(tmp_path / "x.edge", tensors, {})
        content = (tmp_path / "x.edge").read_bytes()
        at = get(content, "meta_offset") + get(content, "meta_bytes")
        for index, tensor in enumerate(tensors.values()):
            lengths = sections(tensor)
            assert lengths.values == get(content, "values_bytes", index)
            for name, length in lengths._asdict().items():
                if length or name == "values":
                    at += -at % 64
                    assert at == get(content, f"{name}_offset", index), name
                    at += length
        assert at + -at % 64 + 64 == len(
            content
        )  # nothing of the file is left over but what follows the last

    @pytest.mark.parametrize("sparsity", [None, 0.5])
    @pytest.mark.parametrize("bits", [3, 4, 8])
    def test_the_whole_models_are_what_the_native_loader_counts(
        self, tmp_path: Path, bits: int, sparsity: float | None
    ) -> None:
        tensors = model(sparsity, bits)
        write_edge(tmp_path / "x.edge", tensors, {})
        done = execute(tensors, processor(), workload())
        with EdgeFile(tmp_path / "x.edge") as file:
            assert done.packed_bytes == file.packed_bytes

    def test_traffic_is_each_tensors_bytes_as_often_as_it_is_called(self) -> None:
        done = execute(model(), processor(), workload())
        calls = {"transcriber": 25.0, "predictor": 3.0, "joiner": 5.0}  # a second
        wanted = 0.0
        for name, tensor in model().items():
            size = sum(sections(tensor))
            wanted += size / 6 * 12 / 2 if name == EMBEDDING else size * calls[name.partition(".")[0]]
        assert done.dram_bytes == pytest.approx(wanted, rel=1e-12)


class TestDenseIsTheRoofline:
    @pytest.mark.parametrize("shape", [(4, 8), (4, 1), (8, 70), (64, 63), (128, 320)])
    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("resident", [False, True])
    @pytest.mark.parametrize("rate", [1.0e6, 1.0e9, 4.0e12])
    def test_exactly_max_of_macs_and_bytes(
        self, shape: tuple[int, int], bits: int, resident: bool, rate: float
    ) -> None:
        one = processor(
            sram_bytes=FREE if resident else 0, sram_bytes_per_cycle=rate / 100.0e6, dram_bytes_per_s=rate
        )
        weights = matrix(shape, bits=bits)
        (step,) = execute({"transcriber.a": weights}, one, workload()).steps
        rows, cols = shape
        compute_s = rows * cols / 4 / 100.0e6
        memory_s = sum(sections(weights)) / rate
        assert step.time_s == max(compute_s, memory_s)
        assert step.waiting_s == 0
        assert step.product.macs == rows * cols

    @pytest.mark.parametrize("one", load_numbers(SHIPPED).processors, ids=lambda one: one.name)
    def test_of_the_shipped_processors_and_a_models_shapes(self, one: Processor) -> None:
        shapes = {"a": (1280, 320), "b": (320, 320), "c": (256, 320), "d": (192, 256)}
        for name, shape in shapes.items():
            (step,) = execute({f"transcriber.{name}": matrix(shape)}, one, workload()).steps
            compute_s = shape[0] * shape[1] / one.pes / one.clock_hz
            dram_s = (step.packed_bytes - step.resident_bytes) / one.dram_bytes_per_s
            sram_s = step.resident_bytes / one.sram_bytes_per_cycle / one.clock_hz
            assert step.time_s == max(compute_s, dram_s, sram_s)

    def test_a_last_round_that_leaves_elements_idle_costs_as_much_as_a_full_one(self) -> None:
        ragged = multiply(matrix((5, 70)), processor())
        assert ragged.cycles == multiply(matrix((8, 70)), processor()).cycles == 8 * 70 / 4
        assert ragged.macs == 5 * 70

    def test_the_whole_model_is_the_sum_of_its_tensors(self) -> None:
        done = execute(model(None), processor(dram_bytes_per_s=1.0e8), workload())
        wanted = sum(
            step.reads * max(step.product.macs / 4 / 100.0e6, step.packed_bytes / 1.0e8)
            for step in done.steps
        )
        assert done.time_s == wanted


def slow_product(codes: Codes, one: Processor, x: NDArray[np.float32] | None) -> tuple[list[int], list[int]]:
    """Cycles and multiply-accumulates of each vector, weight by weight."""
    vectors: Any = [None] if x is None else quantise_activations(x)[0]
    all_cycles, all_macs = [], []
    for q in vectors:
        cycles = macs = 0
        for first in range(0, codes.rows, one.pes):
            for start in range(0, codes.cols, one.window):
                slowest = 1
                for row in range(first, min(first + one.pes, codes.rows)):
                    mine = 0
                    for column in range(start, min(start + one.window, codes.cols)):
                        stored = codes.mask is None or bool(codes.mask[row, column])
                        mine += stored and (q is None or q[column] != 0)
                    macs += mine
                    slowest = max(slowest, mine)
                cycles += slowest
        all_cycles.append(cycles)
        all_macs.append(macs)
    return all_cycles, all_macs


class TestZerosAreSkipped:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 7), (4, 8), (5, 9), (9, 33)])
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 0.9, 1.0])
    @pytest.mark.parametrize("vectors", [0, 1, 3])
    def test_as_its_slow_twin(self, shape: tuple[int, int], sparsity: float | None, vectors: int) -> None:
        rng = np.random.default_rng(shape[1])
        x = None
        if vectors:
            x = rng.standard_normal((vectors, shape[1]), np.float32) * (rng.random((vectors, shape[1])) < 0.6)
            x = x.astype(np.float32)
        weights = matrix(shape, sparsity)
        for pes, window in [(1, 1), (4, 8), (3, 5), (64, 128)]:
            one = processor(pes=pes, window=window)
            found = multiply(weights, one, x)
            cycles, macs = slow_product(weights, one, x)
            assert found.cycles == sum(cycles) / len(cycles)
            assert found.macs == sum(macs) / len(macs)
            assert found.codes == weights.non_zeros

    def test_rows_with_equally_many_weights_wait_for_nothing(self) -> None:
        weights = matrix((8, 16), 0.0)
        mask = np.tile(np.array([True, False]), (8, 8))
        half = replace(weights, mask=mask, codes=np.where(mask, weights.codes, np.uint8(0)))
        (step,) = execute({"transcriber.a": half}, processor(), workload()).steps
        assert step.time_s == 8 * 8 / 4 / 100.0e6
        assert step.waiting_s == 0

    def test_one_full_row_makes_all_wait(self) -> None:
        weights = matrix((4, 16), 0.0)
        mask = np.zeros((4, 16), np.bool_)
        mask[0] = True
        full = replace(weights, mask=mask, codes=np.where(mask, weights.codes, np.uint8(0)))
        done = execute({"transcriber.a": full}, processor(), workload())
        assert done.imbalance == 4
        assert done.times["imbalance"] == pytest.approx(0.75 * done.time_s)

    def test_activations_that_round_to_zero_are_skipped(self) -> None:
        x = np.array([[127.0, 0.4, 0.6, 0.0]], np.float32)
        one = processor(pes=1)
        found = multiply(matrix((1, 4)), one, x)
        assert found.macs == 2
        done = execute(
            {"transcriber.a": matrix((1, 4))}, one, workload(transcriber_a=x), skip_activations=True
        )
        assert done.macs == 2 * 25
        assert done.skips_activations


class TestLimits:
    def test_each_part_can_be_the_slowest(self) -> None:
        tensors = {"transcriber.a": matrix((8, 64))}
        for limit, changes in {
            "dram": {"dram_bytes_per_s": 1.0e3},
            "sram": {"sram_bytes": FREE, "sram_bytes_per_cycle": 1.0e-3},
            "decoder": {"decoder_codes_per_cycle": 0.5},
            "array": {},
        }.items():
            times = execute(tensors, processor(**changes), workload()).times
            assert max(times, key=times.__getitem__) == limit

    @pytest.mark.parametrize("skip", [False, True])
    def test_the_times_of_the_parts_add_up(self, skip: bool) -> None:
        rng = np.random.default_rng(0)
        inputs = {
            name: rng.standard_normal((3, codes.cols), np.float32)
            for name, codes in model().items()
            if isinstance(codes, Codes)
        }
        given = replace(workload(), inputs=inputs)
        done = execute(model(), processor(dram_bytes_per_s=3.0e8), given, skip_activations=skip)
        assert sum(done.times.values()) == pytest.approx(done.time_s, rel=1e-12)
        assert all(time >= 0 for time in done.times.values())

    def test_the_decoder_needed_is_where_it_starts_to_cost(self) -> None:
        free = processor(decoder_codes_per_cycle=FREE)
        before = execute(model(), free, workload())
        needed = before.decoder_needed
        enough = execute(model(), processor(decoder_codes_per_cycle=needed), workload())
        less = execute(model(), processor(decoder_codes_per_cycle=0.99 * needed), workload())
        assert enough.time_s == pytest.approx(before.time_s, rel=1e-12)
        assert less.time_s > before.time_s * (1 + 1e-6)

    def test_the_most_frequently_read_tensors_are_in_sram(self) -> None:
        sizes = {name: sum(sections(tensor)) for name, tensor in model().items()}
        transcriber = sum(size for name, size in sizes.items() if name.startswith("transcriber"))
        done = execute(model(), processor(sram_bytes=transcriber + 5), workload())
        kept = {step.name: step.resident_bytes for step in done.steps}
        for name, size in sizes.items():
            if name.startswith("transcriber"):
                assert kept[name] == size
        assert kept["joiner.weight"] == 5  # as much of it as fits
        assert kept["predictor.c"] == kept[EMBEDDING] == 0
        assert done.resident_bytes == transcriber + 5
        assert execute(model(), processor(sram_bytes=FREE), workload()).dram_bytes == 0

    def test_energy_by_hand(self) -> None:
        prices = {"mac_pj": 2.0, "dram_pj_per_byte": 100.0, "sram_pj_per_byte": 10.0}
        one = processor(**prices, activation_pj_per_byte=1.0, sram_bytes=30)
        # 5 x 10 codes of 8 bits and 5 scales: 70 bytes, 30 of them in SRAM. Two rounds read 10 inputs each.
        done = execute({"transcriber.a": matrix((5, 10))}, one, workload())
        assert done.energy_j == pytest.approx(25 * (50 * 2 + 40 * 100 + 30 * 10 + (20 + 20)) * 1e-12)


class TestThinned:
    @pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
    def test_the_smallest_weights_go(self, sparsity: float) -> None:
        before = model(None, bits=8)
        after = thinned(before, 8, sparsity)
        assert sparsity_of(after) == pytest.approx(sparsity, abs=0.02)
        assert after[EMBEDDING] is before[EMBEDDING]
        assert after["joiner.bias"] is before["joiner.bias"]
        was, is_ = before["transcriber.a"], after["transcriber.a"]
        assert isinstance(was, Codes)
        assert isinstance(is_, Codes)
        assert (is_.mask is None) == (sparsity == 0)
        if is_.mask is not None:
            size = np.abs(dequantise(was))
            assert size[~is_.mask].max() <= size[is_.mask].min()

    def test_a_matrix_of_one_weight_keeps_it(self) -> None:
        (codes,) = thinned({"joiner.weight": matrix((1, 1))}, 8, 0.9).values()
        assert isinstance(codes, Codes)
        assert codes.non_zeros == 1

    @pytest.mark.parametrize("sparsity", [-0.1, 1.0])
    def test_a_share_that_is_none_is_refused(self, sparsity: float) -> None:
        with pytest.raises(EdgeSpeechError, match="sparsity"):
            thinned(model(), 8, sparsity)


class TestBadInput:
    def test_a_matrix_of_floats_cannot_be_multiplied(self) -> None:
        with pytest.raises(EdgeSpeechError, match=r"transcriber\.a.*float32.*codes"):
            execute({"transcriber.a": np.ones((2, 2), np.float32)}, processor(), workload())

    def test_but_an_embedding_of_floats_is_looked_up(self) -> None:
        done = execute({EMBEDDING: np.ones((6, 2), np.float32)}, processor(), workload())
        assert done.dram_bytes == pytest.approx(6 * 8)  # twelve rows of 8 bytes in two seconds

    def test_a_part_that_never_ran(self) -> None:
        with pytest.raises(EdgeSpeechError, match="encoder"):
            execute({"encoder.a": matrix((2, 2))}, processor(), workload())

    def test_no_inputs_to_find_zeros_in(self) -> None:
        with pytest.raises(EdgeSpeechError, match=r"inputs is 'transcriber\.a'"):
            execute({"transcriber.a": matrix((2, 2))}, processor(), workload(), skip_activations=True)

    @pytest.mark.parametrize("shape", [(0, 4), (2, 3), (4,)])
    def test_inputs_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(EdgeSpeechError, match="shape of x"):
            multiply(matrix((2, 4)), processor(), np.ones(shape, np.float32))

    def test_no_speech(self) -> None:
        with pytest.raises(EdgeSpeechError, match="audio_s"):
            execute(model(), processor(), replace(workload(), audio_s=0.0))


class TestNumbers:
    def test_the_shipped_file(self) -> None:
        numbers = load_numbers(SHIPPED)
        for one in numbers.processors:
            assert set(one.sources) == set(Processor.model_fields) - {"name", "sources"}
            # Dense weights never wait for the decoder.
            assert one.decoder_codes_per_cycle >= one.pes
        assert {claim.measure for claim in numbers.claims} >= {"speed", "energy", "memory"}

    def test_the_array_is_eies(self) -> None:
        # EIE's abstract: 102 GOP/s, a multiply-accumulate being two.
        for one in load_numbers(SHIPPED).processors:
            assert round(2 * one.pes * one.clock_hz / 1e9) == 102

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema_version": 2}, "schema_version"),
            ({"extra": 1}, "unknown key 'extra'"),
            ({"processors": {}}, "processors"),
            ({"shared": {"pes": {"value": 4}}}, "source is missing"),
            ({"shared": {"pes": {"value": 4, "source": ""}}}, "source"),
            ({"shared": {"pes": {"value": -4, "source": "x"}}}, "pes"),
            ({"shared": {"pes": {"value": float("nan"), "source": "x"}}}, "pes"),
            ({"processors": {"p": {"pes": {"value": 2.5, "source": "x"}}}}, "processor p: pes is 2.5"),
            ({"processors": {"p": {"cores": {"value": 2, "source": "x"}}}}, "processor p: key is 'cores'"),
            ({"processors": {"p": {}}}, "processor p: sram_bytes"),
            ({"claims": [{"statement": "x", "measure": "size", "claimed": 1, "source": "y"}]}, "measure"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        content = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump({**content, **change}), encoding="utf-8")
        with pytest.raises(EdgeSpeechError, match=message) as caught:
            load_numbers(path)
        assert str(path) in str(caught.value)

    def test_no_file_and_no_yaml(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeSpeechError, match="could not be read"):
            load_numbers(tmp_path / "none.yaml")
        (tmp_path / "x.yaml").write_text("a: [", encoding="utf-8")
        with pytest.raises(EdgeSpeechError, match="not YAML"):
            load_numbers(tmp_path / "x.yaml")

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes, dequantise, lloyd_max, quantise
from edgespeech.packed.edge_file import Tensor, bits_per_weight, read_edge, write_edge
from helpers_edge import ENTRY, HEADER, SPARSE, get, random_codes, seal, small, there_and_back

SHAPES = [(1, 1), (1, 63), (3, 64), (5, 65), (7, 200)]


class TestThereAndBack:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("group", [0, 64, 128])
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 1.0])
    def test_every_layout(
        self, folder: Path, shape: tuple[int, int], group: int, sparsity: float | None
    ) -> None:
        rng = np.random.default_rng(shape[1])
        tensors = {
            f"{bits} bits, {'codebook' if codebook else 'uniform'}": random_codes(
                rng, shape, bits, group, sparsity=sparsity, codebook=codebook
            )
            for bits in range(2, 9)
            for codebook in (False, True)
            if bits <= 6 or not codebook
        }
        assert len(tensors) == 12
        there_and_back(folder, tensors, {"sparsity": sparsity})

    @pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
    def test_quantised_weights(self, folder: Path, sparsity: float) -> None:
        rng = np.random.default_rng(0)
        weights = rng.standard_normal((7, 200), np.float32)
        mask = rng.random(weights.shape) >= sparsity
        mask[3] = False
        tensors = {
            "u": quantise(weights, bits=5, group=64, mask=mask),
            "l": lloyd_max(weights, bits=4, mask=mask),
        }
        found = there_and_back(folder, tensors, {}).tensors
        for name, tensor in tensors.items():
            again = found[name]
            assert isinstance(again, Codes)
            assert (dequantise(again) == dequantise(tensor)).all()
            assert not dequantise(again)[3].any()

    def test_floats_are_stored_bit_by_bit(self, folder: Path) -> None:
        odd = np.array([[0.0, -0.0, np.inf, np.nan, 1e-45, -3.5]])
        with np.errstate(all="ignore"):
            there_and_back(folder, {"a": odd.astype(np.float32), "b": odd.astype(np.float16)}, {})

    def test_big_endian_and_strided_arrays_are_stored_as_what_they_hold(self, folder: Path) -> None:
        values = np.arange(12, dtype=np.float32).reshape(3, 4)
        write_edge(folder / "x.edge", {"a": values.astype(">f4"), "b": values.T, "c": values[:, ::2]}, {})
        found = read_edge(folder / "x.edge").tensors
        for name, wanted in (("a", values), ("b", values.T), ("c", values[:, ::2])):
            array = found[name]
            assert not isinstance(array, Codes)
            assert array.dtype == np.float32
            assert (array == wanted).all()

    def test_no_tensors_and_meta_of_every_kind(self, folder: Path) -> None:
        there_and_back(folder, {}, {})
        there_and_back(folder, {}, {"ü": ["é", 1, -2.5, None, True, {"a": {}}], "": "\0\n\u2028"})

    def test_names_of_every_length(self, folder: Path) -> None:
        one = np.zeros((1, 1), np.float32)
        there_and_back(folder, {"a": one, "b" * 56: one, "ü" * 28: one, " ": one}, {})

    def test_the_same_model_gives_the_same_bytes(self, folder: Path, content: bytes) -> None:
        write_edge(folder / "again.edge", small(), {"name": "small"})
        assert (folder / "again.edge").read_bytes() == content
        for meta in ({"b": 1, "a": 2}, {"a": 2, "b": 1}):
            write_edge(folder / f"{next(iter(meta))}.edge", small(), meta)
        assert (folder / "a.edge").read_bytes() == (folder / "b.edge").read_bytes()

    @settings(deadline=None)
    @given(st.data())
    def test_any_tensors(self, folder: Path, data: st.DataObject) -> None:
        tensors: dict[str, Tensor] = {}
        for name in data.draw(st.lists(st.text("abcé.0", min_size=1, max_size=28), max_size=4, unique=True)):
            shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 140)))
            rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
            if data.draw(st.integers(0, 3)) == 0:
                tensors[name] = rng.standard_normal(shape).astype(data.draw(st.sampled_from(["f4", "f2"])))
                continue
            bits = data.draw(st.integers(2, 8))
            tensors[name] = random_codes(
                rng,
                shape,
                bits,
                data.draw(st.sampled_from([0, 64, 128, 2**32 - 64])),
                sparsity=data.draw(st.sampled_from([None, 0.0, 0.3, 0.9, 1.0])),
                codebook=bits <= 6 and data.draw(st.booleans()),
            )
        json_values = st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text('aé"'),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
            max_leaves=5,
        )
        there_and_back(folder, tensors, data.draw(st.dictionaries(st.text("abc"), json_values, max_size=3)))


class TestLayout:
    def test_header_and_table(self, content: bytes) -> None:
        header = {field: get(content, field) for field in HEADER}
        assert header.pop("magic") == b"EDGESPCH"
        assert (header["version"], header["tensor_count"], header["table_offset"]) == (1, 5, 64)
        assert header["file_bytes"] == len(content)
        assert len(content) % 64 == header["meta_offset"] % 64 == 0
        assert json.loads(content[header["meta_offset"] :][: header["meta_bytes"]]) == {"name": "small"}
        assert seal(content) == content
        sparse = {field: get(content, field, SPARSE) for field in ENTRY}
        assert sparse["name"] == b"sparse".ljust(56, b"\0")
        assert [sparse[f] for f in ("encoding", "bits", "sparse", "codebook", "group")] == [2, 3, 1, 1, 0]
        assert (sparse["rows"], sparse["cols"]) == (5, 65)
        offsets = [get(content, f, t) for t in range(5) for f in ENTRY if f.endswith("_offset")]
        used = sorted(offset for offset in offsets if offset)
        assert len(used) == len(set(used)) == 2 + 4 + 3 + 1 + 1
        assert all(offset % 64 == 0 and 64 + 5 * 128 <= offset <= len(content) - 128 for offset in used)

    def test_worked_example_of_the_sections(self, folder: Path) -> None:
        mask = np.zeros((2, 66), bool)
        mask[0, [1, 63, 65]] = True
        codes = np.zeros((2, 66), np.uint8)
        codes[0, [1, 63, 65]] = 5, 2, 7
        scales = np.array([[0.5, 2.0], [0.0, 1.0]], np.float32)
        codebook = np.arange(-4, 4, dtype=np.int8)
        write_edge(
            folder / "x.edge",
            {"x": Codes(codes=codes, mask=mask, scales=scales, bits=3, group=64, codebook=codebook)},
            {},
        )
        content = (folder / "x.edge").read_bytes()

        def section(field: str, size: int) -> bytes:
            offset = get(content, field, 0)
            return content[offset : offset + size]

        assert struct.unpack("<4Q", section("masks_offset", 32)) == (1 << 1 | 1 << 63, 1 << 1, 0, 0)
        assert section("values_offset", 3) == bytes(
            [0b11010101, 0b00000001, 0]
        )  # 101, 010, 111; an empty row
        assert get(content, "values_bytes", 0) == 2
        assert get(content, "non_zeros", 0) == 3
        assert struct.unpack("<4f", section("scales_offset", 16)) == (0.5, 2.0, 0.0, 1.0)
        assert section("codebook_offset", 9) == bytes([0xFC, 0xFD, 0xFE, 0xFF, 0, 1, 2, 3, 0])

    @pytest.mark.parametrize("bits", range(2, 9))
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 0.9])
    @pytest.mark.parametrize("group", [0, 64])
    def test_bytes_follow_the_formula(
        self, folder: Path, bits: int, sparsity: float | None, group: int
    ) -> None:
        """papers.md section 10: bits per weight = 1 + b (1 - s), plus scales."""
        rng = np.random.default_rng(0)
        shape = (512, 576)
        codes = random_codes(rng, shape, bits, group, sparsity=sparsity, codebook=bits <= 6)
        weights = shape[0] * shape[1]
        stored = 1 - codes.non_zeros / weights
        wanted = (bits if sparsity is None else 1 + bits * (1 - stored)) + 32 * codes.scales.size / weights
        assert bits_per_weight(codes) == pytest.approx(wanted, rel=0.002)
        write_edge(folder / "x.edge", {"x": codes}, {})
        found = (folder / "x.edge").stat().st_size * 8 / weights
        assert wanted <= found <= 1.02 * wanted

    def test_bits_of_floats(self) -> None:
        assert bits_per_weight(np.zeros((2, 3), np.float32)) == 32
        assert bits_per_weight(np.zeros((2, 3), np.float16)) == 16


class TestWhatCannotBeWritten:
    @pytest.mark.parametrize(
        ("name", "tensor", "message"),
        [
            ("", np.zeros((1, 1), "f4"), "tensor '': name is '', expected 1 to 56 bytes"),
            ("n" * 57, np.zeros((1, 1), "f4"), "expected 1 to 56 bytes"),
            ("a\0b", np.zeros((1, 1), "f4"), r"name is 'a\\x00b', expected 1 to 56 bytes, none of them 0"),
            ("\ud800", np.zeros((1, 1), "f4"), "expected UTF-8"),
            (
                "x",
                np.zeros((1, 1)),
                r"tensor 'x': type is dtype\('float64'\), expected float32, float16 or Codes",
            ),
            ("x", [[1.0]], "type is <class 'list'>"),
            ("x", np.zeros(3, "f4"), r"shape is \(3,\), expected .*; a vector is \(1, N\)"),
            ("x", np.zeros((0, 3), "f4"), r"shape is \(0, 3\)"),
            ("x", np.zeros((1, 65537), "f2"), r"shape is \(1, 65537\)"),
        ],
    )
    def test_tensors(self, folder: Path, name: str, tensor: Any, message: str) -> None:
        with pytest.raises(EdgeSpeechError, match=message):
            write_edge(folder / "bad.edge", {name: tensor}, {})
        assert not (folder / "bad.edge").exists()

    @pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, "\ud800", np.float32(1)])
    def test_meta(self, folder: Path, value: object) -> None:
        with pytest.raises(EdgeSpeechError, match=r"bad\.edge: meta is .*, expected JSON values"):
            write_edge(folder / "bad.edge", {}, {"x": value})

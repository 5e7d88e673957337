"""Every field of a `.edge` file can be wrong: one clear error, never another exception, never a wrong model."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile, read_edge, write_edge
from helpers_edge import (
    BIAS,
    DENSE,
    GROUPED,
    HALF,
    SPARSE,
    get,
    poke,
    put,
    random_codes,
    seal,
    there_and_back,
)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> bytes:
    codes = random_codes(np.random.default_rng(0), (2, 3), 2, 0, sparsity=0.5, codebook=True)
    write_edge(folder / "tiny.edge", {"x": codes}, {})
    return (folder / "tiny.edge").read_bytes()


@pytest.fixture(scope="module")
def read(folder: Path) -> Callable[[bytes], EdgeFile]:
    def read_bytes(content: bytes) -> EdgeFile:
        path = folder / "changed.edge"
        path.write_bytes(content)
        return read_edge(path)

    return read_bytes


class TestDamage:
    def test_missing_file_and_folder(self, folder: Path) -> None:
        for path in (folder / "none.edge", folder):
            with pytest.raises(EdgeSpeechError, match="could not be read"):
                read_edge(path)

    def test_cut_anywhere(self, tiny: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        for size in range(len(tiny)):
            with pytest.raises(EdgeSpeechError):
                read(tiny[:size])

    def test_a_longer_file(self, content: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        with pytest.raises(
            EdgeSpeechError, match=f"file_bytes is {len(content)}, expected {len(content) + 64}"
        ):
            read(content + bytes(64))

    def test_a_bit_of_every_byte_flipped(self, tiny: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        read(tiny)
        for at, byte in enumerate(tiny):
            with pytest.raises(EdgeSpeechError):
                read(poke(tiny, at, byte ^ 1 << at % 8))

    @settings(deadline=None)
    @given(st.data())
    def test_any_byte_changed(
        self, content: bytes, read: Callable[[bytes], EdgeFile], data: st.DataObject
    ) -> None:
        at = data.draw(st.integers(0, 63) | st.integers(0, len(content) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
        with pytest.raises(EdgeSpeechError):
            read(poke(content, at, byte))

    @settings(deadline=None, max_examples=400)
    @given(st.data())
    def test_a_sealed_change_is_reported_or_makes_another_whole_file(
        self, folder: Path, content: bytes, read: Callable[[bytes], EdgeFile], data: st.DataObject
    ) -> None:
        changed = content
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(8, 64 + 5 * 128 - 1) | st.integers(8, len(content) - 1))
            changed = poke(changed, at, data.draw(st.integers(0, 255)))
        try:
            found = read(seal(changed))
        except EdgeSpeechError as error:
            told = str(error)
        else:
            there_and_back(folder, found.tensors, found.meta)
            return
        assert told.startswith(f"{folder / 'changed.edge'}: ")

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("magic", b"SAFETENS", r"magic is b'SAFETENS', expected b'EDGESPCH'"),
            ("version", 2, "version is 2, expected 1"),
            ("version", 0, "version is 0"),
            ("tensor_count", 4, "byte 576 is .*, expected 0, since it is in no section"),
            ("tensor_count", 6, "meta_offset is 704, expected .* from 832"),
            ("tensor_count", 2**32 - 1, "tensor_count is 4294967295, expected at most"),
            ("file_bytes", 2**64 - 1, "file_bytes is 18446744073709551615, expected .* size of the file"),
            ("table_offset", 128, "table_offset is 128, expected 64"),
            ("table_offset", 0, "table_offset is 0"),
            ("meta_offset", 0, "meta_offset is 0, expected a multiple of 64 from 704"),
            ("meta_offset", 705, "meta_offset is 705, expected a multiple of 64"),
            ("meta_offset", 2**64 - 64, "meta_offset is 18446744073709551552, expected"),
            (
                "meta_bytes",
                2**64 - 1,
                "meta_offset is 704, expected a file of at least 18446744073709551615 bytes",
            ),
            ("meta_bytes", 3, "meta is .*, expected JSON"),
            ("meta_bytes", 0, "meta is b'', expected JSON"),
            ("meta_bytes", 17, "meta is .*, expected JSON"),
            ("reserved", 1, "reserved is 1, expected 0"),
        ],
    )
    def test_header(
        self, content: bytes, read: Callable[[bytes], EdgeFile], field: str, value: Any, message: str
    ) -> None:
        with pytest.raises(EdgeSpeechError, match=r"changed\.edge: " + message):
            read(seal(put(content, field, value)))

    @pytest.mark.parametrize(
        ("tensor", "field", "value", "message"),
        [
            (DENSE, "name", b"", "tensor 0: name is '', expected 1 to 56 bytes"),
            (DENSE, "name", b"a\0b", r"tensor 0: name is 'a\\x00b'"),
            (DENSE, "name", b"\xff", r"tensor 0: name is b'\\xff', expected UTF-8"),
            (SPARSE, "name", b"dense", "tensor 'dense': name is 'dense', expected a name that no earlier"),
            (DENSE, "encoding", 3, "tensor 'dense': encoding is 3, expected 0"),
            (DENSE, "bits", 1, "bits is 1, expected 2 to 8"),
            (DENSE, "bits", 9, "bits is 9, expected 2 to 8"),
            (SPARSE, "bits", 7, "bits is 7, expected at most 6 with a codebook"),
            (DENSE, "bits", 5, "values_bytes is 105, expected 132"),
            (DENSE, "sparse", 2, "sparse is 2, expected 0 or 1"),
            (DENSE, "sparse", 1, "masks_offset is 0, expected a multiple of 64 from 704"),
            (SPARSE, "sparse", 0, "masks_offset is .*, expected 0 for a dense matrix"),
            (DENSE, "codebook", 2, "codebook is 2, expected 0 or 1"),
            (DENSE, "codebook", 1, "codebook_offset is 0, expected a multiple of 64 from 704"),
            (SPARSE, "codebook", 0, "codebook_offset is .*, expected 0 without a codebook"),
            (DENSE, "group", 63, "group is 63, expected 0 or a multiple of 64"),
            (DENSE, "group", 2**32 - 1, "group is 4294967295, expected 0 or a multiple of 64"),
            (GROUPED, "group", 128, "byte .*, since it is in no section"),
            (DENSE, "rows", 0, "rows is 0, expected at least 1"),
            (DENSE, "rows", 2**32 - 1, "non_zeros is 210, expected 300647710650"),
            (SPARSE, "rows", 2**32 - 1, "masks_offset is .*, expected a file of at least 68719476720 bytes"),
            (DENSE, "cols", 0, "cols is 0, expected 1 to 65536"),
            (DENSE, "cols", 65537, "cols is 65537, expected 1 to 65536"),
            (SPARSE, "masks_offset", 64, "masks_offset is 64, expected .* from 704"),
            (SPARSE, "masks_offset", 2**64 - 64, "masks_offset is 18446744073709551552, expected"),
            (DENSE, "values_offset", 0, "values_offset is 0, expected"),
            (DENSE, "values_offset", 769, "values_offset is 769, expected a multiple of 64"),
            (DENSE, "values_offset", 2**63, "values_offset is 9223372036854775808, expected"),
            (DENSE, "values_offset", 704, "offset is 704, expected at least"),
            (DENSE, "values_bytes", 104, "values_bytes is 104, expected 105"),
            (DENSE, "values_bytes", 2**64 - 1, "values_bytes is 18446744073709551615, expected 105"),
            (DENSE, "scales_offset", 0, "scales_offset is 0, expected"),
            (SPARSE, "codebook_offset", 2**64 - 64, "codebook_offset is"),
            (SPARSE, "non_zeros", 1, "non_zeros is 1, expected"),
            (DENSE, "non_zeros", 2**64 - 1, "non_zeros is 18446744073709551615, expected 210"),
            (DENSE, "reserved", 1, "tensor 'dense': reserved is 1, expected 0"),
            (BIAS, "bits", 2, "tensor 'bias': bits is 2, expected 0 for floats"),
            (BIAS, "sparse", 1, "sparse is 1, expected 0 for floats"),
            (BIAS, "codebook", 1, "codebook is 1, expected 0 for floats"),
            (BIAS, "group", 64, "group is 64, expected 0 for floats"),
            (BIAS, "masks_offset", 704, "masks_offset is 704, expected 0 for floats"),
            (BIAS, "scales_offset", 704, "scales_offset is 704, expected 0 for floats"),
            (BIAS, "codebook_offset", 704, "codebook_offset is 704, expected 0 for floats"),
            (BIAS, "non_zeros", 6, "non_zeros is 6, expected 7"),
            (BIAS, "rows", 2, "non_zeros is 7, expected 14"),
            (BIAS, "encoding", 1, "values_bytes is 28, expected 14"),
            (BIAS, "encoding", 2, "bits is 0, expected 2 to 8"),
            (HALF, "encoding", 0, "values_bytes is 12, expected 24"),
            (HALF, "reserved", 2**63, "reserved is"),
        ],
    )
    def test_table(
        self,
        content: bytes,
        read: Callable[[bytes], EdgeFile],
        tensor: int,
        field: str,
        value: Any,
        message: str,
    ) -> None:
        with pytest.raises(EdgeSpeechError, match=r"changed\.edge: .*" + message):
            read(seal(put(content, field, value, tensor)))

    @pytest.mark.parametrize(
        "what",
        ["[1]", '{"a":NaN}', '{"a":1', '"text"', "", '{"a":"\xff"}', "[" * 50000, " {}", "{}\n"],
        ids=["list", "nan", "open", "string", "empty", "latin", "deep", "space", "line end"],
    )
    def test_meta(self, folder: Path, read: Callable[[bytes], EdgeFile], what: str) -> None:
        write_edge(folder / "meta.edge", {}, {})
        told = what.encode("latin-1")
        content = (folder / "meta.edge").read_bytes()[:64] + told + bytes(-len(told) % 64 + 64)
        content = put(put(content, "meta_bytes", len(told)), "file_bytes", len(content))
        with pytest.raises(EdgeSpeechError, match=r"changed\.edge: meta is .*, expected (a )?JSON"):
            read(seal(content))

    def test_a_mask_that_disagrees_with_the_values(
        self, content: bytes, read: Callable[[bytes], EdgeFile]
    ) -> None:
        at = get(content, "masks_offset", SPARSE)
        with pytest.raises(EdgeSpeechError, match=r"tensor 'sparse': non_zeros is .*, expected"):
            read(seal(poke(content, at, content[at] ^ 1)))
        with pytest.raises(
            EdgeSpeechError, match="tensor 'sparse': masks is 'row 1 with bits beyond its columns'"
        ):
            read(seal(poke(content, at + 16 + 8, content[at + 16 + 8] | 2)))
        stored = get(content, "non_zeros", SPARSE)
        emptied = put(poke(content, at, *bytes(5 * 16)), "non_zeros", 0, SPARSE)
        assert stored > 0
        with pytest.raises(EdgeSpeechError, match=r"tensor 'sparse': values_bytes is .*, expected 0"):
            read(seal(emptied))

    def test_padding_bits(self, folder: Path, read: Callable[[bytes], EdgeFile]) -> None:
        codes = random_codes(np.random.default_rng(0), (3, 3), 3, 0, sparsity=None, codebook=False)
        write_edge(folder / "pad.edge", {"x": codes}, {})
        content = (folder / "pad.edge").read_bytes()
        at = get(content, "values_offset", 0) + 2 * 2 + 1  # the second byte of row 2 holds one bit
        with pytest.raises(EdgeSpeechError, match="tensor 'x': values is 'row 2 with bits beyond its codes'"):
            read(seal(poke(content, at, content[at] | 2)))

    def test_padding_between_sections(self, content: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        at = get(content, "values_offset", DENSE) + 105
        with pytest.raises(EdgeSpeechError, match=f"byte {at} is 1, expected 0, since it is in no section"):
            read(seal(poke(content, at, 1)))

    def test_scales(self, content: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        at = get(content, "scales_offset", SPARSE)
        with pytest.raises(EdgeSpeechError, match="tensor 'sparse': codes: scales is nan, expected values"):
            read(seal(poke(content, at, *struct.pack("<f", float("nan")))))

    def test_sections_that_overlap(self, content: bytes, read: Callable[[bytes], EdgeFile]) -> None:
        elsewhere = get(content, "values_offset", BIAS)
        with pytest.raises(
            EdgeSpeechError, match=r"offset is .*, expected at least .*, where another section ends"
        ):
            read(seal(put(content, "values_offset", elsewhere, HALF)))

    def test_a_last_section_that_nothing_follows(
        self, content: bytes, read: Callable[[bytes], EdgeFile]
    ) -> None:
        short = content[:-64]
        with pytest.raises(
            EdgeSpeechError, match=r"tensor 'half': values_offset is .*, for 12 bytes and 64 more"
        ):
            read(seal(put(short, "file_bytes", len(short))))

    def test_a_size_that_is_no_multiple_of_64(
        self, content: bytes, read: Callable[[bytes], EdgeFile]
    ) -> None:
        odd = content + bytes(8)
        with pytest.raises(EdgeSpeechError, match=f"file_bytes is {len(odd)}, expected a multiple of 64"):
            read(seal(put(odd, "file_bytes", len(odd))))

    def test_a_foreign_or_empty_file(self, read: Callable[[bytes], EdgeFile]) -> None:
        for foreign in (b"", b"EDGE", b"PK\3\4" + bytes(100)):
            with pytest.raises(EdgeSpeechError, match=r"magic is .*, expected b'EDGESPCH'"):
                read(foreign)
        with pytest.raises(EdgeSpeechError, match="size is 8, expected at least the 64 bytes"):
            read(b"EDGESPCH")

    def test_what_was_read_is_the_readers_own(self, folder: Path, content: bytes) -> None:
        found = read_edge(folder / "small.edge").tensors["bias"]
        assert not isinstance(found, Codes)
        values: NDArray[Any] = found
        values += 1
        assert (folder / "small.edge").read_bytes() == content

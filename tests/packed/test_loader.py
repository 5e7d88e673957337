"""The native loader agrees with `read_edge` on every file, sound or damaged, and never takes the process down."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile as ReadFile
from edgespeech.packed.edge_file import Tensor, read_edge, write_edge
from edgespeech.packed.loader import EdgeFile, chosen_isa, isas
from edgespeech.packed.reference import multiply
from helpers_edge import DENSE, ENTRY, HALF, HEADER, SPARSE, get, place, poke, put, random_codes, seal, small

META = {"model": "tiny", "größe": [1, {"b": None}]}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "model.edge"
    write_edge(path, small(), META)
    return path.read_bytes()


@pytest.fixture
def small_path(tmp_path: Path, good: bytes) -> Path:
    path = tmp_path / "model.edge"
    path.write_bytes(good)
    return path


@pytest.fixture
def small_file(small_path: Path) -> Iterator[EdgeFile]:
    with EdgeFile(small_path) as file:
        yield file


def int8_of(file: EdgeFile, name: str) -> NDArray[np.int32]:
    """The int8 weights, with shape `(rows, cols)`: the products of the columns of an identity matrix."""
    cols = file.shape(name)[1]
    identity = np.eye(cols, dtype=np.int8)
    parts = [file.multiply(name, identity[c : c + 8]).sum(axis=2) for c in range(0, cols, 8)]
    return np.concatenate(parts).T


def assert_same(file: EdgeFile, read: ReadFile) -> None:
    """What the native engine sees is what was read in Python."""
    assert file.names == list(read.tensors)
    assert file.meta == read.meta
    for name, tensor in read.tensors.items():
        if isinstance(tensor, Codes):
            assert file.shape(name) == (tensor.rows, tensor.cols)
            assert file.multiply(name, np.zeros((1, tensor.cols), np.int8)).shape[2] == tensor.groups
            assert np.array_equal(int8_of(file, name), tensor.int8()), name
        else:
            found = file.floats(name)
            assert (found.dtype, found.shape, file.shape(name)) == (tensor.dtype, tensor.shape, tensor.shape)
            assert found.tobytes() == tensor.tobytes()


def check(path: Path, content: bytes, *, must_fail: bool = False) -> None:
    """Both readers take the content and see the same, or both refuse it, in one line that names the file."""
    path.write_bytes(content)
    try:
        read = read_edge(path)
    except EdgeSpeechError:
        with pytest.raises(EdgeSpeechError) as caught:
            EdgeFile(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        return
    assert not must_fail
    with EdgeFile(path) as file:
        assert_same(file, read)


class TestWhatIsWrittenIsRead:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 63), (2, 64), (5, 65), (7, 200)])
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 1.0])
    @pytest.mark.parametrize("group", [0, 64, 128, 1 << 31, (1 << 32) - 64])
    def test_every_layout(
        self, tmp_path: Path, shape: tuple[int, int], sparsity: float | None, group: int
    ) -> None:
        rng = np.random.default_rng(shape[1])
        tensors = {
            f"{bits} {codebook}": random_codes(rng, shape, bits, group, sparsity=sparsity, codebook=codebook)
            for bits in range(2, 9)
            for codebook in (False, True)
            if bits <= 6 or not codebook
        }
        path = tmp_path / "model.edge"
        write_edge(path, tensors, {})
        with EdgeFile(path) as file:
            assert_same(file, read_edge(path))

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 65), (33, 7)])
    def test_floats(self, tmp_path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> None:
        values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        values[0, 0] = np.nan
        path = tmp_path / "model.edge"
        write_edge(path, {"w": values}, META)
        with EdgeFile(path) as file:
            assert_same(file, read_edge(path))
            assert not file.floats("w").flags.writeable

    def test_names_and_no_tensor_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "model.edge"
        tensors: dict[str, Tensor] = {name: np.ones((1, 1), np.float32) for name in ["x" * 56, "é", "ⴰ", "𝄞"]}
        write_edge(path, tensors, META)
        with EdgeFile(path) as file:
            assert_same(file, read_edge(path))
        write_edge(path, {}, {})
        with EdgeFile(path) as file:
            assert_same(file, read_edge(path))
            assert file.packed_bytes == 0

    def test_packed_bytes(self, small_file: EdgeFile) -> None:
        masks, values, scales, codebooks = 8 * (5 * 2 + 2 * 3), 0, 4 * (3 + 5 + 2 * 3), 8
        for tensor in small().values():
            if isinstance(tensor, Codes):
                stored = np.ones(tensor.codes.shape, bool) if tensor.mask is None else tensor.mask
                values += sum(-(-int(row.sum()) * tensor.bits // 8) for row in stored)
        assert small_file.packed_bytes == masks + values + scales + codebooks + 4 * 7 + 2 * 6


class TestDamage:
    """`Put` changes one field; with the checksum made right again, the checks behind it are reached."""

    @staticmethod
    def values(content: bytes, field: str, tensor: int | None) -> list[Any]:
        """Wrong values: none, the largest, and those near the right one."""
        old = get(content, field, tensor)
        size = struct.calcsize(place(field, tensor)[1])
        if isinstance(old, bytes):
            return [bytes(size), b"\xff" * size, bytes([old[0] ^ 1]) + old[1:], old[:1] + b"\0" + old[2:]]
        most = 256**size - 1
        near = {old + 1, old - 1, old + 64, old - 64, old * 2, old // 2, len(content), most - 63, 1 << 31}
        return sorted({v for v in {0, most} | near if 0 <= v <= most} - {old})

    @pytest.mark.parametrize("field", HEADER)
    def test_header_fields(self, tmp_path: Path, good: bytes, field: str) -> None:
        for value in self.values(good, field, None):
            check(tmp_path / "model.edge", put(good, field, value), must_fail=True)

    @pytest.mark.parametrize("field", ENTRY)
    def test_table_fields(self, tmp_path: Path, good: bytes, field: str) -> None:
        for tensor in range(len(small())):
            for value in self.values(good, field, tensor):
                damaged = put(good, field, value, tensor)
                check(tmp_path / "model.edge", damaged, must_fail=True)
                check(tmp_path / "model.edge", seal(damaged))

    @pytest.mark.parametrize(
        ("field", "tensor", "value", "expected"),
        [
            ("magic", None, b"EDGESPCX", "magic is not EDGESPCH, expected an .edge file"),
            ("version", None, 2, "version is 2, expected 1"),
            ("tensor_count", None, 4_000_000_000, "tensor_count is 4000000000, expected at most "),
            ("file_bytes", None, 64, "file_bytes is 64, expected "),
            ("checksum", None, 1, "checksum is 1, expected "),
            ("bits", DENSE, 9, "tensor dense: bits is 9, expected 2 to 8"),
            ("bits", SPARSE, 7, "tensor sparse: bits is 7, expected at most 6 with a codebook"),
            ("group", DENSE, 65, "tensor dense: group is 65, expected 0 or a multiple of 64"),
            ("cols", DENSE, 65537, "tensor dense: cols is 65537, expected 1 to 65536"),
            ("rows", DENSE, 0, "tensor dense: rows is 0, expected at least 1"),
            ("non_zeros", SPARSE, 1, "tensor sparse: non_zeros is 1, expected "),
            (
                "values_offset",
                DENSE,
                2**64 - 64,
                "tensor dense: values_offset is 18446744073709551552, expected",
            ),
            ("scales_offset", DENSE, 65, "scales_offset is 65, expected an offset that is a multiple of 64"),
            ("scales_offset", DENSE, 64, "scales_offset is 64, expected an offset of at least 704"),
            ("name", DENSE, b"sparse" + bytes(50), "tensor sparse: name is given twice"),
            ("name", DENSE, bytes(56), "tensor number 0: name is empty"),
            ("name", DENSE, b"\xc0\x80" + bytes(54), "tensor number 0: name is not UTF-8"),
        ],
    )
    def test_messages(
        self, tmp_path: Path, good: bytes, field: str, tensor: int | None, value: Any, expected: str
    ) -> None:
        path = tmp_path / "model.edge"
        damaged = put(good, field, value, tensor)
        path.write_bytes(damaged if field == "checksum" else seal(damaged))
        with pytest.raises(EdgeSpeechError) as caught:
            EdgeFile(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert expected in str(caught.value)

    def test_messages_about_contents(self, tmp_path: Path, good: bytes) -> None:
        path = tmp_path / "model.edge"

        def refuses(content: bytes, expected: str) -> None:
            check(path, seal(content), must_fail=True)
            with pytest.raises(EdgeSpeechError, match=expected):
                EdgeFile(path)

        scales, masks = get(good, "scales_offset", DENSE), get(good, "masks_offset", SPARSE)
        for wrong in (np.nan, np.inf, -1.0):
            refuses(poke(good, scales + 8, *struct.pack("<f", wrong)), "dense: scales has a wrong value at 2")
        refuses(poke(good, masks + 8, 2), "sparse: masks has bits beyond the columns of row 0")
        refuses(poke(good, masks, good[masks] ^ 1), "sparse: (non_zeros|values)")
        values = get(good, "values_offset", SPARSE)
        bits = 3 * int(np.count_nonzero(np.unpackbits(np.frombuffer(good, np.uint8, 16, masks))))
        last = values + bits // 8
        refuses(poke(good, last, good[last] | 128), "sparse: values has bits beyond the codes of row 0")
        refuses(poke(good, len(good) - 1, 1), "belong to no section")
        refuses(poke(good, get(good, "meta_offset"), ord("[")), "meta is not a JSON object")
        refuses(put(good, "values_offset", scales, HALF), "no overlap")

    def test_names_are_utf8_as_python_has_it(self, tmp_path: Path, good: bytes) -> None:
        # First and last code points of every length, and just outside; surrogates; cut and overlong forms.
        ends = [0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
        names = [chr(point).encode(errors="surrogatepass") for point in ends]
        wrong = [
            "80",
            "bf",
            "c2",
            "c27f",
            "c180",
            "e09fbf",
            "e282",
            "f08fbfbf",
            "f09f98",
            "f4908080",
            "f5808080",
        ]
        for name in [
            *names,
            *(n + b"x" for n in names),
            *map(bytes.fromhex, [*wrong, "ff", "fe", "f888808080"]),
        ]:
            check(tmp_path / "model.edge", seal(put(good, "name", name.ljust(56, b"\0"), DENSE)))

    def test_meta_that_is_no_json(self, tmp_path: Path, good: bytes) -> None:
        path = tmp_path / "model.edge"
        path.write_bytes(seal(poke(good, get(good, "meta_offset") + 1, ord("x"))))
        with pytest.raises(EdgeSpeechError, match=r"meta is .*, expected JSON"):
            EdgeFile(path)

    def test_truncation(self, tmp_path: Path, good: bytes) -> None:
        sizes = {*range(0, len(good), 64), *range(130), *np.random.default_rng(0).integers(0, len(good), 100)}
        for size in sorted(sizes):
            check(tmp_path / "model.edge", good[:size], must_fail=True)
            if size >= 64 and size % 64 == 0:
                cut = put(good[:size], "file_bytes", size)
                check(tmp_path / "model.edge", seal(cut), must_fail=True)

    def test_what_is_added(self, tmp_path: Path, good: bytes) -> None:
        check(tmp_path / "model.edge", good + bytes(64), must_fail=True)
        longer = put(good + bytes(128), "file_bytes", len(good) + 128)
        check(tmp_path / "model.edge", seal(longer))

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_random_flips(
        self, tmp_path_factory: pytest.TempPathFactory, good: bytes, data: st.DataObject
    ) -> None:
        damaged = bytearray(good)
        end = data.draw(st.sampled_from([64, 64 + 128 * len(small()), len(good)]))
        for bit in data.draw(st.lists(st.integers(0, 8 * end - 1), min_size=1, max_size=4, unique=True)):
            damaged[bit // 8] ^= 1 << bit % 8
        path = tmp_path_factory.getbasetemp() / "flipped.edge"
        check(path, bytes(damaged), must_fail=True)
        check(path, seal(bytes(damaged)))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=700))
    def test_noise(self, tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "noise.edge"
        check(path, noise, must_fail=True)
        content = b"EDGESPCH" + struct.pack("<I", 1) + noise + bytes(-(12 + len(noise)) % 64 + 64)
        content = put(put(put(content, "file_bytes", len(content)), "table_offset", 64), "reserved", 0)
        check(path, seal(content))


class TestFiles:
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeSpeechError, match="cannot be opened: No such file"):
            EdgeFile(tmp_path / "missing.edge")
        with pytest.raises(EdgeSpeechError, match="not a regular file"):
            EdgeFile(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(EdgeSpeechError, match="not a regular file"):
            EdgeFile(tmp_path / "pipe")
        (tmp_path / "empty").touch()
        with pytest.raises(EdgeSpeechError, match="is empty"):
            EdgeFile(tmp_path / "empty")

    def test_a_file_may_be_removed_while_it_is_open(self, small_path: Path) -> None:
        with EdgeFile(small_path) as file:
            read = read_edge(small_path)
            small_path.unlink()
            assert_same(file, read)

    def test_a_view_outlives_the_file(self, small_path: Path) -> None:
        file = EdgeFile(small_path)
        bias = file.floats("bias")
        file.close()
        del file
        assert np.array_equal(bias, cast("NDArray[np.float32]", small()["bias"]))
        with pytest.raises(ValueError, match="read-only"):
            bias[0, 0] = 1

    @pytest.mark.parametrize(
        "use",
        [
            lambda file: file.names,
            lambda file: file.packed_bytes,
            lambda file: file.shape("bias"),
            lambda file: file.floats("bias"),
            lambda file: file.multiply("dense", np.zeros((1, 70), np.int8)),
        ],
    )
    def test_use_after_close(self, small_file: EdgeFile, use: Callable[[EdgeFile], object]) -> None:
        small_file.close()
        small_file.close()
        with pytest.raises(EdgeSpeechError, match=r"model\.edge: the file is closed"):
            use(small_file)

    def test_unmapped_with_the_last_view(self, small_path: Path) -> None:
        def mapped() -> bool:
            return str(small_path) in Path("/proc/self/maps").read_text()

        file = EdgeFile(small_path)
        bias = file.floats("bias")
        file.close()
        assert mapped()
        del bias
        assert not mapped()


class TestMultiply:
    @pytest.mark.parametrize(
        ("q", "expected"),
        [
            (np.zeros((1, 70), np.uint8), r"q is 'uint8 \(1, 70\)', expected int8 \(N, cols\)"),
            (np.zeros((1, 70), np.float32), "q is 'float32"),
            (np.zeros(70, np.int8), r"q is 'int8 \(70,\)'"),
            ([[0] * 70], "q is 'list'"),
            (None, "q is 'NoneType'"),
            (np.zeros((0, 70), np.int8), "0 vectors, expected 1 to 8"),
            (np.zeros((9, 70), np.int8), "9 vectors, expected 1 to 8"),
            (np.zeros((1, 69), np.int8), "69 columns, expected 70"),
            (np.zeros((1, 0), np.int8), "0 columns, expected 70"),
            (np.full((2, 70), -128, np.int8), "q holds -128, expected -127 to 127"),
        ],
    )
    def test_wrong_activations(self, small_file: EdgeFile, q: Any, expected: str) -> None:
        with pytest.raises(EdgeSpeechError, match=rf"model\.edge: tensor dense: .*{expected}"):
            small_file.multiply("dense", q)

    def test_wrong_names(self, small_file: EdgeFile) -> None:
        q = np.zeros((1, 70), np.int8)
        with pytest.raises(EdgeSpeechError, match=r"there is no tensor dens$"):
            small_file.multiply("dens", q)
        with pytest.raises(EdgeSpeechError, match=r"there is no tensor $"):
            small_file.shape("")
        with pytest.raises(EdgeSpeechError, match="tensor bias: holds floats, expected codes"):
            small_file.multiply("bias", q)
        with pytest.raises(EdgeSpeechError, match="tensor dense: holds codes, expected floats"):
            small_file.floats("dense")
        with pytest.raises(EdgeSpeechError, match="sse9"):
            small_file.multiply("dense", q, "sse9")
        lacking = {"scalar", "avx2", "avx512", "neon"} - set(isas())
        for isa in lacking:
            with pytest.raises(EdgeSpeechError, match=isa):
                small_file.multiply("dense", q, isa)
        assert lacking

    def test_strided_activations(self, small_file: EdgeFile) -> None:
        wide = np.random.default_rng(0).integers(-127, 128, (8, 210), dtype=np.int8)
        dense = small()["dense"]
        assert isinstance(dense, Codes)
        for q in (wide[:, ::3], wide[::2, :70], wide[::-1, 69::-1], np.asfortranarray(wide[:, :70])):
            assert np.array_equal(small_file.multiply("dense", q), multiply(dense, q))

    def test_two_threads_on_one_file(self, small_file: EdgeFile) -> None:
        rng = np.random.default_rng(0)
        equal: list[bool] = []

        def work(name: str, q: NDArray[np.int8], isa: str) -> None:
            tensor = small()[name]
            assert isinstance(tensor, Codes)
            expected = multiply(tensor, q)
            equal.extend(np.array_equal(small_file.multiply(name, q, isa), expected) for _ in range(200))

        jobs = [
            (name, rng.integers(-127, 128, (3, cols), dtype=np.int8), isa)
            for name, cols in [("dense", 70), ("sparse", 65), ("grouped", 130)]
            for isa in isas()
        ]
        threads = [threading.Thread(target=work, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(equal) == 200 * len(jobs)
        assert all(equal)

    def test_close_while_a_product_runs(self, small_path: Path) -> None:
        q = np.ones((8, 130), np.int8)

        def work(file: EdgeFile) -> None:
            with suppress(EdgeSpeechError):  # closed before it began
                file.multiply("grouped", q)

        for _ in range(50):
            file = EdgeFile(small_path)
            thread = threading.Thread(target=work, args=(file,))
            thread.start()
            file.close()
            thread.join()

    def test_other_threads_run_meanwhile(self, tmp_path: Path) -> None:
        # No switch is forced: this thread sees the other inside `multiply` only if that lets go of the lock.
        path = tmp_path / "model.edge"
        codes = random_codes(np.random.default_rng(0), (256, 2048), 4, 0, sparsity=None, codebook=False)
        write_edge(path, {"w": codes}, {})
        q = np.ones((8, 2048), np.int8)
        inside, seen, finished = [False], threading.Event(), threading.Event()

        def work(file: EdgeFile) -> None:
            for _ in range(200):
                if seen.is_set():
                    break
                inside[0] = True
                file.multiply("w", q, "scalar")
                inside[0] = False
            finished.set()

        interval = sys.getswitchinterval()
        with EdgeFile(path) as file:
            thread = threading.Thread(target=work, args=(file,))
            sys.setswitchinterval(1000)
            try:
                thread.start()
                while not (inside[0] or finished.is_set()):
                    finished.wait(0.0001)
                if inside[0]:
                    seen.set()
            finally:
                sys.setswitchinterval(interval)
                thread.join()
        assert seen.is_set()


class TestIsa:
    def test_the_best_is_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EDGESPEECH_ISA", raising=False)
        assert isas()[0] == "scalar"
        assert chosen_isa() in isas()

    @pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "neon", "sse9", ""])
    def test_the_environment_chooses(self, isa: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from edgespeech.packed.loader import chosen_isa; print(chosen_isa())"],
            env={**os.environ, "EDGESPEECH_ISA": isa},
            capture_output=True,
            text=True,
            check=False,
        )
        if isa in isas():
            assert done.stdout.strip() == isa, done.stderr
        else:
            assert done.returncode == 1
            assert f"'{isa}'" in done.stderr.splitlines()[-1]
            assert "EdgeSpeechError" in done.stderr

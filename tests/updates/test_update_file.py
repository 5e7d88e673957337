from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from edgespeech.core.files import sha256_file
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.updates.exact import values_of
from edgespeech.updates.make import make_exact, make_within
from edgespeech.updates.update_file import (
    Kind,
    apply_update,
    described,
    parse_update,
    read_update,
    rebuilt,
)
from helpers_packed import tiny
from helpers_updates import EIGHT, SPARSE, moved, releases

LAYOUTS = {
    "8 bits": EIGHT,
    "4 bits, sparse": SPARSE,
    "groups": Layout(matrices=Encoding(bits=5, group=64)),
    "learned levels": Layout(matrices=Encoding(bits=4, codebook=True)),
    "halves": Layout(matrices=Encoding(bits=16)),
    "floats": Layout(matrices=Encoding(bits=32)),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return releases(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def update(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("update") / "one.update"
    make_exact(*pair, out)
    return out


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_exact_update_gives_the_new_file(name: str, tmp_path: Path) -> None:
    old, _ = releases(tmp_path / "a", SPARSE if name == "groups" else LAYOUTS[name])
    _, new = releases(tmp_path / "b", LAYOUTS["4 bits, sparse" if name == "floats" else name])
    made = make_exact(old, new, tmp_path / "update")
    apply_update(old, tmp_path / "update", tmp_path / "made.edge")
    assert (tmp_path / "made.edge").read_bytes() == new.read_bytes()
    assert made.header.new_sha256 == sha256_file(new)
    assert made.header.file_bytes == (tmp_path / "update").stat().st_size < new.stat().st_size


def test_a_model_of_another_shape_is_sent_whole(tmp_path: Path) -> None:
    old, _ = releases(tmp_path / "a")
    _, new = releases(tmp_path / "b", hidden=20)
    make_exact(old, new, tmp_path / "update")
    apply_update(old, tmp_path / "update", tmp_path / "made.edge")
    assert (tmp_path / "made.edge").read_bytes() == new.read_bytes()


def test_what_did_not_change_costs_next_to_nothing(tmp_path: Path) -> None:
    old, _ = releases(tmp_path)
    file = read_edge(old)
    bias = values_of(file.tensors["joiner.bias"])
    write_edge(tmp_path / "new.edge", file.tensors | {"joiner.bias": bias + 1}, file.meta)
    made = make_exact(old, tmp_path / "new.edge", tmp_path / "update")
    assert made.header.file_bytes < 600


@pytest.mark.parametrize("kind", [Kind.SPARSE, Kind.LOW_RANK, Kind.HASHED])
@pytest.mark.parametrize("layout", ["8 bits", "4 bits, sparse"])
def test_a_budget_is_kept_and_more_bytes_come_nearer(kind: Kind, layout: str, tmp_path: Path) -> None:
    old, new = releases(tmp_path, LAYOUTS[layout])
    left = []
    for budget in (6000, 12000):
        made = make_within(old, new, tmp_path / "update", kind, budget)
        assert (tmp_path / "update").stat().st_size == made.header.file_bytes <= budget
        apply_update(old, tmp_path / "update", tmp_path / "made.edge")
        left.append(made.error)
    assert 1 > left[0] > left[1] > 0
    assert read_update(tmp_path / "update").header.kind is kind


def test_a_budget_too_small_says_what_is_needed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"budget is 200, expected at least \d+ bytes"):
        make_within(*pair, tmp_path / "update", Kind.SPARSE, 200)
    assert not (tmp_path / "update").exists()


def test_a_trained_models_folder_is_a_target(pair: tuple[Path, Path], tmp_path: Path) -> None:
    trained = moved(tiny(hidden=24, layers=1))
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    made = make_within(pair[0], tmp_path / "model", tmp_path / "update", Kind.SPARSE, 10**6)
    assert made.error < 0.3  # eight bits at the old scales
    apply_update(pair[0], tmp_path / "update", tmp_path / "made.edge")
    assert read_edge(tmp_path / "made.edge").meta["provenance"]["update"] == "sparse"


def test_learned_levels_take_changed_codes_alone(tmp_path: Path) -> None:
    old, new = releases(tmp_path, LAYOUTS["learned levels"])
    make_within(old, new, tmp_path / "update", Kind.SPARSE, 8000)
    with pytest.raises(EdgeSpeechError, match="kind is 'low_rank', expected sparse, for learned levels"):
        make_within(old, new, tmp_path / "update", Kind.LOW_RANK, 8000)


def test_other_word_pieces_are_refused_within_a_budget(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = read_edge(pair[1])
    meta = file.meta | {"pieces": [*file.meta["pieces"][:-1], "other"]}
    write_edge(tmp_path / "new.edge", file.tensors, meta)
    with pytest.raises(EdgeSpeechError, match=r"pieces is .* as in the old model"):
        make_within(pair[0], tmp_path / "new.edge", tmp_path / "update", Kind.SPARSE, 10**5)


def test_an_update_for_another_model_is_refused(
    pair: tuple[Path, Path], update: Path, tmp_path: Path
) -> None:
    pack(tiny(seed=9, hidden=24, layers=1), EIGHT, tmp_path / "other.edge")
    with pytest.raises(EdgeSpeechError, match="it is for another model"):
        apply_update(tmp_path / "other.edge", update, tmp_path / "made.edge")
    with pytest.raises(EdgeSpeechError, match="is the new model already"):
        apply_update(pair[1], update, tmp_path / "made.edge")
    assert not (tmp_path / "made.edge").exists()


def test_the_old_model_is_never_the_output(pair: tuple[Path, Path], update: Path, tmp_path: Path) -> None:
    (tmp_path / "link.edge").symlink_to(pair[0])
    with pytest.raises(EdgeSpeechError, match="another file than the old model"):
        apply_update(pair[0], update, tmp_path / "link.edge")


def test_nothing_changes_between_a_model_and_itself(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="another model than the old one"):
        make_exact(pair[0], pair[0], tmp_path / "update")


def test_a_file_that_is_not_as_pack_writes_it_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    content = bytearray(pair[1].read_bytes())
    meta = read_edge(pair[1]).meta
    text = b'"config"'
    at = content.index(text)
    assert meta
    content[at : at + len(text) + 1] = b'"config" '[: len(text) + 1]  # a blank: the same JSON, another text
    (tmp_path / "new.edge").write_bytes(content)
    with pytest.raises(EdgeSpeechError):
        make_exact(pair[0], tmp_path / "new.edge", tmp_path / "update")


def test_every_cut_and_every_longer_file_is_refused(update: Path) -> None:
    content = update.read_bytes()
    for size in range(len(content)):
        with pytest.raises(EdgeSpeechError, match=r"size is|magic is|file_bytes is"):
            parse_update(content[:size], "cut")
    with pytest.raises(EdgeSpeechError, match="file_bytes is"):
        parse_update(content + b"\0", "long")


def test_every_changed_byte_is_refused(update: Path) -> None:
    content = bytearray(update.read_bytes())
    for at in range(0, len(content), 7):
        content[at] ^= 0x10
        with pytest.raises(EdgeSpeechError):
            parse_update(bytes(content), "changed")
        content[at] ^= 0x10
    parse_update(bytes(content), "as it was")


def test_a_changed_byte_with_the_right_checksum_never_gives_a_model(
    pair: tuple[Path, Path], update: Path, tmp_path: Path
) -> None:
    content = update.read_bytes()
    for at in range(8, len(content) - 4, max(1, len(content) // 60)):
        broken = content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 : -4]
        (tmp_path / "broken").write_bytes(broken + zlib.crc32(broken).to_bytes(4, "little"))
        try:
            apply_update(pair[0], tmp_path / "broken", tmp_path / "made.edge")
        except EdgeSpeechError:
            assert [path.name for path in tmp_path.iterdir()] == ["broken"]
        else:  # the self-check's outcome and the kind decide nothing of the file
            assert (tmp_path / "made.edge").read_bytes() == pair[1].read_bytes()
            (tmp_path / "made.edge").unlink()


def test_large_files_are_refused_before_they_are_read(update: Path) -> None:
    size = update.stat().st_size
    with pytest.raises(EdgeSpeechError, match=f"size is {size}, expected at most {size - 1} bytes"):
        read_update(update, most=size - 1)
    new_bytes = read_update(update).header.new_bytes
    assert new_bytes > size
    with pytest.raises(EdgeSpeechError, match="size of the new model"):
        read_update(update, most=new_bytes - 1)


def test_what_an_update_says_is_listed(pair: tuple[Path, Path], update: Path) -> None:
    old, read = read_edge(pair[0]), read_update(update)
    lines = list(described(read, old))
    assert lines[0] == f"version 1, exact, {update.stat().st_size} bytes"
    assert any(line.startswith("joiner.weight: exact, ") for line in lines)
    assert "joiner.weight" not in "\n".join(described(read))
    tensors, meta = rebuilt(read, old)
    assert list(tensors) == list(read_edge(pair[1]).tensors)
    assert meta == read_edge(pair[1]).meta


def test_a_change_that_was_trained_small_stays_small(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The old file was rounded: without the start, that rounding would be sent too."""
    first = tiny(hidden=24, layers=1)
    save_model(tmp_path / "start", first.model, first.tokeniser, first.provenance)
    first.model.joiner.weight[3] += 5.0
    save_model(tmp_path / "next", first.model, first.tokeniser, {"run": "later"})
    small = make_within(
        pair[0], tmp_path / "next", tmp_path / "a", Kind.SPARSE, 10**6, start=tmp_path / "start"
    )
    apply_update(pair[0], tmp_path / "a", tmp_path / "made.edge")
    before, after = (
        values_of(read_edge(file).tensors["joiner.weight"]) for file in (pair[0], tmp_path / "made.edge")
    )
    assert set(np.flatnonzero((before != after).any(axis=1))) == {3}
    assert small.header.file_bytes < 700

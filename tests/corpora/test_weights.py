"""Weights: parts become one verified folder, a wrong byte anywhere is named and leaves nothing behind."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgespeech.corpora import weights
from edgespeech.corpora.weights import (
    count_parameters,
    load_spec,
    model_names,
    resolve_weights,
    weights_available,
)
from edgespeech.errors import EdgeSpeechError

PART_1, PART_2, CONFIG = b"first half, ", b"second half", b"{}"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILE = {"sha256": "0" * 64, "bytes": 1}
GOOD = {"hub": {"repo": "a/b", "revision": REVISION}, "files": {"a": FILE}}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package(site: Path, name: str, files: dict[str, bytes]) -> None:
    """An installed package, as `importlib.metadata` sees it."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for path, data in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)


def write_spec(specs: Path, name: str, sources: list[dict[str, Any]]) -> None:
    content = {"name": name, "citation": "somebody", "licence": "MIT", "sources": sources}
    (specs / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model `toy` in two packages, its first file cut in two, and on a hub; a work folder of its own."""
    site, specs = tmp_path / "site", tmp_path / "specs"
    specs.mkdir()
    package(site, "toy-1", {"toy_1/model.bin.part1": PART_1})
    package(site, "toy-2", {"toy_2/model.bin.part2": PART_2, "toy_2/config.json": CONFIG})
    whole = {"sha256": sha(PART_1 + PART_2), "bytes": len(PART_1 + PART_2)}
    config = {"sha256": sha(CONFIG), "bytes": len(CONFIG)}
    parts = [
        {"package": "toy-1", "path": "toy_1/model.bin.part1"},
        {"package": "toy-2", "path": "toy_2/model.bin.part2"},
    ]
    config_parts = [{"package": "toy-2", "path": "toy_2/config.json"}]
    write_spec(
        specs,
        "toy",
        [
            {
                "files": {
                    "model.bin": {**whole, "parts": parts},
                    "config.json": {**config, "parts": config_parts},
                }
            },
            {
                "hub": {"repo": "a/toy", "revision": REVISION},
                "files": {"model.bin": whole, "config.json": config},
            },
        ],
    )
    monkeypatch.setattr(weights, "_specs_folder", lambda: specs)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def uninstall(place: Path, name: str) -> None:
    (place / "site" / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA").unlink()
    (place / "site" / f"{name.replace('-', '_')}-1.0.dist-info").rmdir()


def fake_hub(monkeypatch: pytest.MonkeyPatch, model: bytes | Exception) -> list[tuple[str, Any]]:
    calls: list[tuple[str, Any]] = []

    def snapshot_download(repo: str, *, revision: str, allow_patterns: list[str], local_dir: Path) -> str:
        calls.append((repo, revision))
        local_dir.mkdir(parents=True, exist_ok=True)
        if isinstance(model, Exception):
            raise model
        for name in allow_patterns:
            (local_dir / name).write_bytes(model if name == "model.bin" else CONFIG)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return calls


def test_parts_are_joined_in_order_and_described(place: Path) -> None:
    found = resolve_weights("toy")
    assert (found.folder / "model.bin").read_bytes() == PART_1 + PART_2
    assert found.files == {"model.bin": sha(PART_1 + PART_2), "config.json": sha(CONFIG)}
    assert found.n_bytes == len(PART_1 + PART_2 + CONFIG)
    assert found.source == "packages toy-1 + toy-2"
    assert found.folder == place / "work" / "models" / "toy"
    assert [path.name for path in found.folder.parent.iterdir()] == ["toy"]


def test_the_joined_folder_is_made_once(place: Path) -> None:
    first = (resolve_weights("toy").folder / "model.bin").stat()
    second = (resolve_weights("toy").folder / "model.bin").stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)


def test_a_damaged_joined_folder_is_made_again(place: Path) -> None:
    model = resolve_weights("toy").folder / "model.bin"
    model.write_bytes(PART_1 + PART_2[::-1])
    assert (resolve_weights("toy").folder / "model.bin").read_bytes() == PART_1 + PART_2


def test_another_process_that_was_faster_keeps_its_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = place / "work/models/toy"

    def copy(piece: Any, out: Any, _: int) -> None:
        out.write(piece.read())
        theirs.mkdir(exist_ok=True)
        (theirs / "model.bin").write_bytes(PART_1 + PART_2)
        (theirs / "config.json").write_bytes(CONFIG)
        (theirs / "reader").touch()

    monkeypatch.setattr("shutil.copyfileobj", copy)
    assert resolve_weights("toy").folder == theirs
    assert (theirs / "reader").exists()
    assert [path.name for path in theirs.parent.iterdir()] == ["toy"]


def test_a_wrong_part_names_both_hashes_and_leaves_nothing(place: Path) -> None:
    (place / "site/toy_2/model.bin.part2").write_bytes(b"something else")
    with pytest.raises(EdgeSpeechError) as caught:
        resolve_weights("toy")
    assert sha(PART_1 + b"something else") in str(caught.value)
    assert sha(PART_1 + PART_2) in str(caught.value)
    assert list((place / "work/models").iterdir()) == []


def test_a_package_that_has_the_files_as_they_are_is_used_in_place(place: Path) -> None:
    package(place / "site", "whole", {"whole/m/model.bin": PART_1, "whole/m/sub/config.json": CONFIG})
    spec = {
        "model.bin": (PART_1, "whole/m/model.bin"),
        "sub/config.json": (CONFIG, "whole/m/sub/config.json"),
    }
    files = {
        name: {"sha256": sha(data), "bytes": len(data), "parts": [{"package": "whole", "path": path}]}
        for name, (data, path) in spec.items()
    }
    write_spec(place / "specs", "whole", [{"files": files}])
    assert resolve_weights("whole").folder == place / "site/whole/m"
    (place / "site/whole/m/sub/config.json").write_bytes(b"[]")
    with pytest.raises(EdgeSpeechError, match=f"{sha(b'[]')}.*{sha(CONFIG)}"):
        resolve_weights("whole")
    assert (place / "site/whole/m/sub/config.json").exists()


def test_a_missing_package_sends_us_to_the_hub_at_the_pinned_revision(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(place, "toy-1")
    calls = fake_hub(monkeypatch, PART_1 + PART_2)
    assert weights_available("toy") is None
    found = resolve_weights("toy")
    assert found.source == f"hub a/toy@{REVISION}"
    assert calls == [("a/toy", REVISION)]
    resolve_weights("toy")
    assert len(calls) == 1, "fetched once, then used from the work folder"


def test_a_wrong_file_from_the_hub_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(place, "toy-2")
    fake_hub(monkeypatch, b"other weights")
    with pytest.raises(EdgeSpeechError, match=f"{sha(b'other weights')}.*{sha(PART_1 + PART_2)}"):
        resolve_weights("toy")
    assert list((place / "work/models").iterdir()) == []


def test_nowhere_lists_what_was_tried(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(place, "toy-1")
    fake_hub(monkeypatch, OSError("no route"))
    with pytest.raises(EdgeSpeechError) as caught:
        resolve_weights("toy")
    assert "package toy-1 is not installed" in str(caught.value)
    assert f"hub a/toy@{REVISION}: OSError: no route" in str(caught.value)


def test_availability_is_a_reason_when_offline(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_available("toy") is None
    (place / "site/toy_2/config.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reason = weights_available("toy")
    assert reason is not None
    assert "package toy-2 has no toy_2/config.json" in reason
    assert "HF_HUB_OFFLINE is set" in reason
    with pytest.raises(EdgeSpeechError, match="HF_HUB_OFFLINE"):
        resolve_weights("toy")


def test_a_folder_given_is_verified_and_nothing_else_is_tried(place: Path) -> None:
    folder = place / "mine"
    folder.mkdir()
    (folder / "model.bin").write_bytes(PART_1 + PART_2)
    (folder / "config.json").write_bytes(CONFIG)
    found = resolve_weights("toy", folder)
    assert found.folder == folder
    assert str(place) not in found.source
    (folder / "model.bin").write_bytes(b"mine")
    with pytest.raises(EdgeSpeechError, match=f"{sha(b'mine')}.*{sha(PART_1 + PART_2)}"):
        resolve_weights("toy", folder)
    (folder / "config.json").unlink()
    with pytest.raises(EdgeSpeechError, match="toy"):
        resolve_weights("toy", folder)
    with pytest.raises(EdgeSpeechError, match=r"path is '.*nowhere', expected an existing folder"):
        resolve_weights("toy", place / "nowhere")
    assert weights_available("toy", place / "nowhere") is not None


def test_an_unknown_model_lists_the_known_ones(place: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="model is 'nope', expected one of toy"):
        resolve_weights("nope")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licens": "MIT"}, "unknown key 'licens'"),
        ({"sources": []}, "sources is"),
        ({"sources": [{"files": {}}]}, "files is"),
        ({"sources": [{"files": {"a": FILE}}]}, "a to have parts"),
        ({"sources": [{"files": {"a": {**FILE, "sha256": "abc"}}}]}, "sha256 is 'abc'"),
        (
            {"sources": [{"hub": {"repo": "a/b", "revision": "main"}, "files": {"a": FILE}}]},
            "revision is 'main'",
        ),
    ],
)
def test_a_bad_specification_names_file_and_field(place: Path, change: dict[str, Any], message: str) -> None:
    content = {"name": "bad", "citation": "x", "licence": "MIT", "sources": [GOOD], **change}
    (place / "specs/bad.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(EdgeSpeechError, match=rf"bad\.yaml.*{message}"):
        load_spec("bad")


def test_a_specification_that_is_not_yaml(place: Path) -> None:
    (place / "specs/bad.yaml").write_text("name: [")
    with pytest.raises(EdgeSpeechError, match=r"bad\.yaml: not YAML"):
        load_spec("bad")


def test_a_folder_that_cannot_be_made_is_a_clear_error(place: Path) -> None:
    (place / "work").mkdir()
    (place / "work/models").write_text("a file where the folder should be")
    with pytest.raises(EdgeSpeechError, match=r"models/toy: could not be made"):
        resolve_weights("toy")


def test_a_good_specification_loads(place: Path) -> None:
    write_spec(place / "specs", "good", [GOOD])
    assert load_spec("good").sources[0].label == f"hub a/b@{REVISION}"


def test_a_full_disk_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(EdgeSpeechError, match="No space left on device"):
        resolve_weights("toy")
    assert list((place / "work/models").iterdir()) == []


def variable(name: str, shape: tuple[int, ...], size: int) -> bytes:
    text = name.encode() + b"\0"
    head = struct.pack(f"<H{len(text)}sB", len(text), text, len(shape))
    return head + struct.pack(f"<{len(shape)}IBI", *shape, 4, size) + bytes(size)


def test_parameters_are_counted_from_the_layout(tmp_path: Path) -> None:
    spec = b"WhisperSpec\0"
    head = struct.pack(f"<IH{len(spec)}sII", 6, len(spec), spec, 3, 3)
    body = variable("a/weight", (3, 5), 30) + variable("a/heads", (), 2) + variable("b/bias", (7,), 14)
    (tmp_path / "model.bin").write_bytes(head + body + struct.pack("<I", 0))
    assert count_parameters(tmp_path / "model.bin") == 3 * 5 + 7


@pytest.mark.parametrize("content", [b"", b"\x06\0\0\0\x05", struct.pack("<I", 5) + bytes(64)])
def test_another_layout_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(EdgeSpeechError, match=r"model\.bin"):
        count_parameters(tmp_path / "model.bin")


def test_every_shipped_specification_is_valid_and_named_after_its_file() -> None:
    assert {"pocketsphinx-en-us", "whisper-base", "whisper-tiny"} <= set(model_names())
    for name in model_names():
        assert load_spec(name).name == name


# Parameters of the released checkpoints, and the sine tables of the encoder's 1,500 positions, which Whisper
# computes and the converter stores. Each attention stores one bias of zeros more (see count_parameters).
@pytest.mark.parametrize(
    ("name", "published", "width", "layers"),
    [("whisper-tiny", 37_184_256, 384, 4), ("whisper-base", 71_825_920, 512, 6)],
)
def test_known_sizes(name: str, published: int, width: int, layers: int) -> None:
    if reason := weights_available(name):
        pytest.skip(reason)
    model = resolve_weights(name).folder / "model.bin"
    assert count_parameters(model) == published + 1500 * width + 3 * layers * width

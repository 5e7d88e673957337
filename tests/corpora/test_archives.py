"""Weights in archives of package registries: read in place, verified, and named with the command that gets them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edgespeech.corpora import weights
from edgespeech.corpora.archives import Archive, archives_folder, opened
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import EdgeSpeechError

MODEL, WORDS = b"the model", b"its words"
TARRED, WHEEL = "toy-model-1.0.0.tgz", "toy-1.0-py3-none-any.whl"


def spec(model: bytes = MODEL) -> dict[str, Any]:
    def file(content: bytes, archive: str, path: str) -> dict[str, Any]:
        return {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "parts": [{"archive": archive, "path": path}],
        }

    return {
        "name": "toy",
        "citation": "somebody",
        "licence": "MIT",
        "sources": [
            {
                "archives": {TARRED: {"npm": "@toys/model@1.0.0"}, WHEEL: {"pip": "toy==1.0"}},
                "files": {
                    "deep/model.bin": file(model, TARRED, "package/model.bin"),
                    "words.txt": file(WORDS, WHEEL, "toy/words.txt"),
                },
            }
        ],
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder with both archives; returns the folder of the specifications."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(weights, "_specs_folder", lambda: tmp_path)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(spec(), sort_keys=False))
    archives_folder().mkdir(parents=True)
    with tarfile.open(archives_folder() / TARRED, "w:gz") as tarred:
        member = tarfile.TarInfo("package/model.bin")
        member.size = len(MODEL)
        tarred.addfile(member, io.BytesIO(MODEL))
    with zipfile.ZipFile(archives_folder() / WHEEL, "w") as wheel:
        wheel.writestr("toy/words.txt", WORDS)
    return tmp_path


def test_files_of_both_kinds_of_archives_become_one_folder(place: Path) -> None:
    assert weights_available("toy") is None
    found = resolve_weights("toy")
    assert (found.folder / "deep/model.bin").read_bytes() == MODEL
    assert (found.folder / "words.txt").read_bytes() == WORDS
    assert found.source == f"archives {TARRED} + {WHEEL}"
    assert found.n_bytes == len(MODEL) + len(WORDS)


@pytest.mark.parametrize(
    ("name", "command"), [(TARRED, "npm pack .* @toys/model@1.0.0"), (WHEEL, "pip download .* toy==1.0")]
)
def test_a_missing_archive_is_named_with_the_command_that_gets_it(
    place: Path, name: str, command: str
) -> None:
    (archives_folder() / name).unlink()
    reason = weights_available("toy")
    assert reason is not None
    assert name in reason
    with pytest.raises(EdgeSpeechError, match=command):
        resolve_weights("toy")
    assert not (place / "work/models").exists()


def test_other_content_is_refused_and_leaves_nothing(place: Path) -> None:
    (place / "toy.yaml").write_text(yaml.safe_dump(spec(b"another model")))
    with pytest.raises(EdgeSpeechError, match="sha256 is"):
        resolve_weights("toy")
    assert not (place / "work/models/toy").exists()


@pytest.mark.parametrize("damage", [b"", b"no archive", b"\x1f\x8b\x08\x00cut"])
def test_a_damaged_archive_is_one_line(place: Path, damage: bytes) -> None:
    (archives_folder() / TARRED).write_bytes(damage)
    with pytest.raises(EdgeSpeechError, match=rf"{TARRED}: cannot be read"):
        resolve_weights("toy")


@pytest.mark.parametrize("name", [TARRED, WHEEL])
def test_a_file_that_an_archive_lacks(place: Path, name: str) -> None:
    with pytest.raises(EdgeSpeechError, match="has no other"), opened(archives_folder() / name, "other"):
        pass


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"npm": "a@1.0.0", "pip": "a==1.0"},
        {"npm": "a"},
        {"npm": "a@1.0.0; rm -r x"},
        {"pip": "a"},
        {"pip": "--index=x==1"},
        {"url": "x"},
    ],
)
def test_an_archive_that_is_not_named_exactly(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Archive.model_validate(given)


def test_a_part_of_no_archive_that_is_listed(place: Path) -> None:
    wrong = spec()
    del wrong["sources"][0]["archives"][WHEEL]
    (place / "toy.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(EdgeSpeechError, match="to be one of archives"):
        resolve_weights("toy")

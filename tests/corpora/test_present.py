from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.corpora.corpora import load_corpus
from edgespeech.corpora.present import Presence, presence

URL = {"url": {"url": "https://example.org/a.tar", "sha256": "0" * 64}, "reader": "librispeech"}
MIRROR = {"mirror": {"folder": "tiny"}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror, a work folder and a folder of corpora, all empty."""
    for name in ("mirror", "work", "corpora"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"EDGESPEECH_{name.upper()}", str(tmp_path / name))
    return tmp_path


def describe(folder: Path, *sources: dict[str, Any], name: str = "tiny") -> None:
    content = {
        "name": name, "title": "Tiny", "kind": "speech", "licence": "CC0-1.0", "citation": "none",
        "homepage": "none", "sources": list(sources),
        "splits": {f"{name}_a": {"manifest": "a.jsonl", "evaluation_only": True}},
    }  # fmt: skip
    (folder / "corpora" / f"{name}.yaml").write_text(yaml.safe_dump(content))


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def state(name: str = "tiny") -> Presence:
    return presence(load_corpus(name), f"{name}_a")


def test_a_split_of_the_mirror_is_here_once_its_manifest_is(folder: Path) -> None:
    describe(folder, MIRROR)
    assert state() is Presence.NO_SOURCE
    put(folder / "mirror" / "tiny" / "a.jsonl")
    assert state() is Presence.HERE


def test_a_download_must_be_fetched_until_it_is_complete(folder: Path) -> None:
    describe(folder, MIRROR, URL)
    assert state() is Presence.TO_FETCH
    put(folder / "work" / "corpora" / "tiny" / "a.jsonl")
    unfinished = put(folder / "work" / "corpora" / "tiny" / ".unfinished")
    assert state() is Presence.TO_FETCH
    unfinished.unlink()
    assert state() is Presence.HERE


def test_without_a_reader_there_is_nothing_to_fetch(folder: Path) -> None:
    describe(folder, {"url": URL["url"]})
    assert state() is Presence.NO_SOURCE


def test_held_out_speakers_are_here_when_their_corpora_are(folder: Path) -> None:
    describe(folder, MIRROR, URL)
    describe(folder, {"held_out": {"splits": ["tiny_a"]}}, name="held")
    assert state("held") is Presence.TO_FETCH
    put(folder / "mirror" / "tiny" / "a.jsonl")
    assert state("held") is Presence.HERE


def test_the_command_shows_it(folder: Path) -> None:
    describe(folder, MIRROR, URL)
    done = CliRunner().invoke(app, ["corpora"])
    assert done.exit_code == 0, done.output
    assert ["tiny_a", "to", "fetch", "evaluation", "only"] in [
        line.split() for line in done.output.splitlines()
    ]
    assert "edgespeech fetch NAME" in done.output

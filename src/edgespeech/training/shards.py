"""Shards: all audio of a run in tar files of bounded size, for training on machines without the corpora.

A folder of shards has an index, `shards.json`: the corpora, and the bytes and SHA-256 of every shard. A shard has
`manifest.jsonl`, with a line for each of its utterances, and then their original audio files. Utterances of all corpora
are mixed by a seed, so that the first shards are a fair sample of all. Reading is one pass over each file.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.audio.io import read_audio
from edgespeech.core.config import explain
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.folders import make_folder
from edgespeech.core.places import work_dir
from edgespeech.corpora.manifest import Manifest, Sha256, Utterance
from edgespeech.errors import bad
from edgespeech.training.store import Span, Store, append_samples

INDEX = "shards.json"
_LINES = "lines.jsonl"
MANIFEST = "manifest.jsonl"
LARGEST_MB = 60.0
_FORMAT = "edgespeech-shards-1"
_BLOCK = 512
"""Block size of tar files: every file takes whole blocks, and one for its header."""
_END = 20 * _BLOCK


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ShardedCorpus(_Strict):
    """A corpus in shards: the hash of its manifest's file, and its number of utterances."""

    name: str
    sha256: Sha256
    utterances: Annotated[int, Field(gt=0)]


class ShardFile(_Strict):
    """Name, size and hash of a shard."""

    file: Annotated[str, Field(pattern=r"^[a-z0-9_.-]+\.tar$")]
    bytes: Annotated[int, Field(gt=0)]
    sha256: Sha256
    utterances: Annotated[int, Field(gt=0)]


class Index(_Strict):
    """The content of `shards.json`."""

    format: str
    seed: int
    corpora: Annotated[tuple[ShardedCorpus, ...], Field(min_length=1, strict=False)]
    shards: Annotated[tuple[ShardFile, ...], Field(min_length=1, strict=False)]


class _Line(_Strict):
    """A line of a shard's manifest: the corpus, the utterance's index in it, and the utterance."""

    corpus: str
    place: Annotated[int, Field(ge=0)]
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class _Member:
    corpus: str
    place: int
    utterance: Utterance
    source: Path


def write_shards(
    manifests: dict[str, Manifest], folder: Path, *, seed: int, largest_mb: float = LARGEST_MB
) -> Path:
    """Write the audio of corpora as shards.

    Args:
        manifests: of the corpora, by their names in the configuration.
        folder: created if missing; it must not have an index yet.
        seed: of the order.
        largest_mb: maximum size of a shard, in 10^6 bytes.

    Returns:
        The index. It is written last, so that a folder without it is not complete.

    Raises:
        EdgeSpeechError: the folder has shards already, audio is missing, or a file exceeds the maximum size.
    """
    if (folder / INDEX).exists():
        raise bad("shard", "folder", str(folder), f"one without {INDEX}: shards are never overwritten")
    members = [
        _Member(name, place, utterance, manifest.audio_path(utterance))
        for name, manifest in sorted(manifests.items())
        for place, utterance in enumerate(manifest.utterances)
    ]
    random.Random(seed).shuffle(members)
    shards = []
    for number, group in enumerate(_grouped(members, int(largest_mb * 1e6))):
        name = f"shard-{number:05d}.tar"
        content = _tar(group)
        write_atomic(folder / name, content)
        shards.append(
            ShardFile(
                file=name,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                utterances=len(group),
            )
        )
    corpora = tuple(
        ShardedCorpus(name=name, sha256=manifest.identity(), utterances=len(manifest.utterances))
        for name, manifest in sorted(manifests.items())
    )
    index = Index(format=_FORMAT, seed=seed, corpora=corpora, shards=tuple(shards))
    write_atomic(folder / INDEX, index.model_dump_json(indent=1) + "\n")
    return folder / INDEX


def _grouped(members: Sequence[_Member], largest: int) -> Iterator[list[_Member]]:
    """Group members in order, as many as fit into each shard."""
    group: list[_Member] = []
    size = _END
    for member in members:
        own = _blocks(member.source.stat().st_size) + 2 * len(_line(member)) + _BLOCK
        if _END + own > largest:
            raise bad(str(member.source), "bytes", own, f"at most {largest - _END}, the bound on a shard")
        if group and size + own > largest:
            yield group
            group, size = [], _END
        group.append(member)
        size += own
    if group:
        yield group


def _blocks(size: int) -> int:
    return (1 + -(-size // _BLOCK)) * _BLOCK


def _line(member: _Member) -> bytes:
    line = _Line(corpus=member.corpus, place=member.place, utterance=member.utterance)
    return line.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _tar(members: Sequence[_Member]) -> bytes:
    """A tar file without times and owners, so that the same members give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, MANIFEST, b"".join(_line(member) for member in members))
        for number, member in enumerate(members):
            _add(tar, _name(number, member.utterance), member.source.read_bytes())
    return buffer.getvalue()


def _name(number: int, utterance: Utterance) -> str:
    return f"{number:06d}{PurePosixPath(utterance.audio_filepath).suffix}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))


class Shards:
    """The corpora of a folder of shards, decoded in one pass on first use.

    Args:
        folder: with `shards.json`.

    Raises:
        EdgeSpeechError: there is no valid index, or a shard is missing, truncated, has another hash, or does not match
            the index.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = _read_index(folder / INDEX)
        key = sha256_file(folder / INDEX)
        self._kept = work_dir() / "training" / "shards" / key
        if not self._kept.is_dir():
            self._decode()
        self._lines: dict[str, list[tuple[int, Utterance, Span]]] = {c.name: [] for c in self._index.corpora}
        for text in (self._kept / _LINES).read_text(encoding="utf-8").splitlines():
            line, span = json.loads(text)
            parsed = _Line.model_validate_json(line)
            self._lines[parsed.corpus].append((parsed.place, parsed.utterance, tuple(span)))
        for lines in self._lines.values():
            lines.sort(key=lambda line: line[0])

    def corpus(self, name: str) -> tuple[Manifest, Store]:
        """A corpus's manifest, whose audio files do not exist here, and its samples.

        Raises:
            EdgeSpeechError: it is not in the shards.
        """
        about = next((corpus for corpus in self._index.corpora if corpus.name == name), None)
        if about is None:
            raise bad(str(self._folder / INDEX), "corpora", name, "one of " + ", ".join(self._lines))
        lines = self._lines[name]
        utterances = tuple(utterance for _, utterance, _ in lines)
        manifest = Manifest(name=name, path=self._folder / INDEX, sha256=about.sha256, utterances=utterances)
        return manifest, Store(self._kept / _raw(name), [span for _, _, span in lines])

    def _decode(self) -> None:
        """Check every shard, then decode all of them, one file per corpus, into a folder that appears at the end."""
        for shard in self._index.shards:
            _check(self._folder / shard.file, shard)
        make_folder(self._kept, self._fill)

    def _fill(self, made: Path) -> None:
        with ExitStack() as stack:
            files = {
                c.name: stack.enter_context((made / _raw(c.name)).open("wb")) for c in self._index.corpora
            }
            kept = [
                line
                for shard in self._index.shards
                for line in _decode_shard(self._folder / shard.file, shard, files)
            ]
        (made / _LINES).write_text("\n".join(kept) + "\n", encoding="utf-8")


def _raw(corpus: str) -> str:
    """The name of the file of a corpus's samples."""
    return f"{hashlib.sha256(corpus.encode()).hexdigest()}.raw"


def _read_index(path: Path) -> Index:
    try:
        index = Index.model_validate_json(path.read_bytes())
    except OSError as error:
        raise bad("shards", "index", str(path), "a file that exists") from error
    except ValidationError as error:
        raise explain(str(path), error) from error
    if index.format != _FORMAT:
        raise bad(str(path), "format", index.format, _FORMAT)
    return index


def _check(path: Path, shard: ShardFile) -> None:
    """Compare a shard with its index entry before it is used."""
    if not path.is_file():
        raise bad(str(path), "shard", None, "a file that exists, as the index says")
    if (size := path.stat().st_size) != shard.bytes:
        raise bad(str(path), "bytes", size, f"{shard.bytes}: it was cut short or is another file")
    if (found := sha256_file(path)) != shard.sha256:
        raise bad(str(path), "sha256", found, shard.sha256)


def _decode_shard(path: Path, shard: ShardFile, files: Mapping[str, BinaryIO]) -> list[str]:
    """Append a shard's samples to the files of their corpora; return its lines with positions."""
    kept: list[str] = []
    with tarfile.open(path, "r|") as tar, TemporaryDirectory() as scratch:
        members = iter(tar)
        lines = _content(tar, next(members)).decode().splitlines()
        for number, (text, member) in enumerate(zip(lines, members, strict=True)):
            line = _Line.model_validate_json(text)
            utterance = line.utterance
            if member.name != _name(number, utterance) or line.corpus not in files:
                raise bad(str(path), f"member {number}", member.name, f"{utterance.id} of {line.corpus}")
            audio = Path(scratch) / member.name
            audio.write_bytes(_content(tar, member))
            samples = read_audio(
                audio, offset=utterance.offset, duration=utterance.duration, sha256=utterance.sha256
            )
            audio.unlink()
            kept.append(json.dumps([text, append_samples(files[line.corpus], samples)]))
    if len(kept) != shard.utterances:
        raise bad(str(path), "utterances", len(kept), f"{shard.utterances}, as the index says")
    return kept


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise bad(str(tar.name), "member", member.name, "a file")
    return file.read()

"""Manifests: audio files, their transcripts, and hashes of both.

A manifest is a file of JSON lines, one utterance a line (the NeMo convention, extended), plain or compressed by gzip.
Every line is validated; an invalid line is an error with its line number, and no line is skipped. Unknown fields
(NeMo's `pred_text`, a user's own) are preserved with their utterance.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgespeech.audio.io import DURATION_SLACK_S, MONO, file_bytes, length_of, part_of, read_audio
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.config import explain, unique_keys, words_in
from edgespeech.core.files import is_text, sha256_file, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.used import note_subset

MAX_BYTES = 1 << 30
"""Maximum size of a manifest, uncompressed."""
MAX_ID = 1000
_FILE_NAME = "file name"
"""Characters of an utterance's id; paths are shorter."""
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_ABSOLUTE = re.compile(r"/|~|file:|[A-Za-z]:[\\/]")
_GZIP = b"\x1f\x8b"
_ESCAPED = re.compile(rb"\\u00|[\x00-\x08\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""What a line has that holds a control character: its code, or, against the rules of JSON, itself."""
_BOM = b"\xef\xbb\xbf"
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Utterance(BaseModel):
    """One line of a manifest. Times are in seconds from the utterance's first sample.

    Attributes:
        id: unique in its manifest; by default the audio's path without its suffix, with offset and duration for a part
            of a file. Never an absolute path.
        audio_filepath: relative to the manifest's folder, or absolute.
        duration: length of the utterance, > 0. For a whole file it must be the file's, which is checked before a run.
        text: transcript, as written in its corpus; may be empty (silence).
        sha256: of the audio file's bytes.
        offset: start of the utterance in the audio file, in seconds; None: it is the whole file.
        lead_in_s: seconds of the file right before `offset` that are a lead-in: heard, not transcribed.
        speaker: id of the speaker; None if the corpus does not state it.
        sos_s: start of speech.
        eos_s: end of speech.
        intent: of the command.
        slots: the intent's arguments, name to value.
        context: phrases that a speaker is likely to use, for recognisers that take them.
        lang: ISO 639-1 code.
        split: the split of the corpus, if one manifest has several.
        age: of the speaker, in years, or as stated by the corpus (`twenties`).
        gender: as stated by the corpus.
        kind: of recording, as stated by the corpus, such as `cafe`.
        credit: attribution that its licence requires.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    id: Annotated[str, Field(min_length=1)]
    audio_filepath: Annotated[str, Field(min_length=1)]
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    text: str
    sha256: Sha256 | None = None
    offset: Seconds | None = None
    lead_in_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    speaker: str | None = None
    sos_s: Seconds | None = None
    eos_s: Seconds | None = None
    intent: str | None = None
    slots: dict[str, str] | None = None
    context: Annotated[tuple[str, ...], Field(strict=False)] = ()  # JSON has lists, no tuples
    lang: Annotated[str, Field(min_length=2)] = "en"
    split: str | None = None
    age: Annotated[int, Field(ge=0)] | str | None = None
    gender: str | None = None
    kind: str | None = None
    credit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name(cls, line: object) -> object:
        if not isinstance(line, dict):
            return line
        if not isinstance(path := line.get("audio_filepath"), str) or not Path(path).name:
            # The line is an error, of the path and not of the id that would come from it.
            return {**line, "id": line.get("id") or "none"}
        if line.get("id") is None:
            name = str(Path(path).with_suffix(""))
            if line.get("offset") is not None:
                name += f"@{line['offset']}+{line.get('duration')}"
            return {**line, "id": name}
        return line

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sos_s is not None and self.eos_s is not None and self.sos_s > self.eos_s:
            raise ValueError(f"sos_s ({self.sos_s}) not after eos_s ({self.eos_s})")
        if self.eos_s is not None and self.eos_s > self.duration + DURATION_SLACK_S:
            raise ValueError(f"eos_s ({self.eos_s}) within the duration ({self.duration})")
        if self.lead_in_s is not None and self.lead_in_s > (self.offset or 0.0):
            raise ValueError(
                f"lead_in_s ({self.lead_in_s}) at most offset ({self.offset}), where its file has the utterance"
            )
        for name, value in self.foreign.items():
            if not _is_finite(value):
                raise ValueError(f"finite numbers in {name}")
        return self

    @property
    def foreign(self) -> Mapping[str, Any]:
        """The fields of the line that this class does not define, as JSON."""
        return self.model_extra or {}


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else True


def _content_of(path: Path) -> str | None:
    """The hash of a file; None where there is none that can be read."""
    try:
        about = path.stat()
        # A copy with the times of another file has another time of change.
        state = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        return _hash(path, state) if path.is_file() else None
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1 << 20)
def _hash(path: Path, state: tuple[int, ...]) -> str:
    del state  # another file by the same name has another
    return sha256_file(path)


class _WithoutText(Utterance):
    """A line of a noise manifest, without a transcript."""

    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A manifest as read.

    Attributes:
        name: of the split, or the file's stem.
        path: the file.
        sha256: of the file's bytes, also for a subset of its utterances.
        utterances: in the file's order.
    """

    name: str
    path: Path
    sha256: str
    utterances: tuple[Utterance, ...]

    def audio_path(self, utterance: Utterance) -> Path:
        """The path of the utterance's audio file."""
        return self.path.parent / utterance.audio_filepath

    def read(self, utterance: Utterance, *, sample_rate: int = SAMPLE_RATE, channels: str = MONO) -> Samples:
        """The utterance's samples, after checking the hash and length of its file (`read_audio`).

        Raises:
            EdgeSpeechError: as `read_audio`.
        """
        return read_audio(
            self.audio_path(utterance),
            sample_rate=sample_rate,
            offset=utterance.offset,
            duration=utterance.duration,
            channels=channels,
            sha256=utterance.sha256,
        )

    def check(self, items: Sequence[Utterance], *, channels: str = MONO) -> None:
        """Decode the file that these utterances are parts of, once, and compare it with their lines.

        Raises:
            AudioMismatchError: the hash or the length differs from a line's.
            EdgeSpeechError: it cannot be read.
        """
        path = self.audio_path(items[0])
        data = file_bytes(path)
        for sha256 in {item.sha256 for item in items}:
            samples, rate = length_of(str(path), data, channels=channels, sha256=sha256)
        for item in items:
            part_of(str(path), samples, rate, item.offset, item.duration)

    def identity(self) -> str:
        """A hash of what is read and heard: `sha256`, and the content of the audio files that have none in their lines.

        The same lines in two folders, or before and after audio was exchanged, are two manifests. What is not there
        or cannot be read is the failure of its utterances, and not of who asks for a hash.
        """
        names = {item.audio_filepath for item in self.utterances if item.sha256 is None}
        hashes = [found for name in sorted(names) if (found := _content_of(self.path.parent / name))]
        return hashlib.sha256("".join([self.sha256, *hashes]).encode()).hexdigest() if hashes else self.sha256

    def hashed(self) -> Manifest:
        """The manifest with the hash of the present content in every line that has none, so that a file which is
        exchanged later is found when it is read. Lines whose audio cannot be read stay as they are.
        """
        return replace(
            self,
            utterances=tuple(
                one
                if one.sha256 is not None
                else one.model_copy(update={"sha256": _content_of(self.audio_path(one))})
                for one in self.utterances
            ),
        )

    def subset(self, n: int, seed: int) -> Manifest:
        """A seeded sample of `n` utterances (all, if there are fewer), in the original order.

        The choice depends on the ids and the seed alone, and a smaller sample is a subset of a larger one.

        Raises:
            EdgeSpeechError: `n` is below 1.
        """
        if n < 1:
            raise bad(str(self.path), "subset size", n, "at least 1")

        def key(utterance: Utterance) -> bytes:
            return hashlib.sha256(f"{seed}:{utterance.id}".encode()).digest()

        chosen = {utterance.id for utterance in sorted(self.utterances, key=key)[:n]}
        note_subset(self.name, len(chosen))
        return replace(self, utterances=tuple(u for u in self.utterances if u.id in chosen))

    def content_sha256(self) -> str:
        """A hash of the ids and texts alone: the same for the same utterances with other audio files."""
        lines = sorted(f"{utterance.id}\t{utterance.text}\n" for utterance in self.utterances)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def select(self, split: str) -> Manifest:
        """The utterances whose own `split` is this one, in the original order.

        Raises:
            EdgeSpeechError: there are none.
        """
        chosen = tuple(u for u in self.utterances if u.split == split)
        if not chosen:
            there = sorted({u.split for u in self.utterances if u.split is not None})
            raise bad(str(self.path), "split", split, f"one of {', '.join(there) or '(no line has a split)'}")
        return replace(self, utterances=chosen)


def load_manifest(path: Path, name: str | None = None, *, require_text: bool = True) -> Manifest:
    """Read and validate a manifest.

    Args:
        path: the JSON-lines file.
        name: of the manifest; its stem by default.
        require_text: whether a line must have `text`. A noise corpus has none; its text is then empty.

    Raises:
        EdgeSpeechError: with file and line: unreadable, empty, too large, not UTF-8, not JSON, a field missing, of a
            wrong type or out of range, a duplicate id, or audio that does not exist.
    """
    content = _content(path)
    name = name or path.stem
    _check_text(str(path), _FILE_NAME, name)
    # Editors leave byte-order marks and empty lines; both are ignored.
    lines = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise EdgeSpeechError(f"{path}: is empty, expected one JSON object a line")
    model = Utterance if require_text else _WithoutText
    utterances: list[Utterance] = []
    seen: dict[str, int] = {}
    for number, line in lines:
        where = f"{path}:{number}"
        utterance = _published_id(_parse(model, line, where), path.parent)
        _check_text(where, "id", utterance.id)
        if _ESCAPED.search(line):
            for field, value in utterance.model_dump().items():
                for words in (field, *words_in(value)):
                    _check_text(where, field, words)
        same = unicodedata.normalize(
            "NFC", utterance.id
        )  # two forms of one name look alike, and are one file to some
        if same in seen:
            raise bad(where, "id", utterance.id, f"another id: line {seen[same]} has this one")
        seen[same] = number
        if not _is_file(path.parent / utterance.audio_filepath):
            raise bad(where, "audio_filepath", utterance.audio_filepath, "an existing file")
        utterances.append(utterance)
    digest = hashlib.sha256(content).hexdigest()
    return Manifest(name=name, path=path, sha256=digest, utterances=tuple(utterances))


def _check_text(where: str, field: str, text: str) -> None:
    """Refuse what nobody can see or say: control characters; in an id or a name also line breaks, white space around
    it, marks that turn the direction of writing, and great length.
    """
    if not is_text(text):
        raise bad(where, field, text, "whole characters: its bytes are not UTF-8")
    hidden = next(
        (letter for letter in text if unicodedata.category(letter) == "Cc" and not letter.isspace()), None
    )
    if hidden is not None:
        raise bad(where, field, text, f"no control character such as {hidden!r}")
    if field not in ("id", _FILE_NAME):
        return
    if len(text) > MAX_ID:
        raise bad(where, f"length of {field}", len(text), f"at most {MAX_ID}")
    if text != text.strip() or any(
        letter in _TURNS or (letter.isspace() and letter != " ") for letter in text
    ):
        raise bad(where, field, text, "one line, without white space around it or marks of direction")


def _content(path: Path) -> bytes:
    """A manifest's bytes, unpacked and without a byte-order mark."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe that nobody writes to never ends
            raise EdgeSpeechError(f"{path}: is a folder, a pipe or a device, expected a file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise bad(str(path), "size in bytes", size, f"at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    except ValueError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error}") from error
    if content.startswith(_GZIP):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise EdgeSpeechError(f"{path}: could not be unpacked: {error}") from error
        if len(content) > MAX_BYTES:
            raise bad(str(path), "size in bytes, unpacked", f"more than {MAX_BYTES}", "at most so many")
    return content.removeprefix(_BOM)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _published_id(utterance: Utterance, folder: Path) -> Utterance:
    """The utterance with an id that may be published: an absolute path is made relative to the manifest's folder, or
    cut to its last part.
    """
    if not _ABSOLUTE.match(utterance.id):
        return utterance
    path = Path(utterance.id)
    if path.is_relative_to(folder.resolve()):
        return utterance.model_copy(update={"id": path.relative_to(folder.resolve()).as_posix()})
    return utterance.model_copy(update={"id": re.split(r"[\\/]", utterance.id)[-1] or "..."})


def _parse(model: type[Utterance], line: bytes, where: str) -> Utterance:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise bad(where, "content", error.object[error.start : error.start + 8], "UTF-8") from error
    try:
        utterance = model.model_validate_json(text)
    except ValidationError as error:
        raise explain(where, error, tuple(Utterance.model_fields)) from error
    try:
        json.loads(text, object_pairs_hook=unique_keys(where))
    except (
        ValueError,
        RecursionError,
    ) as error:  # Python's own limits: an integer of 4,300 digits, for instance
        raise EdgeSpeechError(f"{where}: not JSON that Python reads: {error}") from error
    return utterance


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write utterances as JSON lines, atomically, leaving out fields that have their default.

    Raises:
        EdgeSpeechError: two utterances have the same id, there are none, or the file cannot be written.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise bad(
                f"{path}:{len(lines) + 1}", "id", utterance.id, "another id: an earlier line has this one"
            )
        seen.add(utterance.id)
        lines.append(utterance.model_dump_json(exclude_defaults=True))
    if not lines:
        raise EdgeSpeechError(f"{path}: no utterances to write")
    write_atomic(path, "\n".join(lines) + "\n")


def verify_audio(manifest: Manifest) -> int:
    """Hash the audio files and compare them with the manifest.

    Returns:
        How many utterances were verified; the others have no `sha256`.

    Raises:
        EdgeSpeechError: a file is missing, or its hash differs (the message has both hashes and the line).
    """
    hashes: dict[Path, str] = {}
    verified = 0
    for utterance in manifest.utterances:
        if utterance.sha256 is None:
            continue
        path = manifest.audio_path(utterance)
        if path not in hashes:
            hashes[path] = sha256_file(path)
        if hashes[path] != utterance.sha256:
            raise EdgeSpeechError(
                f"{manifest.path}:{_line_of(manifest.path, utterance)}: sha256 of {utterance.audio_filepath} "
                f"is {hashes[path]}, expected {utterance.sha256}"
            )
        verified += 1
    return verified


def _line_of(path: Path, utterance: Utterance) -> int:
    """The line of a manifest that an utterance came from."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line and _parse(_WithoutText, line, f"{path}:{number}").id == utterance.id:
            return number
    raise EdgeSpeechError(f"{path}: changed while it was being verified: {utterance.id!r} is gone")

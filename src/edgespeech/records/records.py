"""Records of runs: one JSON file per run, with its per-utterance rows in a `.hyps.jsonl` file beside it.

Published rows are compressed, with the additional suffix `.xz`. The hash in the record is that of the uncompressed
rows.

Everything that is published is rendered from records, so a record states what was measured, on what, how, with which
versions and on which kind of machine, but never by whom or where (measurement definitions, section 7).
Infinity is written "inf".
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from edgespeech.core.config import explain, unique_keys
from edgespeech.core.files import TEMPORARY, regular, visible, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.schema import (
    AccuracyRow,
    Condition,
    CorpusRow,
    Count,
    EventRow,
    Figure,
    MemoryRow,
    NetworkRow,
    NetworkTiming,
    Number,
    Provenance,
    Row,
    Sha256,
    Share,
    Strict,
    Subset,
    SystemRow,
    Timing,
    UplinkRow,
)

__all__ = [
    "AccuracyRow",
    "Condition",
    "CorpusRow",
    "Count",
    "EventRow",
    "Figure",
    "MemoryRow",
    "NetworkRow",
    "NetworkTiming",
    "Number",
    "Provenance",
    "Record",
    "Row",
    "Sha256",
    "Share",
    "Strict",
    "Subset",
    "SystemRow",
    "Timing",
    "UplinkRow",
    "guard",
    "load_record",
    "load_records",
    "load_rows",
    "make_run_id",
    "plain",
    "publish_record",
    "sha256_json",
    "without_paths",
    "write_once",
    "write_record",
]

PACKED = ".xz"
"""Suffix of a compressed file of rows."""
MAX_ROWS_BYTES = 512 << 20
"""Maximum size of a record or its rows, uncompressed; the largest published are some megabytes."""
HOST_KEYS = frozenset({"host", "hostname", "node", "fqdn", "user", "username", "login", "home", "ip", "mac"})
_PATH = re.compile(
    r"(?:(?<=[\s\"'`(<\[{=,;|])|(?<=\w:)|^)(?:file://)?(?:[A-Za-z]:\\|~/|/[\w.@+~-]+/)[^\s\"'`,;)>\]}:]*"
)

M = TypeVar("M", bound=Strict)


class Record(Strict):
    """One run.

    Attributes:
        run_id: see `make_run_id`.
        created: UTC, ISO 8601, whole seconds, ending in `Z`.
        reason: why it failed or was skipped; None if it passed.
        endpointing: description of the end-pointing rule; printed below the tables.
        cloud_speedup: measured server compute is divided by this in every replay.
        config_sha256: of the run's whole configuration.
        accuracy: by normaliser name.
        acceptance: command acceptance rate, if the corpus has intents.
        latency: figures of the device that do not depend on the network, by their key in the metric registry.
        networks: by profile name.
        utterances_file: name of the rows' file beside this one, and its hash; `write_record` fills both.
    """

    schema_version: Literal[1] = 1
    run_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    created: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    status: Literal["passed", "failed", "skipped"]
    reason: str | None = None
    profile: Literal["quick", "full"]
    system: SystemRow
    corpus: CorpusRow
    condition: Condition
    endpointing: str
    cloud_speedup: float = Field(gt=0)
    seed: int
    config_sha256: Sha256
    provenance: Provenance
    accuracy: Mapping[str, AccuracyRow] = {}
    acceptance: Figure | None = None
    latency: Mapping[str, Figure] = {}
    networks: Mapping[str, NetworkRow] = {}
    uplink: UplinkRow | None = None
    memory: MemoryRow | None = None
    load_s: float | None = None
    warmup_s: float | None = None
    utterances_file: str | None = None
    utterances_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _honest(self) -> Self:
        if self.status == "passed" and (self.reason is not None or not self.accuracy):
            raise ValueError("a passed record has accuracy and no reason")
        if self.status != "passed" and not self.reason:
            raise ValueError(f"a {self.status} record says why")
        if self.corpus.n_failed > self.corpus.n_utterances:
            raise ValueError("more utterances failed than were run")
        guard(self.model_dump(mode="json"))
        return self

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        parts = (self.system.name, self.corpus.name, self.condition.label)
        safe = [re.sub(r"[^\w+-]+", "_", part).replace("_+_", "+") for part in parts]
        return ".".join([*safe, self.run_id])


def guard(content: object) -> None:
    """Refuse content that reveals where or by whom something was measured.

    Raises:
        ValueError: a key looks like a host or a person, or a string has an absolute path.
    """
    for where, value in _strings(content):
        if where.rsplit(".", 1)[-1].lower() in HOST_KEYS:
            raise ValueError(f"{where} looks like a machine or a person: leave it out")
        if _PATH.search(value):
            raise ValueError(f"{where} has an absolute path: {value[:80]!r}")


def without_paths(text: str) -> str:
    """`text` with every absolute path cut down to its last part, so that a message may enter a record."""
    for _ in range(10):  # the rest may look like a path again
        if _PATH.search(text) is None:
            return text
        text = _PATH.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1] or "...", text)
    return "(a message that is all paths)"


def sha256_json(value: object) -> str:
    """Hash of a JSON-serialisable value (infinity allowed), independent of the order of keys."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def make_run_id(
    *,
    created: str,
    profile: str,
    system: SystemRow,
    corpus: CorpusRow,
    condition: Condition,
    seed: int,
    config_sha256: str,
    commit: str,
    nonce: str = "",
) -> str:
    """Twelve hex digits over everything that identifies a run, its time included: no two runs share one.

    `nonce` distinguishes equal runs within one second.
    """
    return sha256_json(
        {
            "created": created,
            "profile": profile,
            "system": [system.name, dict(system.config), dict(system.model_sha256)],
            "corpus": [corpus.name, corpus.manifest_sha256, corpus.subset and corpus.subset.model_dump()],
            "condition": condition.model_dump(),
            "seed": seed,
            "config": config_sha256,
            "commit": commit,
            "nonce": nonce,
        }
    )[:12]


def write_record(record: Record, rows: Sequence[Row], folder: Path) -> Path:
    """Write a record and its rows; the rows first, so that a record never names a missing file.

    Args:
        record: without `utterances_file` and `utterances_sha256`, which are filled in here.
        rows: one per utterance run, in the manifest's order; empty for a run that never started.
        folder: created if missing.

    Returns:
        The record's file.

    Raises:
        EdgeSpeechError: a row is missing or repeated, or the file exists with another content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.stem}.json"
    if rows:
        hyps = folder / f"{record.stem}.hyps.jsonl"
        text = _rows_text(hyps, record, rows)
        write_once(hyps, text)
        record = record.model_copy(
            update={
                "utterances_file": hyps.name,
                "utterances_sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
        )
    dump = plain(record.model_dump(mode="json"))
    write_once(path, json.dumps(dump, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def forget_rows(folder: Path, stem: str) -> None:
    """Remove what a killed `write_record` left of a record that it did not write: its rows, whole or in part.

    Args:
        folder: of the record.
        stem: the record's.
    """
    assert not (folder / f"{stem}.json").exists()
    rows = f"{stem}.hyps.jsonl"
    for name in (rows, f".{rows}{TEMPORARY}", f".{stem}.json{TEMPORARY}"):
        (folder / name).unlink(missing_ok=True)


def load_record(path: Path) -> Record:
    """Load and validate one record; its file of rows is checked against the hash.

    Raises:
        EdgeSpeechError: not readable, not JSON, not of this schema, or the rows are missing or changed.
    """
    record = _parse(Record, _read(path), path.name)
    if (name := record.utterances_file) is not None:
        plain, packed = path.parent / name, path.parent / f"{name}{PACKED}"
        if Path(name).name != name or not (plain.is_file() or packed.is_file()):
            raise bad(path.name, "utterances_file", name, "a file beside the record")
        found = hashlib.sha256(_rows_read(path.parent, name).encode()).hexdigest()
        if found != record.utterances_sha256:
            raise bad(name, "sha256", found, f"{record.utterances_sha256}, as the record says")
    return record


def publish_record(path: Path, folder: Path) -> None:
    """Copy a record into the published ones, with compressed rows.

    Args:
        path: the record's file.
        folder: of the published records.

    Raises:
        EdgeSpeechError: as `load_record`, or it exists already with another content.
    """
    record = load_record(path)
    if (name := record.utterances_file) is not None:
        rows, packed = _rows_read(path.parent, name), folder / f"{name}{PACKED}"
        if not packed.exists():
            write_atomic(packed, lzma.compress(rows.encode(), preset=9 | lzma.PRESET_EXTREME))
        elif _rows_read(folder, name) != rows:
            raise EdgeSpeechError(f"{name} exists with another content: records are append-only")
    write_once(folder / path.name, _read(path))


def load_records(folder: Path) -> list[Record]:
    """Every record (`*.json`) of a folder, by file name; none if the folder is missing.

    Raises:
        EdgeSpeechError: as `load_record`, for the first invalid file, or two records with the same run id.
    """
    records: dict[str, Record] = {}
    for path in visible(folder, "*.json"):
        record = load_record(path)
        if path.name != f"{record.stem}.json":
            raise bad(path.name, "file name", path.name, f"{record.stem}.json")
        if record.run_id in records:
            raise bad(path.name, "run_id", record.run_id, "an id that no other record has")
        records[record.run_id] = record
    return list(records.values())


def load_rows(folder: Path, record: Record) -> list[Row]:
    """The per-utterance rows of a record in `folder`; empty if it has none.

    Raises:
        EdgeSpeechError: the file is missing, or a line is not a row.
    """
    if record.utterances_file is None:
        return []
    lines = _rows_read(folder, record.utterances_file).split("\n")[:-1]
    return [_parse(Row, line, f"{record.utterances_file}:{number}") for number, line in enumerate(lines, 1)]


def _rows_read(folder: Path, name: str) -> str:
    """The content of a file of rows, compressed or not."""
    plain, packed = folder / name, folder / f"{name}{PACKED}"
    if plain.is_file():
        return _read(plain)
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_ROWS_BYTES)
        rows = unpacker.decompress(regular(packed).read_bytes(), max_length=MAX_ROWS_BYTES + 1)
        if len(rows) > MAX_ROWS_BYTES:
            raise bad(packed.name, "size in bytes, unpacked", f"over {MAX_ROWS_BYTES}", "at most so many")
        if not unpacker.eof or unpacker.unused_data:
            raise EdgeSpeechError(f"{packed}: cannot be read: cut, or something behind its end")
        return rows.decode()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(f"{packed}: cannot be read: {error}") from error


def _rows_text(path: Path, record: Record, rows: Sequence[Row]) -> str:
    """The rows as JSON lines in order, with times rounded to the microsecond, the resolution of the clocks."""
    if record.status == "passed" and len(rows) != record.corpus.n_utterances:
        raise bad(path.name, "rows", len(rows), f"one for each of {record.corpus.n_utterances} utterances")
    lines = []
    for number, row in enumerate(rows, 1):
        if row.failure is not None and _PATH.search(row.failure):
            where = f"{path.name}:{number}"
            raise bad(where, "failure", row.failure, "a message without an absolute path")
        dump = plain(row.model_dump(mode="json", exclude_defaults=True), digits=6)
        lines.append(json.dumps(dump, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")
    if len({row.id for row in rows}) != len(rows):
        raise bad(path.name, "rows", "an id that occurs twice", "unique utterance ids")
    return "".join(lines)


def plain(value: Any, digits: int | None = None) -> Any:
    """Replace infinities, which JSON cannot represent, by text, and round floats if requested."""
    if isinstance(value, float):
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return value if digits is None else round(value, digits)
    if isinstance(value, Mapping):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    return value


def _strings(value: object, where: str = "record") -> Iterator[tuple[str, str]]:
    """Every key and string value below `value`, with its path."""
    if isinstance(value, str):
        yield where, value
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        if isinstance(key, str):
            yield f"{where}.{key}", key
        yield from _strings(item, f"{where}.{key}")


def write_once(path: Path, text: str) -> None:
    """Write a file that is never replaced.

    Raises:
        EdgeSpeechError: it exists with another content, or cannot be written.
    """
    if path.exists():
        if _read(path) != text:
            raise EdgeSpeechError(f"{path.name} exists with another content: records are append-only")
        return
    write_atomic(path, text)


def _read(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MAX_ROWS_BYTES:
            raise bad(path.name, "size in bytes", size, f"at most {MAX_ROWS_BYTES}")
        return regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(f"{path}: cannot be read: {error}") from error


def _parse(model: type[M], text: str, where: str) -> M:
    try:
        hook = (
            unique_keys(where) if model is Record else None
        )  # rows are many, and recomputed figures show theirs
        return model.model_validate(json.loads(text, object_pairs_hook=hook))
    except ValidationError as error:
        raise explain(where, error, tuple(model.model_fields)) from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # not JSON, integers of thousands of digits, endless nesting
        raise EdgeSpeechError(f"{where}: not JSON: {error}") from error

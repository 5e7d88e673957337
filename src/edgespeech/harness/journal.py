"""The journal of a run: its finished utterances on disk, so that an interrupted run loses none of them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.workers import Done, Loaded
from edgespeech.records.rows import trace_from_row, trace_to_row

SUFFIX = ".partial.jsonl"
_HASH = "sha256"
"""Key of a line's own hash: what was damaged or edited is run again."""


class Journal:
    """The finished utterances of one run, in a separate file in the folder of its record.

    Simultaneous equal runs have one file each. The file is removed once the record is written.

    Attributes:
        path: of the file.
        found: what an interrupted run finished, by the utterance's id.
        record: stem of the record that the interrupted run was about to write; None: it did not come so far.
    """

    def __init__(self, folder: Path, stem: str, key: str, *, resume: bool) -> None:
        """Open a file for a run.

        Args:
            folder: of the record; it exists.
            stem: beginning of the file's name.
            key: hash of everything that determines the results; only a run with the same key is resumed.
            resume: whether to continue an interrupted run.

        Raises:
            EdgeSpeechError: the file cannot be written.
        """
        self.found: dict[str, Done] = {}
        self.record: str | None = None
        self._system: object = None
        self._key = key
        self._file: IO[str] | None = None
        if resume:
            for path in sorted(folder.glob(f"{stem}.{key}.*{SUFFIX}")):
                if path.is_file() and self._take(path):
                    break
        if self._file is None:
            # No number of a process: containers that share a folder number theirs alike.
            self.path = folder / f"{stem}.{key}.{secrets.token_hex(4)}{SUFFIX}"
            try:
                self._file = self.path.open("x", encoding="utf-8")
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise EdgeSpeechError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _take(self, path: Path) -> bool:
        """Continue a file, unless another run is still writing it; an incomplete last line is dropped."""
        file = path.open("r+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        whole = 0
        while (line := file.readline()).endswith("\n"):
            try:
                self._read(_checked(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                break
            whole = file.tell()
        file.seek(whole)
        file.truncate()
        self.path, self._file = path, file
        return True

    def _read(self, line: Mapping[str, Any]) -> None:
        if "system" in line:
            self._system = line["system"]
            return
        if "record" in line:
            self.record = str(line["record"])
            return
        trace = trace_from_row(line["id"], line["trace"])
        self.found[trace.utterance_id] = Done(trace=trace, audio_bytes=dict(line["audio_bytes"]))

    def loaded(self, loaded: Loaded) -> None:
        """Write the loaded recogniser's description.

        Raises:
            EdgeSpeechError: the interrupted run had another model.
        """
        info = loaded.info
        system = json.loads(json.dumps([info.model_sha256, info.config, info.chunk_s], sort_keys=True))
        if self._system is not None and self._system != system:
            raise EdgeSpeechError(f"{self.path}: was made by another model or configuration: remove it")
        if self._system is None:
            self._write({"system": system})

    def add(self, done: Done) -> None:
        """Write a finished utterance."""
        trace = done.trace
        self._write(
            {"id": trace.utterance_id, "trace": trace_to_row(trace), "audio_bytes": dict(done.audio_bytes)}
        )

    def writes(self, stem: str) -> None:
        """Note that the record of this name is about to be written, so that a resumed run finds what a kill left."""
        self._write({"record": stem})

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(_text({**line, _HASH: _hash(line)}) + "\n")
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # what could not be written would be tried again
                self._file.close()
            self._file = None
            raise EdgeSpeechError(
                f"{self.path}: cannot be written: {error.strerror or error}; --resume goes on with what is there"
            ) from error

    def in_order(self, ids: Sequence[str], run: Sequence[Done]) -> list[Done]:
        """The utterances of both runs, in this order."""
        every = self.found | {done.trace.utterance_id: done for done in run}
        return [every[name] for name in ids]

    def remove(self) -> None:
        """Remove the file, once the record is written."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file for a later run; remove an empty one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"))


def _hash(line: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(line).encode()).hexdigest()


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """A line without its hash.

    Raises:
        ValueError: it has another one.
        KeyError: it has none.
    """
    if line.pop(_HASH) != _hash(line):
        raise ValueError("the line was changed")
    return line

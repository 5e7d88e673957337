"""Two slots for models and a pointer: an update never leaves a device without a model that works.

A folder has `a.edge`, `b.edge` and `current`, a text that names the running slot and the hashes of both. An update goes
into the slot that is not running: it is written, synchronised, read back, hashed and self-checked there, and then
`current` is replaced, by one rename. Whatever happens before that rename leaves the running model as it was; after it
the former model is still there for `roll_back`. At the start, `running` hashes the model that the pointer names and
falls back on the other slot where that is not whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.core.config import explain
from edgespeech.core.files import regular, sha256_file, write_atomic
from edgespeech.core.locks import locked
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.edge_file import read_edge
from edgespeech.updates.selfcheck import check_model, heard
from edgespeech.updates.update_file import Header, check_base, read_update, write_new

SCHEME = 1
"""Version of this folder's layout."""
POINTER = "current"
LOCK = ".lock"
_MAX_POINTER = 4096
_MAX_REFUSED = 16

Slot = Literal["a", "b"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Check = Callable[[Path, int], None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Former(_Strict):
    """The model in the other slot.

    Attributes:
        sha256: of its file.
        said: its outcome in the self-check.
    """

    sha256: Sha256
    said: Annotated[int, Field(ge=0, lt=1 << 32)]


class Pointer(_Strict):
    """What `current` says.

    Attributes:
        scheme: the version of the layout.
        slot: of the running model.
        sha256: of that model.
        said: its outcome in the self-check.
        former: hash and outcome of the model in the other slot; None: none that may be run.
        refused: hashes of models that failed their self-check here, or were rolled back; the newest last.
    """

    scheme: int
    slot: Slot
    sha256: Sha256
    said: Annotated[int, Field(ge=0, lt=1 << 32)]
    former: Former | None = None
    refused: Annotated[tuple[Sha256, ...], Field(max_length=_MAX_REFUSED, strict=False)] = ()

    @property
    def other(self) -> Slot:
        """The slot that is not running."""
        return "b" if self.slot == "a" else "a"

    def refusing(self, sha256: str) -> tuple[str, ...]:
        """`refused` with one more."""
        return (*(one for one in self.refused if one != sha256), sha256)[-_MAX_REFUSED:]


def slot_file(folder: Path, slot: Slot) -> Path:
    """The model of a slot."""
    return folder / f"{slot}.edge"


def install(folder: Path, model: Path) -> Pointer:
    """Begin a folder of slots with a model.

    Args:
        folder: empty or missing.
        model: a packed model, which must load and pass through the self-check.

    Raises:
        EdgeSpeechError: the folder has a model already, or the model does not work.
    """
    if (folder / POINTER).exists():
        raise bad(str(folder), POINTER, "a pointer", "a folder without one: a model is installed, update it")
    said = heard(model)[1]
    write_atomic(slot_file(folder, "a"), regular(model).read_bytes())
    pointer = Pointer(scheme=SCHEME, slot="a", sha256=sha256_file(slot_file(folder, "a")), said=said)
    _point(folder, pointer)
    return pointer


def read_pointer(folder: Path) -> Pointer:
    """What the pointer says.

    Raises:
        EdgeSpeechError: it is missing, damaged, or of another scheme; nothing is changed then, and a device goes on
            with the model that it has loaded.
    """
    where = str(folder / POINTER)
    try:
        with regular(folder / POINTER).open("rb") as file:
            content = file.read(_MAX_POINTER + 1)
        if len(content) > _MAX_POINTER:
            raise bad(where, "size", "larger", f"at most {_MAX_POINTER} bytes")
        told = json.loads(content.decode())
    except OSError as error:
        raise EdgeSpeechError(f"{where}: could not be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise bad(where, "content", str(error), "JSON in UTF-8") from error
    if not isinstance(told, dict):
        raise bad(where, "content", told, "a mapping")
    if told.get("scheme") != SCHEME or isinstance(told["scheme"], bool):
        raise bad(
            where,
            "scheme",
            told.get("scheme"),
            f"{SCHEME}, the one that this program knows: nothing was changed",
        )
    try:
        return Pointer.model_validate(told)
    except ValidationError as error:
        raise explain(where, error) from error


def running(folder: Path) -> Path:
    """The model to load: the pointer's, or the former one where that file is not whole.

    Raises:
        EdgeSpeechError: as `read_pointer`, or neither slot has the model that it should have.
    """
    pointer = read_pointer(folder)
    file = slot_file(folder, pointer.slot)
    if _whole(file, pointer.sha256):
        return file
    former = slot_file(folder, pointer.other)
    if pointer.former is not None and _whole(former, pointer.former.sha256):
        return former
    raise EdgeSpeechError(
        f"{folder}: neither slot has a whole model, expected {pointer.sha256} in {file.name}"
    )


def update_slots(folder: Path, update: Path, *, again: bool = False, check: Check = check_model) -> Header:
    """Apply an update to the running model, and let the pointer name the new one.

    Args:
        folder: of the slots.
        update: the update file.
        again: try a model that was refused before.
        check: the self-check.

    Raises:
        EdgeSpeechError: the update is damaged, for another model, was applied already, or was refused before; or the
            new model fails its self-check. The running model is as it was, and the pointer names it.
    """
    with _locked(folder):
        pointer = read_pointer(folder)
        now = running(folder)
        if now != slot_file(folder, pointer.slot):  # a damaged slot: the former model is the base now
            assert pointer.former is not None
            pointer = pointer.model_copy(
                update={
                    "slot": pointer.other,
                    "sha256": pointer.former.sha256,
                    "said": pointer.former.said,
                    "former": None,
                }
            )
        read = read_update(update)
        check_base(read, pointer.sha256, str(now))
        header = read.header
        if header.new_sha256 in pointer.refused and not again:
            raise EdgeSpeechError(
                f"{update}: its new model was refused or rolled back here; `--again` tries it again"
            )
        out = slot_file(folder, pointer.other)
        write_new(read, read_edge(now), out)
        _synchronise(folder)
        try:
            if not _whole(out, header.new_sha256):
                raise EdgeSpeechError(f"{out}: does not hold what was written to it")
            check(out, header.said)
        except EdgeSpeechError as error:
            refused = pointer.refusing(header.new_sha256)
            _point(folder, pointer.model_copy(update={"former": None, "refused": refused}))
            out.unlink(missing_ok=True)
            raise EdgeSpeechError(f"{update}: {error}: the old model goes on running") from error
        former = Former(sha256=pointer.sha256, said=pointer.said)
        refused = tuple(one for one in pointer.refused if one != header.new_sha256)
        new = {"slot": pointer.other, "sha256": header.new_sha256, "said": header.said}
        _point(folder, pointer.model_copy(update={**new, "former": former, "refused": refused}))
        return header


def roll_back(folder: Path) -> Path:
    """Let the pointer name the former model again; the one that ran is refused from now on.

    Raises:
        EdgeSpeechError: there is no former model, or it is not whole.
    """
    with _locked(folder):
        pointer = read_pointer(folder)
        file = slot_file(folder, pointer.other)
        if pointer.former is None or not _whole(file, pointer.former.sha256):
            raise bad(str(folder), "former model", str(file.name), "a whole one to roll back to")
        refused = pointer.refusing(pointer.sha256)
        back = {"slot": pointer.other, "sha256": pointer.former.sha256, "said": pointer.former.said}
        _point(folder, pointer.model_copy(update={**back, "former": None, "refused": refused}))
        return file


def _point(folder: Path, pointer: Pointer) -> None:
    write_atomic(folder / POINTER, pointer.model_dump_json() + "\n")
    _synchronise(folder)


def _whole(file: Path, sha256: str) -> bool:
    try:
        return sha256_file(file) == sha256
    except EdgeSpeechError:
        return False


def _synchronise(folder: Path) -> None:
    """The folder's names reach the disk before anything that is written later."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise EdgeSpeechError(f"{folder}: could not be written: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One update at a time; the system frees the lock of a process that was killed.

    Raises:
        EdgeSpeechError: another update is running, or there is no such folder.
    """
    try:
        with locked(folder / LOCK, busy=f"{folder}: another update is being applied"):
            yield
    except FileNotFoundError as error:
        raise bad(
            str(folder), "folder", str(folder), "a folder of slots; `edgespeech update install` makes one"
        ) from error

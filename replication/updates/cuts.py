"""Kills, power cuts and damaged updates: what a device has afterwards, state by state."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from edgespeech.core.files import sha256_file
from edgespeech.errors import EdgeSpeechError
from edgespeech.updates.make import make_exact
from edgespeech.updates.slots import LOCK, POINTER, install, running, update_slots
from edgespeech.updates.update_file import parse_update


class Tried(NamedTuple):
    """States of one kind, and how many left what was asked."""

    what: str
    tried: int
    right: int


class Case(NamedTuple):
    """A pair of packed models with its update, and a folder for devices."""

    old: Path
    new: Path
    update: Path
    folder: Path


def case(old: Path, new: Path, folder: Path) -> Case:
    """Make the update of a pair."""
    folder.mkdir()
    make_exact(old, new, folder / "step.update")
    return Case(old, new, folder / "step.update", folder)


def torn(one: Case, every: int) -> Tried:
    """What a disk may hold after a power cut: any prefix of a file that was being written, names in any order.

    Under its own name a slot's file is cut, with the pointer of before and with that of after the update; the pointer,
    which is written beside and renamed, is cut under its temporary name.

    Args:
        one: the models.
        every: bytes between the prefixes that are tried; 1: all.
    """
    device = one.folder / "torn"
    install(device, one.old)
    before = _files(device)
    update_slots(device, one.update)
    after = _files(device)
    wanted = {sha256_file(one.old), sha256_file(one.new)}
    tried = right = 0
    for name, content in sorted(after.items()):
        if before.get(name) == content:
            continue
        for pointer in (before[POINTER], after[POINTER]):
            (device / POINTER).write_bytes(pointer)
            for size in range(0, len(content), every):
                at = device / (f".{name}.tmp" if name == POINTER else name)
                at.write_bytes(content[:size])
                tried += 1
                right += _works(device, wanted)
            (device / name).write_bytes(content)
    return Tried(f"power cuts, every {every} bytes" if every > 1 else "power cuts, every byte", tried, right)


def killed(one: Case, count: int) -> Tried:
    """`edgespeech update apply` is killed after seeded shares of its duration; then the same command goes on."""
    wanted = {sha256_file(one.old), sha256_file(one.new)}
    duration = _apply(one, one.folder / "undisturbed", None)
    right = 0
    for number in range(count):
        device = one.folder / f"killed-{number}"
        _apply(one, device, duration * (number + 0.5) / count)
        works = _works(device, wanted)
        if sha256_file(running(device)) != sha256_file(one.new):
            update_slots(device, one.update)
        right += works and sha256_file(running(device)) == sha256_file(one.new)
    return Tried("kills of the command", count, right)


def damaged(one: Case) -> Iterator[Tried]:
    """Updates that must be refused: cut at every byte; with a changed byte, also where the checksum is right again."""
    content = one.update.read_bytes()
    yield _refused("updates cut at every byte", (content[:size] for size in range(len(content))), _parsed)
    changed = (_changed(content, at) for at in range(0, len(content), 11))
    yield _refused("updates with a changed byte", changed, _parsed)
    device = one.folder / "damaged"
    install(device, one.old)
    file = one.folder / "damaged.update"

    def applied(broken: bytes) -> None:
        file.write_bytes(broken)
        try:
            update_slots(device, file, again=True)
        finally:
            if sha256_file(running(device)) != sha256_file(one.old):
                raise RuntimeError("the old model does not run")

    places = range(8, len(content) - 4, max(1, len(content) // 40))
    made = (_changed(content[:-4], at) for at in places)
    resealed = (some + zlib.crc32(some).to_bytes(4, "little") for some in made)
    yield _refused("updates with a changed byte and the right checksum", resealed, applied)


def replayed(one: Case, other: Path) -> Tried:
    """An update that was applied, once more; after a later one; and on another model."""
    device, back = one.folder / "replayed", one.folder / "back.update"
    install(device, one.old)
    update_slots(device, one.update)
    make_exact(one.new, other, back)
    right = 0
    right += _refuses(device, one.update, one.new)
    update_slots(device, back)
    right += _refuses(device, one.update, other)
    right += _refuses(device, back, other)
    return Tried("updates applied twice, replayed, or for another model", 3, right)


def _refuses(device: Path, update: Path, runs: Path) -> bool:
    try:
        update_slots(device, update)
    except EdgeSpeechError:
        return sha256_file(running(device)) == sha256_file(runs)
    return False


def _refused(what: str, contents: Iterator[bytes], read: Callable[[bytes], object]) -> Tried:
    tried = right = 0
    for content in contents:
        tried += 1
        try:
            read(content)
        except EdgeSpeechError:
            right += 1
    return Tried(what, tried, right)


def _parsed(content: bytes) -> object:
    return parse_update(content, "update")


def _changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :]


def _files(device: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in device.iterdir() if path.name != LOCK}


def _works(device: Path, wanted: set[str]) -> bool:
    try:
        return sha256_file(running(device)) in wanted
    except EdgeSpeechError:
        return False


def _apply(one: Case, device: Path, kill_after_s: float | None) -> float:
    """Run the command in a process of its own; returns its seconds."""
    install(device, one.old)
    command = [sys.executable, "-m", "edgespeech.cli", "update", "apply", str(device), str(one.update)]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return time.monotonic() - start

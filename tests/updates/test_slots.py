from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest

from edgespeech.core.files import sha256_file
from edgespeech.errors import EdgeSpeechError
from edgespeech.updates import slots
from edgespeech.updates.make import make_exact
from edgespeech.updates.selfcheck import check_model, heard
from edgespeech.updates.slots import (
    POINTER,
    install,
    read_pointer,
    roll_back,
    running,
    update_slots,
)
from helpers_updates import releases
from kills.points import Points


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    """Old model, new model, update, and the update back."""
    folder = tmp_path_factory.mktemp("made")
    old, new = releases(folder)
    make_exact(old, new, folder / "forth")
    make_exact(new, old, folder / "back")
    return old, new, folder / "forth", folder / "back"


@pytest.fixture
def device(made: tuple[Path, Path, Path, Path], tmp_path: Path) -> Path:
    install(tmp_path / "device", made[0])
    return tmp_path / "device"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != slots.LOCK}


def test_an_update_goes_to_the_other_slot_and_back(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    old, new, forth, back = made
    assert running(device) == device / "a.edge"
    update_slots(device, forth)
    assert running(device) == device / "b.edge"
    assert running(device).read_bytes() == new.read_bytes()
    update_slots(device, back)
    assert running(device).read_bytes() == old.read_bytes()
    assert running(device) == device / "a.edge"
    assert roll_back(device) == device / "b.edge"
    assert running(device).read_bytes() == new.read_bytes()


def test_an_update_applied_twice_is_refused(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    update_slots(device, made[2])
    before = files(device)
    with pytest.raises(EdgeSpeechError, match="is the new model already"):
        update_slots(device, made[2])
    assert files(device) == before


def test_a_replay_after_a_later_update_is_refused(
    device: Path, made: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    old, new, forth, _ = made
    _, third = releases(tmp_path / "third", hidden=20)
    make_exact(new, third, tmp_path / "next")
    update_slots(device, forth)
    update_slots(device, tmp_path / "next")
    before = files(device)
    with pytest.raises(EdgeSpeechError, match="it is for another model"):
        update_slots(device, forth)
    assert files(device) == before
    assert running(device).read_bytes() == third.read_bytes() != old.read_bytes()


def test_a_failed_self_check_leaves_the_old_model(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    old, new, forth, _ = made

    def fails(model: Path, said: int) -> None:
        assert model.read_bytes() == new.read_bytes()
        check_model(model, said ^ 1)

    with pytest.raises(EdgeSpeechError, match=r"self-check: outcome is .* the old model goes on running"):
        update_slots(device, forth, check=fails)
    assert running(device).read_bytes() == old.read_bytes()
    assert sorted(files(device)) == ["a.edge", POINTER]
    with pytest.raises(EdgeSpeechError, match="refused or rolled back here"):
        update_slots(device, forth)
    update_slots(device, forth, again=True)
    assert running(device).read_bytes() == new.read_bytes()


def test_a_rolled_back_model_does_not_come_again(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    with pytest.raises(EdgeSpeechError, match="a whole one to roll back to"):
        roll_back(device)
    update_slots(device, made[2])
    roll_back(device)
    with pytest.raises(EdgeSpeechError, match="refused or rolled back here"):
        update_slots(device, made[2])


def test_a_slot_that_was_damaged_falls_back_and_can_be_updated(
    device: Path, made: tuple[Path, Path, Path, Path]
) -> None:
    _, new, forth, _ = made
    update_slots(device, forth)
    content = bytearray((device / "b.edge").read_bytes())
    content[len(content) // 2] ^= 1
    (device / "b.edge").write_bytes(content)
    assert running(device) == device / "a.edge"
    update_slots(device, forth, again=True)
    assert running(device).read_bytes() == new.read_bytes()
    for name in ("a.edge", "b.edge"):
        (device / name).write_bytes(b"")
    with pytest.raises(EdgeSpeechError, match="neither slot has a whole model"):
        running(device)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"scheme": 2}, "scheme is 2, expected 1, the one that this program knows: nothing was changed"),
        ({"scheme": True}, "scheme is True, expected 1"),
        ({"slot": "c"}, "slot"),
        ({"sha256": "x"}, "sha256"),
        ({"more": 1}, "more"),
    ],
)
def test_another_scheme_is_refused_and_nothing_changes(
    told: dict[str, object], message: str, device: Path, made: tuple[Path, Path, Path, Path]
) -> None:
    pointer = json.loads((device / POINTER).read_text())
    (device / POINTER).write_text(json.dumps(pointer | told))
    before = files(device)
    for work in (lambda: running(device), lambda: update_slots(device, made[2]), lambda: roll_back(device)):
        with pytest.raises(EdgeSpeechError, match=message):
            work()
    assert files(device) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b" " * 5000, b"[" * 4000])
def test_a_damaged_pointer_is_an_error(content: bytes, device: Path) -> None:
    (device / POINTER).write_bytes(content)
    with pytest.raises(EdgeSpeechError, match=POINTER):
        read_pointer(device)


def test_a_folder_is_installed_once(
    device: Path, made: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(EdgeSpeechError, match="a model is installed, update it"):
        install(device, made[1])
    with pytest.raises(EdgeSpeechError, match="edgespeech update install"):
        update_slots(tmp_path / "none", made[2])
    (tmp_path / "bad.edge").write_bytes(b"EDGESPCH")
    with pytest.raises(EdgeSpeechError):
        install(tmp_path / "new", tmp_path / "bad.edge")
    assert not (tmp_path / "new").exists()


def test_two_updates_do_not_run_at_once(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    def meanwhile(model: Path, said: int) -> None:
        with pytest.raises(EdgeSpeechError, match="another update is being applied"):
            update_slots(device, made[2])
        check_model(model, said)

    update_slots(device, made[2], check=meanwhile)


def test_the_self_check_sees_one_changed_weight(made: tuple[Path, Path, Path, Path]) -> None:
    with pytest.raises(EdgeSpeechError, match="self-check: outcome"):
        check_model(made[1], heard(made[0])[1])


def works(device: Path, whole: set[str]) -> str:
    """The hash of the model that a device starts with; it is one of the two releases."""
    found = sha256_file(running(device))
    assert found in whole
    return found


def _killed(device: Path, update: Path, at: int | None) -> None:
    os.environ["TMPDIR"] = tempfile.gettempdir()
    points = Points(device.resolve(), at)
    update_slots(device, update)
    (device.parent / "seen").write_text(str(len(points.seen)))


def test_a_kill_at_every_write_point_leaves_a_working_model(
    made: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    old, new, forth, _ = made
    whole = {sha256_file(old), sha256_file(new)}
    context = multiprocessing.get_context("fork")
    ended, at, after = False, 0, []
    while not ended:
        device = tmp_path / str(at) / "device"
        install(device, old)
        process = context.Process(target=_killed, args=(device, forth, at))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        ended = process.exitcode == 0
        after.append(works(device, whole))
        if after[-1] == sha256_file(old):  # the same command again ends with the new model
            update_slots(device, forth)
        assert works(device, whole) == sha256_file(new)
        at += 1
    assert at > 6
    assert after == sorted(after, key=lambda sha256: sha256 == sha256_file(new))  # once switched, it stays so


def test_every_torn_byte_leaves_a_working_model(device: Path, made: tuple[Path, Path, Path, Path]) -> None:
    """The states of a disk that keeps any prefix of any write, and renames in any order."""
    old, new, forth, _ = made
    whole = {sha256_file(old), sha256_file(new)}
    before = files(device)
    update_slots(device, forth)
    after = files(device)
    for name, content in after.items():
        if before.get(name) == content:
            continue
        temporary = device / f".{name}.tmp"
        for pointer in (before[POINTER], after[POINTER]):
            step = 1 if len(content) < 1000 else 97
            for size in range(0, len(content), step):
                for state, data in (*before.items(), (POINTER, pointer)):
                    if not (device / state).exists() or (device / state).read_bytes() != data:
                        (device / state).write_bytes(data)
                if name == POINTER:  # write_atomic: a prefix is never under the name itself
                    temporary.write_bytes(content[:size])
                else:
                    (device / name).write_bytes(content[:size])
                found = works(device, whole)
                assert name == POINTER or found == sha256_file(old)

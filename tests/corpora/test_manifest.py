import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgespeech.corpora.manifest import Utterance, load_manifest, verify_audio, write_manifest
from edgespeech.errors import EdgeSpeechError


def line(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": f"u{number}", "audio_filepath": f"{number}.wav", "duration": 1.5, "text": f"word {number}"}
    return row | changes


def write(folder: Path, *lines: dict[str, Any] | str) -> Path:
    for number in range(10):
        (folder / f"{number}.wav").write_bytes(b"audio %d" % number)
    path = folder / "some.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def test_a_manifest_is_read_whole_and_in_order(tmp_path: Path) -> None:
    everything = line(
        2, sha256="0" * 64, offset=0.5, speaker="s", sos_s=0.1, eos_s=1.2, intent="order",
        slots={"size": "big"}, context=["latte", "mocha"], lang="de", split="dev", age=7, gender="f",
    )  # fmt: skip
    path = write(tmp_path, line(0), everything, line(1, duration=2, text=""))
    manifest = load_manifest(path)
    assert [utterance.id for utterance in manifest.utterances] == ["u0", "u2", "u1"]
    assert manifest.name == "some"
    assert load_manifest(path, "other").name == "other"
    assert manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.audio_path(manifest.utterances[0]) == tmp_path / "0.wav"
    assert manifest.utterances[1].slots == {"size": "big"}
    assert manifest.utterances[1].context == ("latte", "mocha")
    assert manifest.utterances[0].lang == "en"
    assert manifest.utterances[2].text == ""


def test_a_line_without_an_id_is_named_by_its_audio(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.wav").touch()
    path = write(tmp_path, without(line(0, audio_filepath="deep/a.wav"), "id"))
    assert load_manifest(path).utterances[0].id == "deep/a"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"id": "u1", ', "not JSON: EOF while parsing"),
        ("", "not JSON: EOF while parsing"),
        ("[1, 2]", "content is"),
        (without(line(1), "text"), "text is missing, expected a value"),
        (without(line(1), "duration"), "duration is missing"),
        (without(line(1), "audio_filepath"), "audio_filepath is missing"),
        (line(0), "id is 'u0', expected another id: line 1 has this one"),
        (line(1, duration=-1.0), "duration is -1.0, expected greater than 0"),
        (line(1, duration=0), "duration is 0, expected greater than 0"),
        (json.dumps(line(1, duration=float("nan"))), "duration is nan, expected a finite number"),
        (line(1, duration="1.5"), "duration is '1.5', expected a valid number"),
        (line(1, offset=-0.5), "offset is -0.5, expected greater than or equal to 0"),
        (line(1, text=5), "text is 5, expected a valid string"),
        (line(1, id=5), "id is 5, expected a valid string"),
        (line(1, speker="x"), "unknown key 'speker', expected one of id, audio_filepath, duration, text"),
        (line(1, sha256="abc"), "sha256 is 'abc', expected"),
        (line(1, slots={"size": 3}), "slots.size is 3, expected a valid string"),
        (line(1, sos_s=1.0, eos_s=0.5), r"expected sos_s \(1.0\) not after eos_s \(0.5\)"),
        (line(1, audio_filepath="gone.wav"), "audio_filepath is 'gone.wav', expected an existing file"),
        (line(1, audio_filepath="."), "audio_filepath is '.', expected an existing file"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second: dict[str, Any] | str, message: str) -> None:
    path = write(tmp_path, line(0), second, line(2))
    with pytest.raises(EdgeSpeechError, match=rf"some\.jsonl:2: .*{message}"):
        load_manifest(path)


def test_several_mistakes_of_a_line_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, line(0, duration=-1, text=3, other=1))
    with pytest.raises(EdgeSpeechError, match=r"some\.jsonl:1: duration is -1, .* \(and 2 more\)"):
        load_manifest(path)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, line(0))
    path.write_bytes(path.read_bytes() + b'{"text": "\xe9t\xe9"}\n')
    with pytest.raises(EdgeSpeechError, match=r"some\.jsonl:2: content is .*, expected UTF-8"):
        load_manifest(path)


def test_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    with pytest.raises(EdgeSpeechError, match=r"some\.jsonl: could not be read: No such file"):
        load_manifest(path)
    path.touch()
    with pytest.raises(EdgeSpeechError, match=r"some\.jsonl: is empty, expected one JSON object a line"):
        load_manifest(path)


def test_noise_needs_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, without(line(0), "text"))
    with pytest.raises(EdgeSpeechError, match="text is missing"):
        load_manifest(path)
    assert load_manifest(path, require_text=False).utterances[0].text == ""


def test_audio_is_verified_against_its_hash(tmp_path: Path) -> None:
    good = hashlib.sha256(b"audio 0").hexdigest()
    path = write(tmp_path, line(0, sha256=good), line(1), line(2, sha256=good))
    with pytest.raises(
        EdgeSpeechError, match=r"some\.jsonl:3: sha256 of 2\.wav is [0-9a-f]{64}, expected " + good
    ):
        verify_audio(load_manifest(path))
    path = write(tmp_path, line(0, sha256=good), line(1))
    assert verify_audio(load_manifest(path)) == 1


def test_a_subset_is_seeded_nested_and_in_order(tmp_path: Path) -> None:
    lines = [line(number % 10, id=f"u{number}") for number in range(200)]
    manifest = load_manifest(write(tmp_path, *lines))
    some, more, other = manifest.subset(20, 1), manifest.subset(50, 1), manifest.subset(20, 2)
    ids = [utterance.id for utterance in some.utterances]
    assert ids == [utterance.id for utterance in manifest.subset(20, 1).utterances]
    assert len(ids) == 20
    assert set(ids) < {utterance.id for utterance in more.utterances}
    assert ids != [utterance.id for utterance in other.utterances]
    order = [utterance.id for utterance in manifest.utterances]
    assert ids == sorted(ids, key=order.index)
    assert some.sha256 == manifest.sha256
    assert manifest.subset(500, 1).utterances == manifest.utterances
    # Pinned: another Python or numpy must pick the same utterances.
    assert [utterance.id for utterance in manifest.subset(3, 0).utterances] == ["u15", "u50", "u79"]
    with pytest.raises(EdgeSpeechError, match="subset size is 0"):
        manifest.subset(0, 1)


def test_a_split_is_selected(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path, line(0, split="a"), line(1, split="b"), line(2, split="a")))
    assert [utterance.id for utterance in manifest.select("a").utterances] == ["u0", "u2"]
    with pytest.raises(EdgeSpeechError, match="split is 'c', expected one of a, b"):
        manifest.select("c")


def test_the_content_hash_knows_ids_and_texts_alone(tmp_path: Path) -> None:
    first = load_manifest(write(tmp_path, line(0), line(1))).content_sha256()
    assert load_manifest(write(tmp_path, line(1, duration=9, speaker="x"), line(0))).content_sha256() == first
    assert load_manifest(write(tmp_path, line(0), line(1, text="other"))).content_sha256() != first


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    source = load_manifest(write(tmp_path, line(0, slots={"a": "b"}, text="café"), line(1, context=["x"])))
    path = tmp_path / "copy.jsonl"
    write_manifest(path, source.utterances)
    assert load_manifest(path).utterances == source.utterances
    first = Utterance(id="a", audio_filepath="0.wav", duration=1.0, text="")
    with pytest.raises(EdgeSpeechError, match=r"copy\.jsonl:2: id is 'a', expected another id"):
        write_manifest(path, [first, first])
    with pytest.raises(EdgeSpeechError, match="no utterances to write"):
        write_manifest(path, [])
    assert load_manifest(path).utterances == source.utterances

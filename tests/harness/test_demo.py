from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgespeech.audio.io import write_audio
from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Request, Samples, Stream, SystemInfo
from edgespeech.corpora.manifest import Manifest, load_manifest
from edgespeech.harness.demo import Clock, listen, pick, show


class Script(Stream):
    """Partial after 0.2 s of audio, end-point and final after 0.5 s."""

    def __init__(self) -> None:
        self.heard = 0

    def accept(self, samples: Samples) -> list[Event]:
        before, self.heard = self.heard, self.heard + len(samples)
        said = []
        if before < 3200 <= self.heard:
            said.append(Event(kind=EventKind.PARTIAL, text="two"))
        if before < 8000 <= self.heard:
            said += [Event(kind=EventKind.ENDPOINT), Event(kind=EventKind.FINAL, text="two lattes")]
        return said

    def finish(self) -> list[Event]:
        return [Event(kind=EventKind.FINAL, text="two lattes")]


class Scripted(Recogniser):
    name, kind, summary = "scripted", Kind.DEVICE, "says what a test wants"

    def load(self) -> SystemInfo:
        return SystemInfo(
            name=self.name, kind=self.kind, model_bytes=2_000_000, parameters=0, chunk_s=0.1, citation="test"
        )

    def open(self, request: Request) -> Stream:
        return Script()


class Watch:
    """A clock that time only passes on when somebody waits; every look takes 1 ms."""

    def __init__(self) -> None:
        self.t_s = 100.0

    def now(self) -> float:
        self.t_s += 0.001
        return self.t_s

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.t_s += seconds

    def clock(self) -> Clock:
        return Clock(now=self.now, wait=self.wait)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    lines = []
    for index, words in enumerate(("two lattes", "two lattes", "three teas")):
        write_audio(tmp_path / f"{index}.wav", np.full(16_000, 0.1, dtype=np.float32))
        lines.append(
            f'{{"audio_filepath": "{index}.wav", "duration": 1.0, "text": "{words}", "eos_s": 0.4}}\n'
        )
    (tmp_path / "m.jsonl").write_text("".join(lines))
    return load_manifest(tmp_path / "m.jsonl")


def test_audio_is_fed_at_the_speed_of_speech() -> None:
    watch = Watch()
    samples = np.zeros(16_000, dtype=np.float32)
    request = Request(utterance_id="u")
    moments = list(listen(Scripted(), samples, request, chunk_s=0.1, clock=watch.clock()))
    assert len(moments) == 11
    assert [round(moment.t_s, 1) for moment in moments] == [*(k / 10 for k in range(1, 11)), 1.0]
    assert moments[0].text == ""
    assert moments[1].text == "two"
    last = moments[-1]
    assert last.text == "two lattes"
    assert last.endpoint_s == pytest.approx(0.5, abs=0.02)
    assert last.final_s == pytest.approx(0.5, abs=0.02)  # the same words again are no later result


def test_what_is_shown_adds_up(manifest: Manifest) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100)
    show(Scripted(), manifest, seconds=60, console=console, clock=Watch().clock())
    text = out.getvalue()
    assert "scripted: 2.0 MB on disk" in text
    assert text.count("✓") == 2
    assert "2 wrong: 'three teas'" in text
    assert "2 of 6" in text  # words
    assert "2 of 3" in text  # recordings
    assert "0.10 s" in text


def test_recordings_fill_the_time_that_is_asked_for(manifest: Manifest) -> None:
    assert [utterance.id for utterance in pick(manifest, 2.5)] == ["0", "1"]
    assert [utterance.id for utterance in pick(manifest, 0.1)] == ["0"]

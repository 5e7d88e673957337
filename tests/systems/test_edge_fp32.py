"""The on-device recogniser behind the contract, with a tiny untrained model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.contracts import EventKind, Request, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.labels import BLANK
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.systems.edge_fp32 import EdgeFp32

REQUEST = Request(utterance_id="x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that says something now and then, named by the environment."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16))
    with torch.no_grad():
        model.joiner.weight *= 10
        model.joiner.bias[BLANK] += 3
    tokeniser = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
    save_model(tmp_path / "m", model, tokeniser, {"run": "trial"})
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "m"))
    return tmp_path / "m"


@pytest.fixture
def samples() -> Samples:
    rng = np.random.default_rng(0)
    noise: Samples = (0.1 * rng.standard_normal(16_000)).astype(np.float32)
    return noise


def test_it_says_what_it_is(folder: Path) -> None:
    recogniser = find_recogniser("edge-fp32")
    assert recogniser.missing() is None
    info = recogniser.load()
    assert info.model_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert info.model_sha256 == {name: sha256_file(folder / name) for name in (WEIGHTS, TOKENS)}
    assert info.parameters is not None
    assert info.parameters * 4 < info.model_bytes
    assert info.config["provenance"] == {"run": "trial"}
    assert str(folder) not in json.dumps(asdict(info))


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.usefixtures("folder")
def test_phrases_of_a_request_are_heard_more_and_change_no_other_stream(samples: Samples, beam: int) -> None:
    recogniser = EdgeFp32(beam=beam, boost=8)
    recogniser.load()
    request = replace(REQUEST, context=("t", "l", "p"))
    streams = recogniser.open(REQUEST), recogniser.open(request)
    texts = ["", ""]
    for start in range(0, len(samples) + 1920, 1920):
        for number, stream in enumerate(streams):
            chunk = samples[start : start + 1920]
            events = stream.accept(chunk) if len(chunk) else stream.finish()
            texts[number] = events[-1].text if events else texts[number]
    alone = run_utterance(recogniser, samples, REQUEST, chunk_s=0.12)
    assert texts[0] == alone.events[-1][1].text
    assert texts[1] != texts[0]
    empty = run_utterance(recogniser, samples, replace(REQUEST, context=("", "!")), chunk_s=0.12)
    assert empty.events == alone.events


def test_what_cannot_be_used_of_a_list_is_said_before_loading() -> None:
    remarks = EdgeFp32().context_remarks(("light", "東京"))
    assert remarks == ("1 of 2 context phrases are not used (no spelling in letters from a to z): '東京'",)
    with pytest.raises(EdgeSpeechError, match="weight of 'light' is inf"):
        EdgeFp32().context_remarks(("light",), (float("inf"),))
    with pytest.raises(EdgeSpeechError, match=r"weight is 9\.0, expected at most 8, with a boost of 2 nats"):
        EdgeFp32(boost=2).context_remarks(("light",), (9.0,))
    assert EdgeFp32(boost=0).context_remarks(("light",), (9.0,)) == ()


@pytest.mark.parametrize("boost", [-1.0, float("inf"), float("nan"), "2"])
def test_a_boost_is_nats(boost: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"edge-fp32: boost is .*, expected nats for a letter, 0 to 16"):
        EdgeFp32(boost=boost)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.usefixtures("folder")
def test_speech_gives_partials_and_a_final(samples: Samples, beam: int) -> None:
    recogniser = EdgeFp32(beam=beam, final_s=None)
    info = recogniser.load()
    assert info.config["beam"] == beam
    search = {1: "greedy search, no language model", 3: "beam 3 (ships: 16)"}[beam]
    assert info.notes == (
        "ends an utterance with its audio",
        f"searches otherwise than it ships: {search}, no end-point",
    )
    trace = run_utterance(recogniser, samples, REQUEST, chunk_s=info.chunk_s)
    assert trace.failure is None
    assert trace.state_bytes
    kinds = [event.kind for _, event in trace.events]
    assert kinds[-1] is EventKind.FINAL
    assert set(kinds[:-1]) == {EventKind.PARTIAL}
    assert trace.events[-1][1].text


@pytest.mark.usefixtures("folder")
def test_greedy_search_is_a_recogniser_of_its_own(samples: Samples) -> None:
    greedy, one = find_recogniser("edge-fp32-greedy"), EdgeFp32(beam=1)
    info = greedy.load()
    assert (info.name, info.config["beam"]) == ("edge-fp32-greedy", 1)
    assert info.notes == ("ends an utterance after 0.8 s without word pieces",)
    assert one.load().notes[1:] == ("searches otherwise than it ships: greedy search, no language model",)
    traces = [run_utterance(each, samples, REQUEST, chunk_s=info.chunk_s) for each in (greedy, one)]
    assert traces[0].events == traces[1].events


@pytest.mark.usefixtures("folder")
def test_a_pause_ends_an_utterance_and_costs_no_word(samples: Samples) -> None:
    said = {}
    for final_s in (0.2, None):
        recogniser = EdgeFp32(final_s=final_s)
        info = recogniser.load()
        assert info.config["final_s"] == final_s
        said[final_s] = run_utterance(recogniser, samples, REQUEST, chunk_s=info.chunk_s).events
    kinds = [event.kind for _, event in said[0.2]]
    assert EventKind.ENDPOINT in kinds
    assert kinds.count(EventKind.FINAL) >= 1
    assert info.notes != EdgeFp32().load().notes
    finals = {key: [e for _, e in events if e.kind is EventKind.FINAL][-1] for key, events in said.items()}
    assert finals[0.2] == finals[None]


@pytest.mark.usefixtures("folder")
def test_chunks_change_nothing_of_the_result(samples: Samples) -> None:
    recogniser = EdgeFp32()
    recogniser.load()
    finals = [
        run_utterance(recogniser, samples, REQUEST, chunk_s=chunk_s).events[-1][1]
        for chunk_s in (0.01, 0.12, 1.0)
    ]
    assert finals[0].text
    assert finals[0] == finals[1] == finals[2]


def test_without_a_model_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none"))
    assert "no model in" in (EdgeFp32().missing() or "")
    with pytest.raises(EdgeSpeechError, match="none"):
        EdgeFp32().load()


def test_without_a_word_from_the_environment_the_shipped_model_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    assert EdgeFp32().folder() == project_root() / "results" / "models" / "edge-fp32"


def test_a_damaged_model_is_reported(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"not a model")
    assert EdgeFp32().missing() is None
    with pytest.raises(EdgeSpeechError, match="not a readable model"):
        EdgeFp32().load()


@pytest.mark.usefixtures("folder")
def test_it_wants_to_be_loaded_and_english() -> None:
    recogniser = EdgeFp32()
    with pytest.raises(EdgeSpeechError, match="edge-fp32: not loaded"):
        recogniser.open(REQUEST)
    recogniser.load()
    with pytest.raises(EdgeSpeechError, match="edge-fp32: language is 'fr', expected en"):
        recogniser.open(Request(utterance_id="x", language="fr"))


@pytest.mark.parametrize("beam", [0, -1, "wide", 1.5])
def test_a_beam_is_a_whole_number(beam: object) -> None:
    with pytest.raises(EdgeSpeechError, match="edge-fp32: beam is"):
        EdgeFp32(beam=beam)  # type: ignore[arg-type]  # as the command line may pass it


@pytest.mark.parametrize("final_s", [0, -1.0, "long"])
def test_a_pause_is_seconds(final_s: object) -> None:
    with pytest.raises(EdgeSpeechError, match="edge-fp32: final_s is"):
        EdgeFp32(final_s=final_s)  # type: ignore[arg-type]  # as the command line may pass it

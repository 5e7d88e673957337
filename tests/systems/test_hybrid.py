"""The system `hybrid` with a tiny device and a tiny second pass in a server process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict

import pytest

from edgespeech.cloud.access import TOKEN_ENV
from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import EventKind, Kind, Request
from edgespeech.core.files import sha256_file
from edgespeech.core.places import MODEL_VARIABLE
from edgespeech.endpointing.networks import Thresholds, new_networks, save_networks
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.live import run_live
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from edgespeech.model.checkpoint import WEIGHTS
from edgespeech.secondpass.folder import FOLDER_VARIABLE, LM
from edgespeech.systems.hybrid import Hybrid
from helpers_hybrid import CHUNK_S, REQUEST, answers, kinds, noise, save_tiny, server_of
from secondpass.lm_helpers import WORDS

LOOPBACK = load_profiles()["loopback"]


class Pauses(TypedDict):
    """Options of the end-pointers."""

    final_s: float
    ahead_s: float


SOON = Pauses(final_s=0.2, ahead_s=0.12)
"""Pauses that noise has."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny(tmp_path_factory.mktemp("models"))


@pytest.fixture
def named(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folders, named by the environment."""
    monkeypatch.setenv(MODEL_VARIABLE, str(folders[0]))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folders[1]))
    return folders


@pytest.fixture
def hybrid(named: tuple[Path, Path]) -> Iterator[Hybrid]:
    del named
    recogniser = Hybrid(**SOON, answer_deadline_s=10.0)  # a busy machine must not change who is heard
    recogniser.load()
    yield recogniser
    recogniser.close()


def test_it_says_what_it_is(named: tuple[Path, Path]) -> None:
    recogniser = find_recogniser("hybrid", **SOON, beam=4)
    assert recogniser.missing() is None
    info = recogniser.load()
    try:
        assert info.kind is Kind.HYBRID
        assert len(recogniser.helper_pids()) == 2  # the server and its model
        files = [file for folder in named for file in folder.iterdir()]
        assert info.model_bytes == sum(file.stat().st_size for file in files)
        assert sorted(info.model_sha256.values()) == sorted(map(sha256_file, files))
        assert (info.config["final_s"], info.config["ahead_s"], info.config["beam"]) == (0.2, 0.12, 4)
        assert not any(str(folder) in json.dumps(asdict(info)) for folder in named)
    finally:
        recogniser.close()
    assert recogniser.helper_pids() == ()
    with pytest.raises(EdgeSpeechError, match="hybrid: not loaded"):
        recogniser.open(REQUEST)


def test_the_learned_end_pointer_may_end_utterances(
    named: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "networks.safetensors"
    monkeypatch.setattr("edgespeech.systems.hybrid.networks_file", lambda: path)
    recogniser = Hybrid(endpoint="learned")
    assert recogniser.missing() == f"no end-pointing networks in {tmp_path}"
    plain = Hybrid()
    without = plain.load().parameters
    plain.close()
    networks = new_networks(16, 36, 8, sha256_file(named[0] / WEIGHTS), seed=0)
    save_networks(path, networks)
    with pytest.raises(EdgeSpeechError, match="thresholds of the networks are missing"):
        recogniser.load()
    save_networks(
        path, replace(networks, thresholds=Thresholds(final=0.0, speculative=0.0))
    )  # with the first word piece
    assert recogniser.missing() is None
    try:
        info = recogniser.load()
        told = {key: info.config[key] for key in ("endpoint", "final", "speculative")}
        assert told == {"endpoint": "learned", "final": 0.0, "speculative": 0.0}
        assert info.model_sha256["end-pointer"] == sha256_file(path)
        assert info.parameters is not None
        assert without is not None
        assert 0 < 2 * (info.parameters - without) < path.stat().st_size  # they are kept in half precision
        assert any("end-pointer's networks" in note for note in info.notes)
        trace = run_utterance(recogniser, noise(1.5, 0), REQUEST, chunk_s=CHUNK_S)
    finally:
        recogniser.close()
    assert EventKind.ENDPOINT in {event.kind for _, event in trace.events}


def test_phrases_are_in_the_search_and_not_in_what_is_sent(hybrid: Hybrid) -> None:
    """The second pass gets the bonus that is tuned for it, here none; an empty list is none at all."""
    heard = {}
    for name, phrases in (("none", ()), ("empty", ("東京",)), ("some", WORDS)):
        request = Request(utterance_id="u", context=phrases)
        heard[name] = run_utterance(hybrid, noise(1.5, 0), request, chunk_s=CHUNK_S)
        assert heard[name].failure is None
    assert heard["none"].events == heard["empty"].events
    assert heard["some"].events != heard["none"].events


def test_live_is_what_is_simulated_and_a_dead_server_is_started_again(hybrid: Hybrid) -> None:
    for seed in (0, 1):
        run = run_live(hybrid, noise(1.5, seed), REQUEST, chunk_s=CHUNK_S)
        trace = run_utterance(hybrid, noise(1.5, seed), REQUEST, chunk_s=CHUNK_S)
        timeline = replay(trace, LOOPBACK, seed=0, cloud_speedup=1.0)
        assert trace.failure is None
        assert trace.remote is not None
        sent = [event for _, event in trace.events if event.kind is EventKind.SENT]
        assert sent
        assert run.sent_bytes == tuple(event.n_bytes for event in sent)
        assert run.reply_bytes == tuple(reply.n_bytes for reply in trace.remote.replies)
        assert run.replies[-1][1].text == timeline.text
    server = hybrid._server
    assert server is not None
    server.stop()
    again = run_utterance(hybrid, noise(1.5, 1), REQUEST, chunk_s=CHUNK_S)
    assert again.events == trace.events
    assert again.remote is not None
    assert trace.remote is not None
    assert [reply.event for reply in again.remote.replies] == [reply.event for reply in trace.remote.replies]


@pytest.mark.usefixtures("named")
def test_a_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_ENV, "t")
    with server_of(answers()) as url:
        recogniser = Hybrid(**SOON, server=url, timeout_s=0.5)
        recogniser.load()
        assert recogniser.helper_pids() == ()
        there = run_utterance(recogniser, noise(1.5, 1), REQUEST, chunk_s=CHUNK_S)
    gone = run_utterance(recogniser, noise(1.5, 1), REQUEST, chunk_s=CHUNK_S)
    assert there.remote is not None
    assert there.remote.replies
    assert gone.remote is not None
    assert gone.remote.notes[0].startswith("server: cannot connect")
    assert gone.failure is None
    shapes = [kinds([event.kind for _, event in trace.events]) for trace in (there, gone)]
    assert shapes[0].replace("s", "") == shapes[1]
    own = [[event for _, event in trace.events if event.kind is EventKind.FINAL] for trace in (there, gone)]
    assert own[0] == own[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"final_s": 0.0}, "hybrid: final_s is 0.0"),
        ({"final_s": None}, "hybrid: final_s is None, expected seconds"),
        ({"ahead_s": 0.9}, "hybrid: ahead_s is 0.9, expected above 0 and below final_s, 0.8"),
        ({"answer_deadline_s": -1.0}, "hybrid: answer_deadline_s is -1.0, expected seconds, above 0"),
        ({"timeout_s": float("nan")}, "hybrid: timeout_s is nan"),
        ({"beam": 0}, "hybrid: beam is 0"),
        ({"endpoint": "never"}, "hybrid: endpoint is 'never', expected silence or learned"),
    ],
)
def test_bad_options(options: dict[str, float], problem: str) -> None:
    with pytest.raises(EdgeSpeechError, match=problem):
        Hybrid(**options)  # type: ignore[arg-type]  # of both kinds


def test_what_is_missing(named: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert Hybrid().missing() == f"no second pass in {tmp_path}: it has no {LM}"
    monkeypatch.setenv(FOLDER_VARIABLE, str(named[1]))
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none"))
    assert "no model" in (Hybrid().missing() or "")

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from cloud.fakes import BACKEND, DETECTOR, importable, silence, tone
from edgespeech.cloud import whisper_backend
from edgespeech.cloud.link import load_profiles
from edgespeech.cloud.process import ServerProcess
from edgespeech.contracts import EventKind, Kind, Request, SystemInfo
from edgespeech.corpora.weights import Weights, weights_available
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from edgespeech.systems import cloud_whisper_base
from edgespeech.systems.cloud_whisper_base import CloudWhisperBase


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudWhisperBase]:
    """The system with a real server process, but neither weights nor Whisper."""
    weights = Weights(
        folder=tmp_path, files={"model.bin": "0" * 64}, n_bytes=123, source="test", citation="a model; MIT"
    )

    def server(*, backend: str, options: dict[str, object], rule: object) -> ServerProcess:
        assert backend == "edgespeech.cloud.whisper_backend:build_whisper"
        assert options == {"folder": str(tmp_path), "threads": 1}
        with importable():
            return ServerProcess(backend=BACKEND, detector=DETECTOR, rule=rule)  # type: ignore[arg-type]

    monkeypatch.setattr(cloud_whisper_base, "resolve_weights", lambda name, path: weights)
    monkeypatch.setattr(whisper_backend, "count_parameters", lambda path: 72)
    monkeypatch.setattr(cloud_whisper_base, "ServerProcess", server)
    system = CloudWhisperBase(silence_s=0.4)
    yield system
    system.close()


def test_from_load_to_timeline(faked: CloudWhisperBase) -> None:
    info: SystemInfo = faked.load()
    assert (info.name, info.kind, info.model_bytes, info.parameters) == (
        "cloud-whisper-base",
        Kind.CLOUD,
        123,
        72,
    )
    assert info.config["silence_s"] == 0.4
    assert info.config["frames_per_message"] == 5
    json.dumps(dict(info.config))
    assert any("0.4 s of silence" in note for note in info.notes)
    pids = faked.helper_pids()  # the server and its model
    assert len(pids) == 2
    assert all(map(psutil.pid_exists, pids))

    request = Request(utterance_id="u", context=("latte",))
    samples = np.concatenate([tone(0.5), silence(1.0)])
    trace = run_utterance(faked, samples, request, chunk_s=info.chunk_s)
    assert trace.failure is None
    timeline = replay(trace, load_profiles()["wifi"], seed=0, cloud_speedup=10)
    assert timeline.text == "heard 0.9 en latte"
    endpoint = timeline.last(EventKind.ENDPOINT)
    assert endpoint is not None
    assert 0.9 < endpoint.t_s < 1.2
    offline = replay(trace, load_profiles()["offline"], seed=0, cloud_speedup=10)
    assert offline.failure == "no result over offline"

    faked.close()
    assert faked.helper_pids() == ()
    assert not any(map(psutil.pid_exists, pids))


def test_open_before_load() -> None:
    with pytest.raises(EdgeSpeechError, match=r"not loaded: call load\(\) before open"):
        CloudWhisperBase().open(Request(utterance_id="u"))


def test_options_out_of_range() -> None:
    with pytest.raises(EdgeSpeechError, match="silence_s is -1, expected 0 to 10 s"):
        CloudWhisperBase(silence_s=-1)


def test_missing_weights_are_a_reason(tmp_path: Path) -> None:
    reason = CloudWhisperBase(weights=str(tmp_path / "nowhere")).missing()
    assert reason is not None
    assert "nowhere" in reason


@pytest.mark.skipif(
    weights_available("whisper-base") is not None, reason=weights_available("whisper-base") or ""
)
def test_the_real_model_answers() -> None:
    system = CloudWhisperBase()
    info = system.load()
    try:
        trace = run_utterance(system, silence(1.0), Request(utterance_id="u"), chunk_s=info.chunk_s)
        assert trace.failure is None
        assert trace.remote is not None
        assert trace.remote.replies[-1].event.kind is EventKind.FINAL
        assert max(trace.remote.compute_s) > 0.01
        assert info.parameters == pytest.approx(72_593_920, rel=0.001)
        assert info.model_bytes > 140_000_000
    finally:
        system.close()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud.fakes import BACKEND, DETECTOR, CountingForwarder, importable, silence, tone
from edgespeech.audio.io import write_audio
from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.link import load_profiles
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import PATH
from edgespeech.contracts import EventKind, Kind, LinkProfile, Recogniser, Request, Stream, SystemInfo
from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.live import compare_live, run_live
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from scripted import Scripted


class Echo(Recogniser):
    name = "echo"
    kind = Kind.CLOUD
    summary = "the fake server, through the real client"

    def __init__(self, server: ServerProcess, url: str | None = None) -> None:
        self.server = server
        self.url = url or server.url

    def load(self) -> SystemInfo:
        return SystemInfo(
            name=self.name, kind=self.kind, model_bytes=0, parameters=None, chunk_s=0.1, citation=""
        )

    def open(self, request: Request) -> Stream:
        return CloudStream(self.url, self.server.token, request)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with importable():
        server = ServerProcess(backend=BACKEND, options={"delay_s": 0.3}, detector=DETECTOR)
    with server:
        yield Echo(server)


def manifest_of(folder: Path, eos_s: float | None) -> Manifest:
    utterances = []
    for i, pause in enumerate((0.2, 0.8, 1.2)):
        samples = np.concatenate([tone(0.5), silence(pause)])
        write_audio(folder / f"{i}.wav", samples)
        utterances.append(
            Utterance(
                id=str(i), audio_filepath=f"{i}.wav", duration=len(samples) / 16000, text="", eos_s=eos_s
            )
        )
    write_manifest(folder / "m.jsonl", utterances)
    return load_manifest(folder / "m.jsonl")


def test_live_equals_simulated(echo: Echo, tmp_path: Path) -> None:
    agreement = compare_live(echo, manifest_of(tmp_path, 0.5))
    assert len(agreement.utterances) == 3
    assert agreement.bytes_equal
    assert all(one.text_equal for one in agreement.utterances)
    assert abs(agreement.upl_p50_difference) < 0.1
    # 0.2 s until the file ends, 0.3 s of recognition; 0.7 s of silence where the file has them.
    assert agreement.utterances[0].live_upl_s == pytest.approx(0.5, abs=0.1)
    assert agreement.utterances[2].live_upl_s == pytest.approx(0.7 + 0.1 + 0.3, abs=0.15)
    assert 0 <= agreement.worst_slip_s < 0.1


def test_live_over_a_slow_network_equals_the_link_model(echo: Echo) -> None:
    samples = np.concatenate([tone(0.5), silence(1.2)])
    request = Request(utterance_id="u")
    forwarder = CountingForwarder(echo.server.port, delay_s=0.15)
    live = run_live(Echo(echo.server, f"ws://127.0.0.1:{forwarder.port}{PATH}"), samples, request)
    forwarder.wait()
    trace = run_utterance(echo, samples, request, chunk_s=0.1)
    slow = LinkProfile(name="slow", rtt_s=0.3, jitter_s=0.0, up_bps=1e9, down_bps=1e9)
    simulated = replay(trace, slow, seed=0, cloud_speedup=1.0)
    final = simulated.last(EventKind.FINAL)
    assert final is not None
    assert final.t_s == pytest.approx(live.final_s, abs=0.05)
    loopback = replay(trace, load_profiles()["loopback"], seed=0, cloud_speedup=1.0).last(EventKind.FINAL)
    assert loopback is not None
    assert live.final_s - loopback.t_s == pytest.approx(0.3, abs=0.05)


def test_a_live_run_is_fed_in_real_time(echo: Echo) -> None:
    run = run_live(echo, np.concatenate([tone(0.4), silence(1.0)]), Request(utterance_id="u"))
    assert [event.kind for _, event in run.replies] == [EventKind.ENDPOINT, EventKind.FINAL]
    assert 1.1 <= run.replies[0][0] < run.final_s
    assert run.final_s >= 1.1 + 0.3  # the end-point is told at once, the text when it is there
    assert len(run.sent_bytes) == 1 + 14 + 1 + 1
    assert len(run.reply_bytes) == 2


def test_it_needs_the_end_of_speech(echo: Echo, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="eos_s of 0 is None, expected the end of speech"):
        compare_live(echo, manifest_of(tmp_path, None))


def test_it_needs_a_client_of_a_server() -> None:
    with pytest.raises(EdgeSpeechError, match="expected one that streams to a server"):
        run_live(Scripted(), tone(0.1), Request(utterance_id="u"))


def test_a_refused_stream_raises(echo: Echo) -> None:
    class Refused(Echo):
        def open(self, request: Request) -> Stream:
            stream = super().open(request)
            assert isinstance(stream, CloudStream)
            stream._hello = "nonsense"
            return stream

    with pytest.raises(EdgeSpeechError, match="server: reported: client message"):
        run_live(Refused(echo.server), tone(0.5), Request(utterance_id="u"))

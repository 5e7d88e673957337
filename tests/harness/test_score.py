"""From traces to figures and rows: failures count in full, and stored rows give the figures again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import Event, EventKind, Kind, RemoteTrace, Reply, SystemInfo
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.replay import replay
from edgespeech.harness.score import ScoredRun, replay_seed, resampling_unit, score
from edgespeech.harness.workers import Done, Loaded, Run
from edgespeech.records.rows import trace_from_row
from edgespeech.records.trace import Chunk, Trace
from helpers_metrics import add_family

LINKS = {name: profile for name, profile in load_profiles().items() if name in ("wifi", "3g", "offline")}
INFO = SystemInfo(name="s", kind=Kind.CLOUD, model_bytes=1, parameters=1, chunk_s=0.1, citation="test")


def utterance(n: int, text: str = "turn on the light", **more: object) -> Utterance:
    return Utterance.model_validate(
        {"id": f"u{n}", "audio_filepath": f"{n}.flac", "duration": 1.0, "text": text, "eos_s": 0.8, **more}
    )


def heard(n: int, text: str, failure: str | None = None) -> Trace:
    return Trace(
        utterance_id=f"u{n}",
        duration_s=1.0,
        chunks=(Chunk(ready_s=1.0, compute_s=0.1234567), Chunk(ready_s=1.0, compute_s=0.01)),
        events=((1, Event(kind=EventKind.FINAL, text=text)),),
        failure=failure,
    )


def far(n: int, text: str) -> Trace:
    return Trace(
        utterance_id=f"u{n}",
        duration_s=1.0,
        chunks=(Chunk(ready_s=1.0, compute_s=0.0123456),),
        events=((0, Event(kind=EventKind.SENT, n_bytes=3000)),),
        remote=RemoteTrace(
            compute_s=(0.4567891,),
            replies=(Reply(after_message=0, n_bytes=70, event=Event(kind=EventKind.FINAL, text=text)),),
        ),
    )


def scored(utterances: list[Utterance], traces: list[Trace], grammar: str | None = None) -> ScoredRun:
    run = Run(
        loaded=Loaded(info=INFO, load_s=1.0, warmup_s=1.0),
        done=[Done(trace=trace) for trace in traces],
        memory=None,
    )
    return score(utterances, run, LINKS, seed=0, cloud_speedup=10.0, grammar=grammar)


def test_a_failure_is_full_deletions_and_unbounded_latency_never_a_dropped_row() -> None:
    run = scored(
        [utterance(0), utterance(1)],
        [heard(0, "turn on the light"), heard(1, "turn on", failure="hung: no answer in 60 s")],
    )
    assert run.n_failed == 1
    assert run.accuracy["basic"].deletions == 4
    assert run.accuracy["basic"].wer.value == 0.5
    assert [row.hyp_raw for row in run.rows] == ["turn on the light", ""]
    assert run.rows[1].failure == "hung: no answer in 60 s"
    assert run.networks["wifi"].latency["upl_p99"].value == math.inf
    assert run.networks["wifi"].available.value == 0.5


def test_without_a_network_the_cloud_gives_nothing_but_its_words_still_count_once() -> None:
    run = scored([utterance(0), utterance(1)], [far(0, "turn on the light"), far(1, "turn on a light")])
    assert run.accuracy["basic"].wer.value == 1 / 8
    assert run.networks["offline"].available.value == 0
    assert run.networks["offline"].up_bytes.value == 0
    assert run.networks["offline"].latency["upl_p50"].value == math.inf
    assert run.networks["wifi"].available.value == 1
    assert run.networks["wifi"].up_bytes.value > 3000


@pytest.mark.parametrize("network", ["wifi", "3g"])
def test_stored_rows_replay_to_the_records_latencies(network: str) -> None:
    run = scored([utterance(n) for n in range(5)], [far(n, "turn on the light") for n in range(5)])
    replayed = []
    for row in run.rows:
        assert row.trace is not None
        trace = trace_from_row(row.id, dict(row.trace))
        timeline = replay(trace, LINKS[network], seed=replay_seed(0, trace), cloud_speedup=10.0)
        final = timeline.last(EventKind.FINAL)
        assert final is not None
        assert row.eos_s is not None
        replayed.append(final.t_s - row.eos_s)
    assert run.networks[network].latency["upl_p50"].value == pytest.approx(sorted(replayed)[2], abs=1e-9)
    assert len(set(replayed)) == 5 or network == "wifi"  # every utterance meets a network of its own


def test_commands_are_accepted_when_intent_and_slots_are_right() -> None:
    labels = {"intent": "orderDrink", "slots": {"coffeeDrink": "latte", "size": "small"}}
    text = "i would like a small latte"
    run = scored(
        [utterance(n, text, **labels) for n in range(3)],
        [
            heard(0, "I'd like a small latte, please."),
            heard(1, "i would like a tall latte"),
            heard(2, "", "died"),
        ],
        grammar="coffee",
    )
    assert [row.accepted for row in run.rows] == [True, False, False]
    assert run.acceptance is not None
    assert run.acceptance.value == pytest.approx(1 / 3)
    assert run.rows[0].slots == {"coffeeDrink": "latte", "size": "small"}


def test_commands_without_a_grammar_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="--grammar"):
        scored([utterance(0, intent="x", slots={})], [heard(0, "x")])


def test_a_manifest_without_words_cannot_be_scored() -> None:
    with pytest.raises(EdgeSpeechError, match="no reference word"):
        scored([utterance(0, text="")], [heard(0, "")])


def test_an_empty_reference_is_scored_by_insertions_and_counted_apart() -> None:
    run = scored([utterance(0), utterance(1, text="")], [heard(0, "turn on the light"), heard(1, "hello")])
    assert run.accuracy["basic"].insertions == 1
    assert run.accuracy["basic"].empty_refs == 1
    assert run.accuracy["basic"].wer.value == 0.25


def test_intervals_resample_speakers_only_where_all_are_known() -> None:
    assert resampling_unit([utterance(0, speaker="a"), utterance(1, speaker="b")]) == "speaker"
    assert resampling_unit([utterance(0, speaker="a"), utterance(1)]) == "utterance"


def test_a_new_metric_of_words_is_in_the_row_of_every_normaliser(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_family(monkeypatch, tmp_path, "words_family", id_="long_words", extra="words=True")
    run = scored([utterance(1), utterance(2)], [heard(1, "turn on the light"), heard(2, "turn on")])
    found = {name: row.further["long_words"].value for name, row in run.accuracy.items()}
    assert found == dict.fromkeys(run.accuracy, 1 / 6)
    assert "long_words" not in run.latency
    assert not any("long_words" in network.latency for network in run.networks.values())

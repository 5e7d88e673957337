"""Contests: turns, failures and figures, with scripts that recognise nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.arms.peer_bench import (
    Peer,
    Prepared,
    bench_peers,
    chunk_figures,
    equal_share,
    error_rates,
    longer,
    prepared,
    spread,
    write_chunks,
)
from edgespeech.audio.io import write_audio
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.utterances import utterances_of

SCRIPT = """
import json, os, sys
spec = json.loads(sys.argv[1])
if "late" not in spec:
    assert not spec.get("broken"), "cannot load"
threads = os.environ["OMP_NUM_THREADS"]
print(json.dumps({"load_s": 1.0, "threads": threads}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    with open(spec["log"], "a") as log:
        log.write(f"{spec['name']} {task['do']} {task.get('file')} {task.get('cold')}\\n")
    if spec.get("broken") and task["do"] == "memory":
        sys.exit("out of luck" if spec["late"] == "says" else 3)
    answer = {"peak_bytes": 7} if task["do"] == "memory" else {"text": spec["name"], "labels": 1, "seconds": [1.0]}
    print(json.dumps({**answer, "task": task}), flush=True)
"""


def spoken(name: str, corpus: str = "toy", reference: str = "", speaker: str | None = None) -> Prepared:
    return Prepared(
        corpus=corpus,
        text=reference,
        speaker=speaker,
        file=Path(name),
        features=np.zeros((4, 80), np.float32),
        duration_s=1.0,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    return tmp_path / "script.py"


def one(script: Path, name: str, *, python: str = sys.executable, **spec: Any) -> Peer:
    log = str(script.parent / "log")
    return Peer(name=name, python=python, script=script, spec={"name": name, "log": log, **spec})


def log_of(script: Path) -> list[str]:
    return (script.parent / "log").read_text(encoding="utf-8").splitlines()


def test_peers_take_turns_warm_then_memory_then_cold(script: Path) -> None:
    found = bench_peers(
        [one(script, "a"), one(script, "b")],
        warm=[spoken("u"), spoken("v")],
        cold=[spoken("u")],
        alone={"b": [{"do": "extra"}]},
    )
    assert log_of(script) == [
        "a run u False", "b run u False", "b run v False", "a run v False",
        "a memory None None", "b memory None None", "b run u True", "a run u True", "b extra None None",
    ]  # fmt: skip
    assert [answer["text"] for answer in found["a"]["warm"]] == ["a", "a"]
    assert (found["a"]["load_s"], found["a"]["threads"]) == (1.0, "1")
    assert [answer["peak_bytes"] for answer in found["b"]["memory"]] == [7]
    assert (len(found["a"]["alone"]), len(found["b"]["alone"])) == (0, 1)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"broken": True}, "AssertionError: cannot load"),
        ({"broken": True, "late": "says"}, "out of luck"),
        ({"broken": True, "late": "silent"}, "its process ended with 3"),
    ],
)
def test_one_that_fails_is_out_and_the_others_go_on(script: Path, spec: dict[str, Any], reason: str) -> None:
    found = bench_peers(
        [one(script, "bad", **spec), one(script, "good")], warm=[spoken("u")], cold=[spoken("u")]
    )
    assert found["bad"] == {"skipped": reason}
    assert [answer["text"] for answer in found["good"]["cold"]] == ["good"]


def test_an_interpreter_that_is_not_there_is_reported(script: Path) -> None:
    found = bench_peers(
        [one(script, "bad", python="/nowhere/python"), one(script, "good")], warm=[spoken("u")]
    )
    assert "could not be started: No such file" in found["bad"]["skipped"]
    assert len(found["good"]["warm"]) == 1


def test_an_utterance_comes_in_chunks_with_a_tail_of_silence(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    features = write_chunks(samples, tmp_path / "u.npz")
    with np.load(tmp_path / "u.npz") as stored:
        assert stored["sample_chunks"].tolist() == [1920, 1920, 1160, 6400]  # 0.12 s, and at last 0.4 s
        assert np.array_equal(stored["samples"], np.concatenate([samples, np.zeros(6400, np.float32)]))
        assert np.array_equal(stored["features"], features)
        counts = stored["feature_chunks"]
    assert counts.sum() == len(features) == (5000 + 2560 + 80) // 160
    assert (counts > 0).all()


def test_a_longer_tail_leaves_the_audio_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "c.flac", (0.1 * rng.standard_normal(16_000)).astype(np.float32))
    pieces = [
        Utterance(id=name, audio_filepath="c.flac", duration=0.25, offset=start, text=name, speaker="s")
        for name, start in (("one", 0.0), ("two", 0.5))
    ]
    write_manifest(tmp_path / "c.jsonl", pieces)
    both = utterances_of({str(tmp_path / "c.jsonl"): "basic"}, seed=0)
    first, second = prepared(both, tmp_path)
    assert (first.text, second.speaker, second.duration_s) == ("one", "s", 0.25)
    assert first.file != second.file
    more = longer(second, 1.0)
    assert len(more.features) == len(second.features) + 84  # 0.84 s more
    assert np.array_equal(more.features[:20], second.features[:20])
    assert not np.array_equal(first.features[:20], second.features[:20])
    with np.load(more.file) as stored:
        assert stored["sample_chunks"].tolist() == [1920, 1920, 160, 16_000]


def test_some_are_spread_over_all() -> None:
    all_of_them = [spoken(str(number)) for number in range(10)]
    assert [item.file.name for item in spread(all_of_them, 3)] == ["0", "3", "6"]
    assert spread(all_of_them, None) is all_of_them
    assert spread(all_of_them, 11) is all_of_them


def test_chunk_figures_are_over_all_chunks() -> None:
    answers = [{"seconds": [1.0] * 98}, {"seconds": [2.0, 3.0]}]
    assert chunk_figures(answers) == {"mean_s": pytest.approx(1.03), "p99_s": 2.0, "n": 100}


def test_error_rates_are_per_corpus_and_paired() -> None:
    items = [spoken(str(n), "a", "turn on the light", f"s{n % 3}") for n in range(6)]
    items += [spoken("6", "b", "play music")]
    right = [{"text": item.text} for item in items]
    wrong = [{"text": "turn of the light"}] * 6 + [{"text": "Play music!"}]
    corpora = {"a": "basic", "b": "basic", "gone": "basic"}
    found = error_rates(items, wrong, right, corpora, 0)
    assert found["a"] == {"wer": 0.25, "n": 6, "difference": 0.25, "low": 0.25, "high": 0.25}
    assert found["b"] == {"wer": 0.0, "n": 1}
    assert set(found) == {"a", "b"}
    assert error_rates(items, right, wrong, corpora, 0)["a"]["difference"] == -0.25
    assert error_rates(items, wrong, None, corpora, 0)["a"] == {"wer": 0.25, "n": 6}


def test_equal_words_are_counted() -> None:
    texts = [[{"text": word} for word in line] for line in ("abcd", "abxd")]
    assert equal_share(*texts) == 0.75
    assert json.dumps(equal_share(texts[0], texts[0])) == "1.0"

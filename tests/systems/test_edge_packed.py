"""The packed recogniser behind the contract, with a tiny model: it says what the simulated one says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgespeech.audio.features import StreamingLogMel
from edgespeech.contracts import Event, EventKind, Request, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root, shipped_models
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.lm.fusion import HIGH, LOW, WEIGHTS, Fusion
from edgespeech.lm.ngram import NGram
from edgespeech.model.checkpoint import WEIGHTS as CHECKPOINT
from edgespeech.model.checkpoint import load_model
from edgespeech.packed.codes import Codes, dequantise, quantise
from edgespeech.packed.edge_file import Tensor, read_edge, write_edge
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.pack import Layout, fusion_tensors, pack
from edgespeech.packed.simulate import simulate
from edgespeech.search.partials import TAIL_S
from edgespeech.search.streaming import TransducerStream
from edgespeech.systems.edge_packed import MODEL_VARIABLE, EdgePacked
from helpers_fusion import fusion_of
from helpers_packed import VOCABULARY, tiny

REQUEST = Request(utterance_id="x")
STRONG = fusion_of(VOCABULARY, high=5, label=15)
"""So that it outweighs a random model, which is sure of what it says."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed model, named by the environment."""
    path = tmp_path / "mine.edge"
    pack(tiny(), Layout(), path)
    monkeypatch.setenv(MODEL_VARIABLE, str(path))
    return path


@pytest.fixture
def loaded(file: Path) -> Iterator[EdgePacked]:
    recogniser = EdgePacked()
    recogniser.load()
    yield recogniser
    recogniser.close()


@pytest.fixture
def samples() -> Samples:
    rng = np.random.default_rng(0)
    noise: Samples = (0.1 * rng.standard_normal(16_123)).astype(np.float32)
    return noise


def final(recogniser: EdgePacked, samples: Samples, chunk_s: float) -> Event:
    trace = run_utterance(recogniser, samples, REQUEST, chunk_s=chunk_s)
    assert trace.failure is None
    return trace.events[-1][1]


def test_it_says_what_it_is(file: Path) -> None:
    recogniser = find_recogniser("edge-packed", beam=4)
    assert recogniser.missing() is None
    info = recogniser.load()
    assert info.model_bytes == file.stat().st_size
    assert info.model_sha256 == {"mine.edge": sha256_file(file)}
    shapes = [
        tensor.shape if isinstance(tensor, np.ndarray) else tensor.codes.shape
        for tensor in read_edge(file).tensors.values()
    ]
    assert info.parameters == sum(rows * cols for rows, cols in shapes)
    assert info.config["beam"] == 4
    assert info.config["provenance"]["run"] == "trial"
    assert json.loads(info.config["provenance"]["layout"])["matrices"]["bits"] == 8
    assert str(file.parent) not in json.dumps(asdict(info))
    recogniser.close()


@pytest.mark.parametrize("fusion", [None, STRONG], ids=["alone", "fusion"])
@pytest.mark.parametrize("beam", [1, 3])
def test_it_says_what_the_simulated_model_says(
    file: Path, samples: Samples, beam: int, fusion: Fusion | None
) -> None:
    trained = replace(tiny(), fusion=fusion)
    twin = simulate(trained.model.config, read_edge(file).tensors)
    pack(trained, Layout(), file)
    stream = TransducerStream(replace(trained, model=twin), beam, final_s=0.12)
    recogniser = EdgePacked(beam=beam, final_s=0.12)
    recogniser.load()
    packed = recogniser.open(REQUEST)
    events: list[Event] = []
    for start in range(0, len(samples), 1920):
        piece = samples[start : start + 1920]
        said = packed.accept(piece)
        assert said == stream.accept(piece)
        events += said
    rest = packed.finish()
    assert rest == stream.finish()
    events += rest
    assert events[-1].kind is EventKind.FINAL
    assert events[-1].text
    assert packed.state_bytes()
    packed.close()
    recogniser.close()


@pytest.mark.usefixtures("file")
def test_greedy_search_is_a_recogniser_of_its_own(samples: Samples) -> None:
    greedy, one = find_recogniser("edge-packed-greedy"), EdgePacked(beam=1)
    assert (greedy.load().name, one.load().name) == ("edge-packed-greedy", "edge-packed")
    traces = [run_utterance(each, samples, REQUEST, chunk_s=0.12) for each in (greedy, one)]
    assert traces[0].events == traces[1].events
    greedy.close()
    one.close()


@pytest.mark.usefixtures("file")
def test_a_pause_ends_an_utterance_and_costs_no_word(samples: Samples) -> None:
    said = []
    for final_s in (0.12, None):
        recogniser = EdgePacked(beam=3, final_s=final_s)
        assert recogniser.load().config["final_s"] == final_s
        trace = run_utterance(recogniser, samples, REQUEST, chunk_s=0.12)
        said.append([event for _, event in trace.events])
        recogniser.close()
    ended, not_ended = ({event.kind for event in events} for events in said)
    assert ended - not_ended == {EventKind.ENDPOINT}
    last, expected = ([e for e in events if e.kind is EventKind.FINAL][-1] for events in said)
    assert last == expected


def test_chunks_change_nothing_of_the_result(loaded: EdgePacked, samples: Samples) -> None:
    finals = [final(loaded, samples, chunk_s) for chunk_s in (0.01, 0.12, 1.0)]
    assert finals[0].text
    assert finals[0] == finals[1] == finals[2]


def test_two_streams_do_not_disturb_each_other(loaded: EdgePacked, samples: Samples) -> None:
    alone = final(loaded, samples, 0.12)
    one, other = loaded.open(REQUEST), loaded.open(REQUEST)
    for start in range(0, len(samples), 1920):
        one.accept(samples[start : start + 1920])
        other.accept(0.5 * samples[::-1][start : start + 1920])
    assert one.finish()[-1] == alone
    one.close()
    other.close()


def test_torch_is_not_imported(file: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from edgespeech.contracts import Request\n"
        "from edgespeech.systems.edge_packed import EdgePacked\n"
        "recogniser = EdgePacked(); assert recogniser.missing() is None; recogniser.load()\n"
        "stream = recogniser.open(Request(utterance_id='x'))\n"
        "stream.accept(np.zeros(1600, np.float32)); stream.finish(); stream.close()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_silence_after_the_end_is_as_long_as_everywhere(file: Path) -> None:
    assert EdgePacked().load().config["tail_s"] == TAIL_S


def test_without_a_model_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none.edge"))
    assert "no model" in (EdgePacked().missing() or "")
    with pytest.raises(EdgeSpeechError, match=r"none\.edge"):
        EdgePacked().load()


def test_without_an_engine_it_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgespeech.engine._native", None)
    assert "the native engine is not built" in (EdgePacked().missing() or "")


def test_without_a_word_from_the_environment_the_shipped_model_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    assert EdgePacked().path() == project_root() / "results" / "models" / "edge-packed" / "model.edge"


def test_a_file_that_is_no_model_is_reported(file: Path) -> None:
    model = read_edge(file)
    write_edge(file, {"x": np.ones((1, 1), np.float32)}, model.meta)
    assert EdgePacked().missing() is None
    with pytest.raises(EdgeSpeechError, match=r"mine\.edge: .*transcriber"):
        EdgePacked().load()
    write_edge(file, model.tensors, {**model.meta, "format": "another"})
    with pytest.raises(EdgeSpeechError, match=r"mine\.edge: format is 'another'"):
        EdgePacked().load()


def test_it_wants_to_be_loaded() -> None:
    with pytest.raises(EdgeSpeechError, match="edge-packed: not loaded"):
        EdgePacked().open(REQUEST)


def test_it_wants_english(loaded: EdgePacked) -> None:
    with pytest.raises(EdgeSpeechError, match="edge-packed: language is 'fr', expected en"):
        loaded.open(Request(utterance_id="x", language="fr"))


@pytest.mark.parametrize("beam", [0, -1, "wide", 1.5])
def test_a_beam_is_a_whole_number(beam: object) -> None:
    with pytest.raises(EdgeSpeechError, match="edge-packed: beam is"):
        EdgePacked(beam=beam)  # type: ignore[arg-type]  # as the command line may pass it


@pytest.mark.skipif(EdgePacked().missing() is not None, reason="no model is shipped yet")
def test_the_shipped_file_is_the_published_one_of_the_shipped_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    path, start = EdgePacked().path(), shipped_models() / "edge-fp32"
    newest = max((project_root() / "results" / "compression").glob("*.json"))
    (row,) = (row for row in json.loads(newest.read_text())["rows"] if row["claim"] == "compression.ships")
    assert row["data"]["edge_sha256"] == sha256_file(path)
    assert row["data"]["root_sha256"] == sha256_file(start / CHECKPOINT)
    shipped, trained = read_edge(path), load_model(start)
    assert shipped.meta["config"] == trained.model.config.to_mapping()
    assert shipped.meta["pieces"] == list(trained.tokeniser.pieces)
    assert trained.fusion is not None
    for name, tensor in fusion_tensors(trained.fusion).items():
        old = shipped.tensors[name]
        if isinstance(tensor, Codes):
            assert isinstance(old, Codes)
            np.testing.assert_array_equal(dequantise(old), dequantise(tensor), name)
        else:
            np.testing.assert_array_equal(old, tensor, name)


@pytest.mark.skipif(EdgePacked().missing() is not None, reason="no model is shipped yet")
def test_transcripts_are_those_of_the_features_that_the_model_was_published_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine's features round otherwise now and then than those of kaldi-native-fbank."""
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    folder = project_root() / "data_manifests" / "assistant_mini" / "audio"
    recogniser = EdgePacked()
    recogniser.load()
    for path in sorted(folder.glob("*.opus"))[10:200:40]:
        samples, _ = soundfile.read(path, dtype="float32")
        traces = []
        for extractor in (NativeLogMel, StreamingLogMel):
            monkeypatch.setattr("edgespeech.packed.log_mel.NativeLogMel", extractor)
            traces.append(run_utterance(recogniser, samples, REQUEST, chunk_s=0.12))
        said = [[event for _, event in trace.events] for trace in traces]
        assert said[0][-1].text
        assert said[0] == said[1], path.name
    recogniser.close()


def test_a_language_model_changes_the_transcript_and_is_no_weight(file: Path, samples: Samples) -> None:
    def result() -> tuple[str, int | None]:
        recogniser = EdgePacked(beam=3)
        info = recogniser.load()
        said = final(recogniser, samples, 0.12)
        recogniser.close()
        return said.text, info.parameters

    alone = result()
    pack(replace(tiny(), fusion=STRONG), Layout(), file)
    fused = result()
    assert fused[0] != alone[0]
    assert fused[1] == alone[1]


@pytest.mark.parametrize(
    ("name", "row", "node", "value", "expected"),
    [
        (HIGH, 0, 1, 200, "a label is 200, expected less than 40"),
        (LOW, 1, 0, 250, "breadth-first order"),
        (LOW, 1, -1, 1, "breadth-first order"),
        (LOW, 0, 2, 0, "do not grow"),
    ],
)
def test_a_damaged_language_model_is_refused(
    file: Path, name: str, row: int, node: int, value: int, expected: str
) -> None:
    pack(replace(tiny(), fusion=STRONG), Layout(), file)
    held = read_edge(file)
    table = held.tensors[name]
    assert isinstance(table, Codes)
    assert table.mask is not None
    code = np.uint8(value).view(np.int8).astype(np.int16) + 128
    table.codes[row, node], table.mask[row, node] = code if value else 0, value != 0
    write_edge(file, held.tensors, held.meta)
    with pytest.raises(EdgeSpeechError, match=f"{name}.*{expected}"):
        EdgePacked().load()


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        (WEIGHTS, np.array([[1, np.inf, 0]], np.float32), "not finite"),
        (HIGH, STRONG.high.table, "uniform codes of 8 bits"),
        (LOW, quantise(np.ones((3, 9), np.float32), bits=8), "rows is 3, expected 4"),
        (LOW, quantise(np.ones((4, 9), np.float32), bits=5), "uniform codes of 8 bits"),
    ],
)
def test_a_language_model_stored_otherwise_is_refused(
    file: Path, name: str, tensor: Tensor, expected: str
) -> None:
    pack(replace(tiny(), fusion=STRONG), Layout(), file)
    held = read_edge(file)
    write_edge(file, {**held.tensors, name: tensor}, held.meta)
    with pytest.raises(EdgeSpeechError, match=f"{name}.*{expected}"):
        EdgePacked().load()


def test_a_packed_language_model_is_the_nearest_of_its_steps() -> None:
    found = fusion_tensors(STRONG)
    for name, model in ((HIGH, STRONG.high), (LOW, STRONG.low)):
        table = found[name]
        assert isinstance(table, Codes)
        np.testing.assert_array_equal(dequantise(table)[:2], model.table[:2])
        np.testing.assert_array_equal(dequantise(table)[2:], model.table[2:])


def test_a_score_between_two_steps_is_rounded_and_one_beyond_all_is_the_last() -> None:
    table = STRONG.high.table.copy()
    table[2, 1], table[3, 1] = -1.3, -40
    model = NGram(table, VOCABULARY, "test")
    found = fusion_tensors(Fusion(model, STRONG.low, STRONG.weights))[HIGH]
    assert isinstance(found, Codes)
    assert dequantise(found)[2:, 1].tolist() == [-1.25, -15.875]


def test_more_labels_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="vocabulary is 300, expected at most 256"):
        fusion_tensors(fusion_of(300))


@pytest.mark.parametrize("missing", [HIGH, LOW])
def test_half_a_language_model_is_refused(file: Path, missing: str) -> None:
    pack(replace(tiny(), fusion=STRONG), Layout(), file)
    held = read_edge(file)
    write_edge(file, {name: t for name, t in held.tensors.items() if name != missing}, held.meta)
    with pytest.raises(EdgeSpeechError, match=f"no tensor {missing}"):
        EdgePacked().load()

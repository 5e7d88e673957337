"""Compressed execution measured: on a tiny model that says something, with the real peers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgespeech.audio.io import write_audio
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.loader import EdgeFile
from edgespeech.packed.pack import EMBEDDING, pack
from edgespeech.records.claims import load_claims
from helpers_packed import tiny
from helpers_replication import load_replication

HERE = project_root() / "replication" / "az_execution"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))
CLAIMS = {claim.id for claim in load_claims(HERE / "claim.yaml")}
LAYOUTS = [
    {"name": "int8", "bits": 8},
    {"name": "4 bits, 50 % zeros", "bits": 4, "group": 64, "zeros": 0.5},
]
TORCH = [{"name": "torch fp32", "kind": "edge-fp32", "int8": False}]


@pytest.fixture
def page() -> ModuleType:
    return load_replication("az_execution")


@pytest.fixture
def products() -> ModuleType:
    spec = importlib.util.spec_from_file_location("az_products", HERE / "products.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    monkeypatch.setenv(MODEL_VARIABLE, str(folder))
    trained = tiny()
    save_model(folder, trained.model, trained.tokeniser, trained.provenance)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """The page's, but small: three utterances of noise, two layouts, one peer."""
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "c.flac", (0.1 * rng.standard_normal(32_000)).astype(np.float32))
    pieces = [
        Utterance(
            id=f"u{n}", audio_filepath="c.flac", duration=0.5, offset=0.5 + 0.5 * n, text="play some music"
        )
        for n in range(3)
    ]
    write_manifest(tmp_path / "c.jsonl", pieces)
    amounts = {"utterances": None, "cold": 2, "onnx": 2, "sherpa": 2, "modelled": 2}
    accelerator = {"baseline": "int8", "bits": [4], "sparsities": [0.5]}
    return {
        **CONFIG,
        "profile": "quick",
        "quick": amounts,
        "corpora": {str(tmp_path / "c.jsonl"): "basic", "nowhere": "basic"},
        "layouts": LAYOUTS,
        "fewer": "4 bits, 50 % zeros",
        "peers": TORCH,
        "evict_mib": 1,
        "accelerator": accelerator,
        "simulated": ["4 bits, 50 % zeros"],
        "simulated_corpus": str(tmp_path / "c.jsonl"),
    }


def test_whole_models_are_measured_and_what_is_missing_is_reported(
    page: ModuleType, model: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_export(*_: object, **__: object) -> None:
        raise EdgeSpeechError("onnx is not installed")

    monkeypatch.setattr(page, "export_onnx", no_export)
    onnx = {"name": "ONNX Runtime int8", "kind": "onnxruntime", "int8": True}
    rows = list(page.execution({**config, "peers": [*TORCH, onnx]}, 0))
    unmeasured = {"az_execution.onnx", "az_execution.sherpa"}
    whole = {claim for claim in CLAIMS if ".product_" not in claim}
    assert {row["claim"] for row in rows if "claim" in row} == whole - unmeasured
    json.dumps(rows)
    skipped = {row["part"]: row["skipped"] for row in rows if "skipped" in row}
    assert set(skipped) == {"the truth table on nowhere", "onnx", "sherpa"}
    measured = {row["claim"]: row for row in rows if "measured" in row}
    (peers,) = [row["peers"] for row in rows if "peers" in row]
    table = {row["name"]: row for row in peers}
    assert list(table) == ["int8", "4 bits, 50 % zeros", "torch fp32", "ONNX Runtime int8", "features alone"]
    assert table["4 bits, 50 % zeros"]["stored"] == "4 bits sparse x 9, 4 bits x 1"  # the embedding is dense
    assert table["ONNX Runtime int8"]["skipped"] == "onnx is not installed"
    for name in ("int8", "4 bits, 50 % zeros", "torch fp32"):
        # 0.12 s of 0.5 s, without tails
        assert (table[name]["warm"]["n"], table[name]["cold"]["n"]) == (15, 10)
        assert table[name]["peak_added_bytes"] > 0
        assert 0 < table[name]["warm"]["mean_s"] <= table[name]["warm"]["p99_s"]
    (rate,) = table["torch fp32"]["wer"].values()
    assert (rate["n"], rate["difference"]) == (3, 0)
    assert rate["wer"] > 0
    assert table["int8"]["traffic_bytes_per_s"] < table["torch fp32"]["traffic_bytes_per_s"] / 3
    assert 1 < measured["az_execution.bytes"]["measured"] < 1.3  # masks of 70 columns take 128 bits
    assert measured["az_execution.simulated"]["measured"] == 1
    assert measured["az_execution.simulated"]["n"] == 3
    assert measured["az_execution.wer_int8"]["n"] == 3
    assert measured["az_execution.wer_int8"]["detail"] == "pooled, beam 16 with the language models"
    assert measured["az_execution.wer_int8"]["low"] <= measured["az_execution.wer_int8"]["high"]
    assert measured["az_execution.shared"]["n"] == 10
    record = {"rows": rows, "config": config}
    assert "| ONNX Runtime int8 |" in page.truth_block(record)


def test_the_export_is_held_against_torch(
    page: ModuleType, model: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    bench = page.Bench(config, model, tmp_path)
    (row,) = page.onnx(bench)
    assert 0 < row["measured"] < 1e-4
    torch.manual_seed(0)
    bench.trained.model.transcriber.enter.weight.data *= 1.01
    (row,) = page.onnx(bench)
    assert row["measured"] > 1e-3


def test_onnx_runtime_says_what_torch_says(
    page: ModuleType, model: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    bench = page.Bench(config, model, tmp_path)
    peers = [{"name": kind, "kind": kind, "int8": False} for kind in ("edge-fp32", "onnxruntime")]
    found = page.bench_peers([page.peer(bench, entry)[0] for entry in peers], warm=bench.spoken)
    assert page.equal_share(found["edge-fp32"]["warm"], found["onnxruntime"]["warm"]) == 1
    assert [one["labels"] for one in found["edge-fp32"]["warm"]] == [
        one["labels"] for one in found["onnxruntime"]["warm"]
    ]
    assert all(one["labels"] for one in found["edge-fp32"]["warm"]), "models that say nothing prove nothing"


def test_sherpa_onnx_needs_an_interpreter(
    page: ModuleType, model: Path, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(page.PEER_VARIABLE, raising=False)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    bench = page.Bench(config, model, tmp_path)
    with pytest.raises(EdgeSpeechError, match=page.PEER_VARIABLE):
        page.exported_process(bench, "sherpa", "sherpa-onnx", tmp_path, int8=False)


def test_without_a_model_or_a_corpus_nothing_is_measured(
    page: ModuleType, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(EdgeSpeechError, match="no model in"):
        list(page.execution(config, 0))
    with pytest.raises(EdgeSpeechError, match="none of these corpora"):
        page.Bench({**config, "corpora": {"nowhere": "basic"}}, tmp_path, tmp_path)


def test_each_row_loses_its_smallest_weights(page: ModuleType) -> None:
    trained = tiny()
    before = {name: values.clone() for name, values in trained.model.named_parameters()}
    for name, after in page.pruned(trained, 0.25).model.named_parameters():
        assert torch.equal(before[name], dict(trained.model.named_parameters())[name])
        if after.ndim == 1 or name == EMBEDDING:
            assert torch.equal(after, before[name])
            continue
        rows, whole = after.flatten(1), before[name].flatten(1)
        zeros = rows == 0
        assert (zeros.sum(dim=1) == round(0.25 * rows.shape[1])).all()
        assert torch.equal(rows[~zeros], whole[~zeros])
        kept = whole.abs().masked_fill(zeros, torch.inf).amin(dim=1)
        assert (whole.abs().masked_fill(~zeros, 0).amax(dim=1) <= kept).all()


MADE = [entry for entry in CONFIG["layouts"] if "file" not in entry]


@pytest.mark.parametrize("entry", MADE, ids=lambda entry: str(entry["name"]))
def test_sizes_are_those_of_the_file(page: ModuleType, entry: Mapping[str, Any], tmp_path: Path) -> None:
    layout = page.layout_of({**entry, "store": "sparse"} if "store" in entry else entry)
    trained = page.pruned(tiny(), entry.get("zeros", 0))
    pack(trained, layout, tmp_path / "m.edge")
    tensors = read_edge(tmp_path / "m.edge").tensors
    found = page.sizes(tensors)
    with EdgeFile(tmp_path / "m.edge") as file:
        assert found["packed_bytes"] == file.packed_bytes
    assert (
        found["weights"] == trained.model.parameters_deployed - 4 * 70 * 2
    )  # the biases of two LSTMs, summed
    wanted = 4 if entry["bits"] == 32 else entry["bits"] / 8 * (1 - entry.get("zeros", 0))
    assert found["formula_bytes"] >= wanted * found["weights"]
    assert getattr(tensors["joiner.weight"], "mask", None) is None or entry.get("zeros")
    assert getattr(tensors[EMBEDDING], "mask", None) is None


def test_traffic_counts_every_pass(
    page: ModuleType, model: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    bench = page.Bench(config, model, tmp_path)
    frames = sum(len(item.features) // 4 for item in bench.spoken)
    one = np.zeros((1, 1), np.float32)
    for name, passes in (
        ("transcriber.x", frames), ("predictor.x", 5), ("joiner.x", frames + 5), (EMBEDDING, 0),
    ):  # fmt: skip
        found = page.traffic(bench, {name: one}, [{"labels": 2}, {"labels": 3}])
        assert found == pytest.approx(4 * passes / 1.5)


def test_the_configuration_names_what_there_is() -> None:
    names = {entry["name"] for entry in (*CONFIG["layouts"], *CONFIG["peers"])}
    assert {
        CONFIG["ours"],
        CONFIG["fewer"],
        CONFIG["reference"],
        *CONFIG["simulated"],
        CONFIG["accelerator"]["baseline"],
    } <= names
    assert {"int8", "int8, 50 % zeros", "4 bits, 50 % zeros"} <= {
        entry["name"] for entry in CONFIG["products"]["layouts"]
    }


def test_products_take_turns_over_more_than_the_cache(products: ModuleType) -> None:
    seen: list[str] = []

    def peer(name: str) -> Any:
        works = [lambda copy=copy: seen.append(f"{name}{copy}") for copy in range(4)]
        return products.Product(name, "fp32", 8, works)

    rows = products.measure([peer("a"), peer("b")], 2)
    # No page is touched for the first time while a clock runs.
    assert seen[:8] == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    assert seen[8:] == ["a0", "a1", "a1", "b0", "b1", "b1", "b2", "b3", "b3", "a2", "a3", "a3"]
    assert [(row["name"], row["bytes"]) for row in rows] == [("a", 8), ("b", 8)]
    for layouts in (0, 6):
        copies = products.copies_for(2048, 512, layouts, 128 << 20)
        assert copies % 2 == 0
        assert copies // 2 * 2048 * 512 * (14 + layouts / 2) >= 128 << 20
    assert products.copies_for(8192, 8192, 0, 128 << 20) == 2


def test_products_are_those_of_the_matrix(products: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal((24, 64), np.float32), rng.standard_normal(64, np.float32)
    found = list(products.ours(weights, x, 2, LAYOUTS, tmp_path))
    found += [*products.numpy_peer(weights, x, 2), *products.torch_peers(weights, x, 2)]
    torch.set_grad_enabled(True)
    if importlib.util.find_spec("onnx"):
        found += products.onnx_peers(weights, x, 2)
    true = weights @ x
    for one in found:
        for work in one.works:
            y = np.asarray(work()).reshape(-1).astype(np.float64)
            assert np.corrcoef(y, true)[0, 1] > 0.9, one.name
    kinds = {one.name: (one.kind, one.n_bytes) for one in found}
    assert kinds["int8"] == ("int8", 24 * 64 + 4 * 24)
    assert kinds["numpy fp32"] == ("fp32", weights.nbytes)
    assert kinds["torch dynamic int8"] == ("int8", weights.size)
    assert kinds["4 bits, 50 % zeros"][0] == "other"


def test_products_run_by_themselves(page: ModuleType) -> None:
    settings = {"shapes": [[16, 64]], "rounds": 2, "layouts": CONFIG["products"]["layouts"]}
    rows = list(page.products({"products": settings, "evict_mib": 1}, 0))
    assert {row["claim"] for row in rows} == {claim for claim in CLAIMS if ".product_" in claim}
    assert "| 16 x 64 | torch fp32 |" in page.products_block({"rows": rows})
    with pytest.raises(EdgeSpeechError, match=r"products\.py ended with 1 with the error: KeyError"):
        list(page.products({"products": {"shapes": []}, "evict_mib": 1}, 0))


def test_without_a_record_the_blocks_say_so(page: ModuleType) -> None:
    for block in page.PAGE.blocks.values():
        assert block(None) == "No record yet.\n"
        assert block({"rows": [{"claim": "x", "skipped": "y"}]}) == "No record yet.\n"


def test_the_plot_is_that_of_the_newest_record(page: ModuleType) -> None:
    rows = page.kept(page.PAGE.view(), "modelled")
    if rows is None:
        assert not page.PLOT.exists()
    else:
        assert page.PLOT.read_text(encoding="utf-8") == page.processors.accelerator_plot(rows)

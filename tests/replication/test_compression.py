"""The page of the stack: its search, its arms, and the choice of the model that ships."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgespeech.arms.configuration import Arms
from edgespeech.arms.packed_bench import Bench
from edgespeech.arms.sensitivity import Option, matrices_of
from edgespeech.audio.io import write_audio
from edgespeech.core.files import sha256_file
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from helpers_arms import arm_row, check_blocks, check_page
from helpers_packed import tiny
from helpers_replication import load_replication

CONFIG = yaml.safe_load((project_root() / "replication/compression/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_replication("compression")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "SEARCH", tmp_path / "results" / "search.yaml")
    return module


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "init"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    return tmp_path / "init"


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "c.flac", (0.1 * rng.standard_normal(32_000)).astype(np.float32))
    pieces = [
        Utterance(
            id=f"u{n}", audio_filepath="c.flac", duration=0.5, offset=0.5 * n, text="get me a small latte",
            intent="orderDrink", slots={"size": "small"},
        )
        for n in range(3)
    ]  # fmt: skip
    write_manifest(tmp_path / "c.jsonl", pieces)
    return str(tmp_path / "c.jsonl")


def settings(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, corpus: str, **changes: Any
) -> dict[str, Any]:
    """The page's configuration on a small corpus."""
    search = {"corpus": corpus, "bits": [8, 4], "sparsities": [0.0, 0.5], "file_bytes": 100_000, "quick": 2}
    ships = {**CONFIG["ships"], "corpus": corpus, "normaliser": "basic", "references": ["fp32", "b"]}
    families = [
        {"name": name, "of": "init", "pack": {"bits": bits}}
        for name, bits in (("fp32", 32), ("a", 8), ("b", 4))
    ]
    config = {
        **CONFIG, "corpora": {corpus: "basic"}, "search": search, "ships": ships, "families": families,
    } | changes  # fmt: skip
    monkeypatch.setattr(page, "settings", lambda: config)
    return config


def test_the_configuration_names_what_there_is(page: ModuleType, init: Path) -> None:
    chosen = {name: Option(4, 0.5) for name in matrices_of(tiny().model)}
    arms = Arms(page.HERE, {**CONFIG, "families": page.families(CONFIG, chosen)}, init)
    check_page(page, arms, CONFIG)
    assert set(CONFIG["ships"]["references"]) <= set(arms.arms)
    searched = {"searched", "searched_rounded", "searched_zeros"}
    assert searched <= set(arms.arms)
    assert not searched & {one["name"] for one in page.families(CONFIG, None)}


def test_what_is_searched_is_what_is_trained(page: ModuleType, init: Path) -> None:
    chosen = {"joiner.weight": Option(8, 0.0), "transcriber.lstms.0.weight_hh_l0": Option(5, 0.7)}
    families = {one["name"]: one for one in page.families(CONFIG, chosen)}
    assert families["searched_zeros"]["compressor"]["layers"] == {
        "joiner.weight": None,
        "transcriber.lstms.0.weight_hh_l0": {"sparsity": 0.7},
    }
    assert families["searched"]["compressor"]["layers"]["joiner.weight"] == {"bits": 8}
    Arms(page.HERE, {**CONFIG, "families": list(families.values())}, init)


def test_the_search_is_made_once_for_a_model(
    page: ModuleType, init: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(page, monkeypatch, corpus)
    with pytest.raises(EdgeSpeechError, match="no search was made"):
        next(page.search({}, 0))
    page.make_search("quick")
    told = yaml.safe_load(page.SEARCH.read_text())
    assert told["file_bytes"] <= 100_000
    assert {one["bits"] for one in told["matrices"].values()} <= {8, 4}
    (row,) = page.search({}, 0)
    assert row["measured"] == pytest.approx(told["added_loss"] - told["expected_loss"])
    assert "| joiner.weight |" in page.search_block({"rows": [row]})
    assert page.first_steps("quick", "*") == []
    assert page.searched("0" * 64) is None


def test_the_smallest_error_on_tuning_material_ships(
    page: ModuleType, init: Path, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(page, monkeypatch, corpus)
    right, wrong = ["get me a small latte"] * 3, ["latte"] * 3

    def say(file: Path, spoken: Any, beam: int) -> tuple[list[str], int]:
        bits = read_edge(file).tensors["joiner.weight"]
        return (wrong if isinstance(bits, Codes) and bits.bits == 4 else right), 1

    monkeypatch.setattr(page, "say", say)
    config["ships"]["commands"] = {"corpus": corpus, "grammar": "coffee"}
    found = list(page.ships(config, 0))
    rows = {row["claim"]: row for row in found}
    assert rows["compression.ships"]["chosen"] == "a"
    assert set(rows["compression.ships"]["candidates"]) == {"fp32", "a", "b"}
    ties = {row["detail"].partition(":")[0]: row["measured"] for row in found if row["claim"].endswith("tie")}
    assert ties == {"c, a against fp32": 0, "c, a against b": pytest.approx(-0.8)}
    assert rows["compression.bytes"]["measured"] < 200_000
    monkeypatch.setattr(page, "shipped_models", lambda: tmp_path / "shipped")
    assert page.publish_model().startswith("a: ")
    assert (tmp_path / "shipped" / "edge-packed" / "model.edge").is_file()
    config["ships"]["largest_bytes"] = 10
    first, *others = list(page.ships(config, 0))
    assert "at most 10 bytes: what follows is of the one among the models" in first["skipped"]
    assert first["edge_sha256"] == sha256_file(tmp_path / "shipped" / "edge-packed" / "model.edge")
    compared = [row["detail"].partition(":")[0] for row in others if row["claim"].endswith("tie")]
    assert compared == ["c, as it ships against fp32", "c, as it ships against b"]
    monkeypatch.setattr(page, "shipped_models", lambda: tmp_path / "none")
    with pytest.raises(EdgeSpeechError, match="10 bytes, and none is among the models"):
        list(page.ships(config, 0))
    with pytest.raises(EdgeSpeechError, match="at most 10 bytes"):
        page.publish_model()


def test_what_ships_is_made_of_the_recogniser_s_model(
    page: ModuleType, init: Path, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arms start from a model of their own; the chosen one is made anew of the one that ships."""
    settings(page, monkeypatch, corpus)
    monkeypatch.setattr(page, "say", lambda file, spoken, beam: (["latte"] * 3, 1))
    monkeypatch.setattr(page, "shipped_models", lambda: tmp_path / "shipped")
    better = tiny()
    with torch.no_grad():
        better.model.joiner.bias.add_(1)
    save_model(tmp_path / "better", better.model, better.tokeniser, better.provenance)
    monkeypatch.setattr(page, "start_model", lambda: tmp_path / "better")
    assert page.publish_model().startswith("b: ")  # as many errors as the others, in the fewest bytes
    shipped = tmp_path / "shipped" / "edge-packed" / "model.edge"
    pack(load_model(tmp_path / "better"), Layout(matrices=Encoding(bits=4)), tmp_path / "expected.edge")
    found, wanted = (read_edge(file).tensors["joiner.bias"] for file in (shipped, tmp_path / "expected.edge"))
    np.testing.assert_array_equal(found, wanted)
    row = next(page.ships(page.settings(), 0))
    assert row["root_sha256"] == sha256_file(tmp_path / "better" / WEIGHTS)
    assert row["edge_sha256"] == sha256_file(shipped)


def test_orders_are_counted(page: ModuleType, corpus: str, tmp_path: Path) -> None:
    bench = Bench({corpus: "basic"}, tmp_path, 0)
    right, wrong = ["get me a small latte"] * 3, ["get me a large latte"] * 3
    asked = {"corpus": corpus, "grammar": "coffee"}
    row = page.commands(asked, "a", [wrong, right], bench)
    assert "0.0 % accepted against 100.0 %" in row["detail"]
    assert row["measured"] == 1
    assert page.commands(asked, "a", [right, right], bench)["measured"] == 0
    assert "skipped" in page.commands({**asked, "corpus": "nowhere"}, "a", [right, right], bench)


def test_the_cloud_model_is_the_published_one(page: ModuleType) -> None:
    (row,) = page.cloud(CONFIG["ships"]["cloud"], 2_000_000)
    assert 0 < row["measured"] < 0.01
    assert "skipped" in next(page.cloud("nobody", 1))


def test_the_page_is_that_of_its_record() -> None:
    check_blocks(load_replication("compression"))


def test_arms_are_shown(page: ModuleType) -> None:
    rows = [arm_row("fp32", "fp32", None, 0.1), arm_row("stack_50_4", "stack_50", 4, 0.2)]
    record = {"config": {"control": "fp32", "beams": [16, 1], "fusion": True}, "rows": [{"arms": rows}]}
    assert "| stack_50_4 |" in page.PAGE.blocks["arms"](record)
    assert "<svg" in page.PAGE.plots(record)["pareto.svg"]


def test_a_recogniser_that_the_arms_start_from_is_not_compressed_anew(
    page: ModuleType, init: Path, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(page, monkeypatch, corpus)
    shutil.copytree(init, tmp_path / "recogniser")
    monkeypatch.setattr(page, "start_model", lambda: tmp_path / "recogniser")
    assert page.shipped_arms().init == page.the_arms().init
    other = tiny()
    with torch.no_grad():
        other.model.joiner.bias.add_(1)
    save_model(tmp_path / "recogniser", other.model, other.tokeniser, other.provenance)
    assert page.shipped_arms().init == tmp_path / "recogniser"

"""The checks of the end-pointers, on a tiny model, untrained networks and utterances of noise."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from replication.endpointing import shipped
from replication.endpointing import tables as report
from replication.endpointing.dual import dual_thresholds
from replication.endpointing.material import search_of

from edgespeech.audio.io import write_audio
from edgespeech.core import places
from edgespeech.core.files import sha256_file
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.corpora.manifest import Utterance, load_manifest, write_manifest
from edgespeech.endpointing.networks import load_networks, new_networks, save_networks
from edgespeech.endpointing.scorers import Bounds
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS, save_model
from edgespeech.records.claims import load_claims
from edgespeech.search.settings import SHIPPED
from helpers_packed import tiny
from helpers_replication import load_replication

HERE = project_root() / "replication" / "endpointing"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))
CLAIMS = {claim.id for claim in load_claims(HERE / "claim.yaml")}
ENERGY = {"speculative": "energy silence", "final": "energy silence"}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a tiny recogniser and networks for it."""
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model"))
    module = load_replication("endpointing")
    monkeypatch.setattr(places, "networks_file", lambda: tmp_path / "networks.safetensors")
    shape = trained.model.config
    sha256 = sha256_file(tmp_path / "model" / WEIGHTS)
    save_networks(
        tmp_path / "networks.safetensors", new_networks(shape.joiner, shape.vocabulary, 4, sha256, seed=0)
    )
    return module


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Utterances of a burst of noise between silences, and a corpus that is not there."""
    rng = np.random.default_rng(0)
    utterances = []
    for number in range(4):
        samples = 1e-3 * rng.standard_normal(28_800)
        samples[4_800 : 12_800 + 800 * number] += 0.2 * rng.standard_normal(8_000 + 800 * number)
        write_audio(tmp_path / f"{number}.flac", samples.astype(np.float32))
        utterances.append(
            Utterance(
                id=f"u{number}",
                audio_filepath=f"{number}.flac",
                duration=1.8,
                text="play some music",
                eos_s=0.8 + 0.05 * number,
                split="train",
            )
        )
    write_manifest(tmp_path / "c.jsonl", utterances)
    corpus = str(tmp_path / "c.jsonl")
    return {
        **CONFIG,
        "profile": "quick",
        "beam": 2,
        "search": {"beam": 2, "language_model": True},
        "cut_off_rate": 0.5,
        "silence_s": 1,
        "tuning": {"corpus": corpus},
        "sets": {"toy": {"corpus": corpus, "quick": 3}, "gone": {"corpus": "coffee_dev"}},
        "held": ["toy"],
        "shipped": "energy",
        "dual": {
            "confirmed": 0.0,
            "every": 1,
            "policies": {"energy": ENERGY},
        },
        "training": {
            "speech": [{"corpus": corpus, "utterances": 2}],
            "noises": None,
            "hesitation": {"tail_s": [1.6, 1.7]},
            "augment": {**CONFIG["training"]["augment"], "room_prob": 0.0, "noise_prob": 0.0},
            "gate": 0.5,
            "networks": {"hidden": 4, "epochs": 1},
        },
    }


def collected(check: Any, config: dict[str, Any]) -> list[dict[str, Any]]:
    return list(check(config, 0))


def test_every_scorer_is_measured_on_every_set(page: ModuleType, config: dict[str, Any]) -> None:
    rows = collected(page.curves, config)
    assert {row["claim"] for row in rows if "claim" in row} <= CLAIMS
    gone = [row for row in rows if row.get("part") == "gone"]
    assert ["skipped" in row for row in gone] == [True]
    scored = {row["scorer"]: row for row in rows if "curve" in row}
    assert {"decoder silence", "energy silence", "learned", "token", "arbitrated"} <= scored.keys()
    energy = scored["energy silence"]
    assert energy["n"] == 3
    assert 0 < energy["at"]["ep50_s"] < 0.4
    assert energy["at"]["cut_off_rate"] <= 0.5
    shown = report.points_table({"config": config, "rows": rows})
    assert "The recogniser searched: beam 2 (ships: 16)." in shown
    earlier = {"config": {key: value for key, value in config.items() if key != "search"}, "rows": rows}
    assert "searched: beam 2 (ships: 16), no language model." in report.points_table(earlier)
    assert search_of(CONFIG) == SHIPPED
    assert "| toy | energy silence | 3 |" in shown
    assert set(report.plots({"rows": rows})) == {"curves"}


def test_a_dual_policy_is_earlier_than_its_final_half(page: ModuleType, config: dict[str, Any]) -> None:
    rows = {row["claim"]: row for row in collected(page.dual, config)}
    assert rows.keys() <= CLAIMS
    found = rows["endpointing.dual_confirmed"]["dual"]
    assert found["upl_p50_s"] <= found["upl_p50_single_s"]
    assert rows["endpointing.dual_upl"]["measured"] == pytest.approx(
        found["upl_p50_single_s"] - found["upl_p50_s"]
    )
    assert rows["endpointing.dual_advance"]["low"] <= rows["endpointing.dual_advance"]["measured"]
    assert "energy" in report.dual_table({"rows": list(rows.values())})
    assert set(report.plots({"rows": list(rows.values())})) == {"dual"}


def test_where_nobody_speaks_words_and_ends_are_counted(page: ModuleType, config: dict[str, Any]) -> None:
    rows = collected(page.nothing_said, config)
    invented = [row for row in rows if row["claim"] == "endpointing.invented"]
    assert [row.get("detail") for row in invented if "skipped" in row] == ["noise_household", "noise_kitchen"]
    assert [row["n"] for row in invented if "measured" in row] == [3]
    assert [row["measured"] for row in rows if row.get("detail", "").startswith("energy")]


def test_costs_have_their_bars(page: ModuleType, config: dict[str, Any]) -> None:
    rows = collected(page.cost, config)
    assert rows[-1]["claim"] == "endpointing.bytes" or "skipped" in rows[-1]
    measured = [row for row in rows if row["claim"] == "endpointing.compute"]
    assert measured
    assert all(row["low"] <= row["measured"] <= row["high"] for row in measured)
    assert {row["claim"] for row in rows} <= CLAIMS


def test_speculation_leaves_the_final_result_as_it_is(page: ModuleType, config: dict[str, Any]) -> None:
    for one in page.heard_set(config, "tuning"):
        for opening in (0.05, 0.3):
            alone = page.played(one, ("energy silence", 0.4), chunk_s=config["chunk_s"])
            dual = page.played(
                one, ("energy silence", 0.4), ("energy silence", opening), chunk_s=config["chunk_s"]
            )
            assert dual.text == alone.text


def test_networks_of_another_recogniser_are_refused(page: ModuleType, config: dict[str, Any]) -> None:
    save_networks(places.networks_file(), new_networks(66, 40, 4, "another", seed=0))
    rows = collected(page.curves, config)
    assert len(rows) == 3
    assert all("train the networks again" in row["skipped"] for row in rows[:2])
    with pytest.raises(EdgeSpeechError, match="train the networks again"):
        collected(page.dual, config)


def test_what_ships_has_the_bounds_that_were_measured() -> None:
    assert Bounds.model_validate(CONFIG["bounds"]) == Bounds()


def test_networks_are_trained_for_the_recogniser(page: ModuleType, config: dict[str, Any]) -> None:
    places.networks_file().unlink()
    sha256 = page.recogniser()[1]
    networks = load_networks(shipped.train(config), sha256)
    assert networks.provenance["utterances"] == "2"
    final, speculative = (
        threshold for _, threshold in dual_thresholds(config, ENERGY, page.tuned_sweeps(config))
    )
    assert networks.thresholds == (final, speculative)
    assert networks.provenance["config_sha256"] == shipped.training_sha256(config)
    assert shipped.training_sha256({**config, "seed": 99}) != shipped.training_sha256(config)


def test_a_set_is_written_as_a_corpus(
    page: ModuleType, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr(page, "HERE", tmp_path / "here")
    page.main(["--write", "toy", str(tmp_path / "out")])
    assert len(load_manifest(tmp_path / "out" / "toy.jsonl").utterances) == 3
    with pytest.raises(EdgeSpeechError, match="set"):
        page.main(["--write", "none", str(tmp_path / "out")])


def test_evaluation_speech_is_never_learned_from(page: ModuleType, config: dict[str, Any]) -> None:
    config["training"]["speech"] = [{"corpus": "assistant_mini", "utterances": 2}]
    with pytest.raises(EdgeSpeechError, match="for evaluation only"):
        shipped.train(config)

"""The checks of lattices, on a tiny model and a corpus of noise."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from replication.lattices.lists import ARMS, LatticeCodec

from edgespeech.arms.peer_bench import Prepared, write_chunks
from edgespeech.audio.io import write_audio
from edgespeech.core.labels import BLANK
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.lattice.codec import Precision, Vocabulary, encode
from edgespeech.lattice.paths import Scales, n_best
from edgespeech.model.checkpoint import save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.records.claims import load_claims
from edgespeech.secondpass.folder import FOLDER_VARIABLE, LM
from edgespeech.secondpass.model import save_lm
from edgespeech.secondpass.tuning import save_scales
from helpers_lattice import random_lattice
from helpers_replication import load_replication
from secondpass.lm_helpers import tiny_lm

HERE = project_root() / "replication" / "lattices"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))
CLAIMS = {claim.id for claim in load_claims(HERE / "claim.yaml")}


@pytest.fixture(scope="module")
def lattices() -> ModuleType:
    return load_replication("lattices")


@pytest.fixture
def config(lattices: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's configuration with a tiny model, four utterances of noise, and less of everything."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16, context=2))
    with torch.no_grad():
        model.joiner.weight *= 10
        model.joiner.bias[BLANK] += 9
    tokeniser = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
    save_model(tmp_path / "model", model, tokeniser, {})
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model"))
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    lm = tiny_lm(width=64)
    save_lm(tmp_path / LM, lm.model, lm.tokeniser, {}, bits=8)
    save_scales(tmp_path / "scales.yaml", {arm.name: Scales(language=0.5) for arm in ARMS}, {})
    monkeypatch.setattr(lattices, "SCALES", tmp_path / "scales.yaml")
    noise = np.random.default_rng(0).standard_normal(24_000)
    write_audio(tmp_path / "c.flac", (0.1 * noise).astype(np.float32))
    items = [
        Utterance(
            id=f"u{n}",
            audio_filepath="c.flac",
            duration=0.3,
            offset=0.1 + 0.3 * n,
            text="play on",
            speaker=f"s{n}",
        )
        for n in range(4)
    ]
    write_manifest(tmp_path / "c.jsonl", items)
    return {
        **CONFIG,
        "profile": "quick",
        "corpora": [str(tmp_path / "c.jsonl"), "no_such_corpus"],
        "quick": {"utterances": None},
        "beams": [2, 3],
        "merges": [1, 2, None],
        "n_best": [1, 4],
        "ours": {"beam": 3, "merge": 2, "width": 6.0, "step_exponent": 2},
        "widths": [0, 6],
        "step_exponents": [0, 4],
        "lists": [1, 3],
        "scored": {"utterances": 2, "paths": 3},
        "second_pass": {"quick": 3, "pooled": ["c"]},
    }


def test_every_claim_is_measured_or_says_why_not(lattices: ModuleType, config: dict[str, Any]) -> None:
    rows = list(lattices.lattices(config, 0))
    measured = {row["claim"] for row in rows if "measured" in row}
    assert measured <= CLAIMS
    # A corpus without any gain of an oracle has no share of it that is kept.
    assert CLAIMS - measured <= {"lattices.evaluations", "lattices.gain"}
    assert {row["skipped"][:8] for row in rows if "skipped" in row} >= {"no model"}
    record = {"rows": rows}
    assert "unmerged" in lattices.PAGE.blocks["arms"](record)
    assert "n-best list of 3" in lattices.PAGE.blocks["bytes"](record)
    assert "16-best" in lattices.PAGE.blocks["second_pass"](record)
    assert "0.0625" in lattices.PAGE.blocks["rounding"](record)
    (arms,) = [row["arms"] for row in rows if "arms" in row]
    assert all(arm["oracle"] <= arm["best"] for arm in arms)  # the best path is one of the lattice's
    assert all("low" in row for row in rows if row.get("claim") in ("lattices.oracle", "lattices.no_loss"))


def test_the_list_of_as_many_bytes_is_the_longest(lattices: ModuleType) -> None:
    whole, words, precision = random_lattice(11, 8), Vocabulary(), Precision()
    paths = n_best(whole, 1000)
    kept = lattices.listed(whole, 5)
    budget = len(encode(kept, words, precision))
    found = lattices.same_bytes(
        whole, budget, LatticeCodec(width=0.0, vocabulary=words, precision=precision), 1000
    )
    assert len(encode(found, words, precision)) <= budget
    count = len(n_best(found, 1000))
    assert count >= 5
    assert count == len(paths) or len(encode(lattices.listed(whole, count + 1), words, precision)) > budget


def test_opus_is_whole_packets(lattices: ModuleType, tmp_path: Path) -> None:
    samples = np.zeros(16_000 + 1, np.float32)
    features = write_chunks(samples, tmp_path / "a.npz")
    item = Prepared(
        corpus="c",
        text="",
        speaker=None,
        file=tmp_path / "a.npz",
        features=features,
        duration_s=len(samples) / 16_000,
    )
    assert lattices.audio_bytes(item)["Opus"] == 51 * 60
    assert lattices.audio_bytes(item)["PCM"] == 2 * len(samples)


def test_the_vocabulary_is_of_words_that_may_be_trained_on(
    lattices: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Item:
        text = "play some music"

    class Manifest:
        utterances = (Item(), Item())

    def trainable(corpus: str) -> Manifest:
        asked.append(corpus)
        return Manifest()

    monkeypatch.setattr(lattices, "trainable", trainable)
    monkeypatch.setattr(lattices, "WORDS", tmp_path / "words.txt")
    lattices.write_words({"texts": ["a", "b"], "most": 2})
    assert asked == ["a", "b"]
    assert Vocabulary.load(tmp_path / "words.txt").words == ("music", "play")
    assert Vocabulary.load(HERE / "words.txt").words[0] == "a"

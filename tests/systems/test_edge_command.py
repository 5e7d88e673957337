"""The recogniser that is told its domain: the same model with another language model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.contracts import Request
from edgespeech.core.files import sha256_file
from edgespeech.core.labels import BLANK
from edgespeech.core.places import MODEL_VARIABLE
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import FUSION, Fusion, FusionWeights, save_fusion
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.systems import edge_command
from edgespeech.systems.edge_command import GRAMMAR_PENALTY, EdgeCommand
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.text.grammar import load_grammar


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that says something now and then, and a domain in which only one word is said."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16))
    with torch.no_grad():
        model.joiner.bias[BLANK] += 1
    tokeniser = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
    low = estimate([tokeniser.encode("turn on the light")], 40, 2, 0)
    high = estimate([tokeniser.encode("music")], 40, 4, 0)
    weights = FusionWeights(high=1.0, low=0.1, label=0.0)
    general = Fusion(low, low, weights)
    save_model(tmp_path / "edge-fp32", model, tokeniser, {"run": "trial"}, fusion=general)
    save_fusion(
        tmp_path / "domains" / "songs", Fusion(high, low, FusionWeights(high=3.0, low=0.1, label=3.0))
    )
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "edge-fp32"))
    monkeypatch.setattr(edge_command, "shipped_models", lambda: tmp_path)
    (tmp_path / "songs.yaml").write_text(
        "about: One word.\nintents: {sing: {rule: sing}}\nrules: {sing: [music]}\n"
    )
    monkeypatch.setattr(edge_command, "load_grammar", lambda name: load_grammar(tmp_path / f"{name}.yaml"))
    return tmp_path


def said(recogniser: EdgeFp32 | EdgeCommand) -> str:
    info = recogniser.load()
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    trace = run_utterance(recogniser, samples, Request(utterance_id="x"), chunk_s=info.chunk_s)
    assert trace.failure is None
    return trace.events[-1][1].text


def test_it_is_the_same_model_with_the_domain_s_language_model(models: Path) -> None:
    assert isinstance(find_recogniser("edge-command"), EdgeCommand)
    recogniser = EdgeCommand(domain="songs")
    assert recogniser.missing() is None
    info = recogniser.load()
    files = {name: models / "edge-fp32" / name for name in (WEIGHTS, TOKENS)}
    files[FUSION] = models / "domains" / "songs" / FUSION
    assert info.model_sha256 == {name: sha256_file(file) for name, file in files.items()}
    assert info.model_bytes == sum(file.stat().st_size for file in files.values())
    assert any("songs" in note for note in info.notes)
    grammar = load_grammar(models / "songs.yaml")
    assert info.config["grammar"] == {
        "name": "songs",
        "sha256": grammar.sha256,
        "grammar_penalty": GRAMMAR_PENALTY,
    }


def test_the_domain_biases_the_transcript(models: Path) -> None:
    assert "music" in said(EdgeCommand(domain="songs"))
    assert "music" not in said(EdgeFp32())


def test_its_grammar_leads_the_search(models: Path) -> None:
    grammar = models / "songs.yaml"
    grammar.write_text(grammar.read_text().replace("music", "light"))
    free, led = (said(EdgeCommand(domain="songs", grammar_penalty=cost)) for cost in (0.0, 100.0))
    assert "music" in free
    assert "music" not in led  # however much the language model likes it


def test_a_domain_without_a_grammar_or_a_language_model_is_no_domain(models: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="edge-command: no language model of the domain tales"):
        EdgeCommand(domain="tales").load()
    (models / "songs.yaml").unlink()
    with pytest.raises(EdgeSpeechError, match=r"songs\.yaml"):
        EdgeCommand(domain="songs").load()


@pytest.mark.parametrize("cost", [-1.0, float("nan"), "4"])
def test_a_grammar_penalty_is_not_below_zero(cost: float) -> None:
    with pytest.raises(EdgeSpeechError, match="grammar_penalty"):
        EdgeCommand(grammar_penalty=cost)


def test_an_unknown_domain_is_reported(models: Path) -> None:
    reason = EdgeCommand(domain="weather").missing()
    assert reason == "no language model of the domain weather, expected one of songs"
    with pytest.raises(EdgeSpeechError, match=r"domain is '\.\./x', expected a name"):
        EdgeCommand(domain="../x")

"""What ships of the on-device model: a run, or the mean of several, in half precision and packed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from replication.rnnt import shipping as shipping_module

from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import FUSION
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import Layout, pack
from helpers_rnnt import PROVENANCE, save_tiny


@pytest.fixture
def shipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What ships goes into a temporary folder, with a language model of a few sentences."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(shipping_module, "shipped_models", lambda: tmp_path / "models")
    config = {
        "seed": 1, "text": [{"grammar": "volume", "sentences": 30}], "held_out": [],
        "high": {"order": 3, "prune": 0}, "low": {"order": 2, "prune": 0},
        "weights": {"high": 0.5, "low": 0.25, "label": 0.5},
    }  # fmt: skip
    (tmp_path / "fusion.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(shipping_module, "FUSION_CONFIG", tmp_path / "fusion.yaml")
    return shipping_module


def test_the_mean_of_two_runs_ships(shipping: ModuleType, tmp_path: Path) -> None:
    runs = tmp_path / "work" / "runs"
    one = load_model(save_tiny(runs / "one" / "model", PROVENANCE, half=False))
    two = {name: values + 0.5 for name, values in one.model.state_dict().items()}
    one.model.load_state_dict(two)
    save_model(runs / "two" / "model", one.model, one.tokeniser, {**PROVENANCE, "run": "two"})
    shipped = load_model(shipping.publish_model({"one": 0.2, "two": 0.8}))
    assert shipped.provenance == {**PROVENANCE, "run": "two", "mean_of": "one 0.2, two 0.8"}
    first = load_model(runs / "one" / "model").model.state_dict()
    for name, values in shipped.model.state_dict().items():
        if not name.startswith("ctc."):
            assert torch.allclose(values, first[name] + 0.4, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("shares", [{"one": 0.5}, {"one": 1.5, "two": -0.5}, {"one": 0.5, "two": 0.4}])
def test_shares_that_make_no_mean_are_refused(
    shipping: ModuleType, tmp_path: Path, shares: dict[str, float]
) -> None:
    for name in ("one", "two"):
        save_tiny(tmp_path / "work" / "runs" / name / "model", PROVENANCE)
    with pytest.raises(EdgeSpeechError, match="shares"):
        shipping.publish_model(shares)
    assert not (tmp_path / "models").exists()


def test_runs_of_other_shapes_have_no_mean(shipping: ModuleType, tmp_path: Path) -> None:
    runs = tmp_path / "work" / "runs"
    one = load_model(save_tiny(runs / "one" / "model", PROVENANCE))
    save_model(
        runs / "two" / "model",
        Transducer(ModelConfig(vocabulary=40, layers=2, hidden=16, joiner=16)), one.tokeniser, PROVENANCE,
    )  # fmt: skip
    with pytest.raises(EdgeSpeechError, match="one/model: shape"):
        shipping.publish_model({"one": 0.5, "two": 0.5})


def test_a_model_ships_in_half_precision_and_packed(
    shipping: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnnt = shipping
    run = save_tiny(tmp_path / "work" / "runs" / "r" / "model", PROVENANCE, half=False)
    shipped = rnnt.publish_model({"r": 1})
    assert shipped == tmp_path / "models" / "edge-fp32"
    assert load_model(shipped).provenance == PROVENANCE
    assert (shipped / WEIGHTS).stat().st_size < 0.7 * (run / WEIGHTS).stat().st_size
    rounded, exact = (load_model(folder).model.state_dict() for folder in (shipped, run))
    for name in rounded.keys() - {"ctc.weight", "ctc.bias"}:
        assert torch.equal(rounded[name], exact[name].half().float())
    assert (shipped / TOKENS).read_bytes() == (run / TOKENS).read_bytes()
    assert (shipped / FUSION).is_file()
    packed = tmp_path / "models" / "edge-packed" / "model.edge"
    pack(load_model(shipped), Layout(), tmp_path / "again.edge")
    assert packed.read_bytes() == (tmp_path / "again.edge").read_bytes()
    assert rnnt.publish_model({str(run.parent): 1}) == shipped
    monkeypatch.chdir(tmp_path)
    assert rnnt.publish_model({"work/runs/r/model": 1}) == shipped
    with pytest.raises(EdgeSpeechError, match="not a readable model"):
        rnnt.publish_model({"nothing": 1})

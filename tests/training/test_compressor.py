"""Compressors in a training run: their options, that they resume bit for bit, and that what is packed was trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgespeech.compressors.acosr import Acosr
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.transducer import Transducer
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import CODES, Encoding, Layout, load_codes, pack, weights_of
from edgespeech.training.compressor import Compressors, as_matrix, as_stored, compressors
from edgespeech.training.config import TrainConfig, load_train_config
from edgespeech.training.loop import MODEL, STATE, train
from helpers_packed import prune, tiny

Make = Callable[..., TrainConfig]
QUANTISERS = ["straight_through", "acosr", "mracos", "general_quantizer"]
SPARSIFIERS = ["one_shot", "gradual", "l1", "compressed_sensing"]
DELTAS = ["delta_hashed", "delta_low_rank", "delta_sparse"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def compressed(settings: Make, tmp_path: Path) -> Make:
    """Makes a run's configuration that starts from a model of one step, with a compressor."""
    train(settings(), tmp_path / "start", until=1, quiet=True)

    def make(compressor: dict[str, Any] | None, **changes: Any) -> TrainConfig:
        init = str(tmp_path / "start" / MODEL)
        return settings(**{"name": "next", "init": init, "compressor": compressor, **changes})

    return make


def trainable(seed: int = 0) -> Transducer:
    return tiny(seed=seed).model.requires_grad_(True)


def same(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_techniques_are_found() -> None:
    assert list(compressors()) == sorted([*QUANTISERS, *SPARSIFIERS, *DELTAS, "stack"])


@pytest.mark.parametrize(
    "compressor",
    [
        {"name": "straight_through", "bits": 3},
        {"name": "acosr", "bits": 4, "free": 0.3},
        {"name": "mracos", "bits": 3, "free": 0.2, "every": 3},
        {"name": "general_quantizer", "bits": 3},
        {"name": "gradual", "sparsity": 0.6, "until": 0.8, "every": 2},
        {"name": "compressed_sensing", "sparsity": 0.6, "every": 2, "balanced": True},
        {"name": "delta_low_rank", "budget": 0.1},
        {"name": "delta_sparse", "budget": 0.1, "free": 0.4},
    ],
)
def test_stopped_in_a_ramp_and_taken_up_again_is_bit_for_bit_the_same(
    compressed: Make, tmp_path: Path, compressor: dict[str, Any]
) -> None:
    config = compressed(compressor, save_every=100)
    train(config, tmp_path / "whole", quiet=True)
    for until in (3, None):
        train(config, tmp_path / "parts", until=until, quiet=True)
    assert same(tmp_path / "whole" / STATE, tmp_path / "parts" / STATE)
    assert same(tmp_path / "whole" / MODEL / WEIGHTS, tmp_path / "parts" / MODEL / WEIGHTS)


def test_a_compressor_that_does_nothing_changes_nothing(compressed: Make, tmp_path: Path) -> None:
    train(compressed(None), tmp_path / "plain", until=3, quiet=True)
    train(compressed({"name": "one_shot", "sparsity": 0.0}), tmp_path / "compressed", until=3, quiet=True)
    assert same(tmp_path / "plain" / MODEL / WEIGHTS, tmp_path / "compressed" / MODEL / WEIGHTS)
    state = load_file(tmp_path / "plain" / STATE)
    assert not any(name.startswith("treated") for name in state)
    found = load_file(tmp_path / "compressed" / STATE)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_sparse_run_then_a_quantised_one_under_its_zeros(compressed: Make, tmp_path: Path) -> None:
    sparsify = compressed({"name": "gradual", "sparsity": 0.6, "until": 0.5, "every": 2})
    train(sparsify, tmp_path / "sparse", quiet=True)
    sparse = weights_of(load_model(tmp_path / "sparse" / MODEL).model)
    assert not (tmp_path / "sparse" / MODEL / CODES).exists()
    assert float((sparse["joiner.weight"] == 0).mean()) == pytest.approx(0.6, abs=0.01)
    assert sparse["predictor.embedding.weight"].all()

    # From the run's folder: its average is not what it ships.
    stack = {"name": "stack", "quantiser": "acosr", "bits": 4, "layers": {"joiner.*": {"bits": 6}}}
    folder = train(compressed(stack, init=str(tmp_path / "sparse")), tmp_path / "stacked", quiet=True)
    trained, codes = load_model(folder), load_codes(folder)
    assert codes.keys() == {name for name, w in sparse.items() if w.ndim == 2}
    for name, its in codes.items():
        assert its.bits == (6 if name == "joiner.weight" else 4)
        weights = weights_of(trained.model)[name]
        assert not weights[sparse[name] == 0].any()

    pack(trained, Layout(matrices=Encoding(bits=8)), tmp_path / "m.edge", codes=codes)
    file = read_edge(tmp_path / "m.edge")
    for name, its in codes.items():
        packed = file.tensors[name]
        assert isinstance(packed, Codes)
        np.testing.assert_array_equal(packed.int8(), its.int8())
        np.testing.assert_array_equal(packed.scales, its.scales)
    told = json.loads(file.meta["provenance"]["layout"])
    assert told["trained"]["joiner.weight"] == {"bits": 6, "group": 0, "codebook": False, "store": "sparse"}
    assert json.loads(file.meta["provenance"]["compressor"]) == stack


@pytest.mark.parametrize("name", QUANTISERS)
def test_what_ships_is_what_its_codes_stand_for(tmp_path: Path, name: str) -> None:
    trained = tiny()
    model = trainable()
    prune(model, 0.5)
    made = Compressors({"name": "stack", "quantiser": name, "bits": 4}, model, 10)
    weights, codes = made.finish(model.state_dict())
    trained.model.load_state_dict(weights)
    pack(trained, Layout(), tmp_path / "m.edge", codes=codes)
    file = read_edge(tmp_path / "m.edge")
    for matrix, wanted in codes.items():
        packed = file.tensors[matrix]
        assert isinstance(packed, Codes)
        np.testing.assert_array_equal(packed.int8(), wanted.int8())
        assert packed.non_zeros <= 0.51 * packed.codes.size


def test_codes_of_other_weights_are_refused(tmp_path: Path) -> None:
    model = trainable()
    _, codes = Compressors({"name": "acosr", "bits": 4}, model, 10).finish(model.state_dict())
    with pytest.raises(EdgeSpeechError, match=r"codes: tensor is 'transcriber\.enter\.weight'"):
        pack(tiny(), Layout(), tmp_path / "m.edge", codes=codes)


def test_the_forward_pass_sees_other_weights_and_the_gradient_is_theirs() -> None:
    model = trainable()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = Compressors({"name": "straight_through", "bits": 3}, model, 10)
    deployed, _ = made.finish(before)
    made.enter(0, 0.1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, deployed[name]), name
        parameter.grad = torch.ones_like(parameter)
    made.leave()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is not None
        assert parameter.grad.mean() == 1 or name in made.names
        assert set(parameter.grad.flatten().tolist()) <= {0.0, 1.0}


def test_matrices_have_the_columns_of_the_packed_file() -> None:
    model = trainable()
    packed = weights_of(model)
    mix = model.predictor.get_parameter("mix.weight")
    np.testing.assert_array_equal(as_matrix(mix).detach().numpy(), packed["predictor.mix.weight"])
    assert torch.equal(as_stored(as_matrix(mix), mix), mix)


def test_layers_have_their_own_settings() -> None:
    layers: dict[str, Any] = {
        "transcriber.*": {"bits": 6},
        "*.weight_hh_l0": {"group": 64},
        "transcriber.lstms.1.*": {"bits": 3},
        "joiner.*": None,
    }
    made = Compressors({"name": "acosr", "bits": 5, "layers": layers}, trainable(), 10)
    options = {name.replace("/", "."): m.options for name, m in made.matrices.items()}
    found = {name: (o.bits, o.group) for name, o in options.items()}  # type: ignore[union-attr]  # Acosr's
    assert found["transcriber.enter.weight"] == (6, 0)
    assert found["transcriber.lstms.0.weight_hh_l0"] == (6, 64)
    assert found["transcriber.lstms.1.weight_hh_l0"] == (3, 64)
    assert found["predictor.embedding.weight"] == (5, 0)
    assert "joiner.weight" not in found


def test_sparsifiers_leave_the_embedding_alone_unless_it_is_named() -> None:
    values: dict[str, Any] = {"name": "one_shot", "sparsity": 0.5}
    assert "predictor.embedding.weight" not in Compressors(values, trainable(), 10).names
    named = {**values, "layers": {"predictor.embedding.weight": {"sparsity": 0.1}}}
    assert "predictor.embedding.weight" in Compressors(named, trainable(), 10).names


def test_a_run_without_a_compressor_keeps_its_hash(settings: Make) -> None:
    told = settings().model_dump(mode="json")
    assert told.pop("compressor") is None
    assert told.pop("rooms") is None
    assert told.pop("until") is None  # where a run ends early makes no other run of it
    told.pop("watch")  # neither does what is measured beside it
    assert not told.pop("patient_steps")
    told.pop("patient_s")
    assert not told.pop("fast_emit")
    assert told.pop("teacher") is None
    assert told.pop("biasing") is None
    assert told.pop("languages") is None
    assert told.pop("word_errors") is None
    assert told.pop("lead_ins") is None
    assert [source.pop("language") for source in told["speech"]] == [None]
    assert [source.pop("sounds_only") for source in told["speech"]] == [None]
    assert not any(source.pop("teacher_only") for source in told["speech"])
    assert settings().sha256 == hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    shipped = load_model(project_root() / "results" / "models" / "edge-fp32").provenance
    run = load_train_config(project_root() / "replication" / "rnnt" / "base_2.yaml")
    assert run.sha256 == shipped["config_sha256"]
    one, two = ({"name": "acosr", "bits": bits} for bits in (4, 5))
    hashes = {settings(init="x", compressor=t).sha256 for t in (None, one, two)}
    assert len(hashes) == 3


def test_the_earlier_name_of_a_compressor_is_read_and_its_hash_stays(settings: Make) -> None:
    new, old = (
        settings(init="x", **{name: {"name": "acosr", "bits": 4}}) for name in ("compressor", "treatment")
    )
    assert new == old
    told = new.model_dump(
        mode="json",
        exclude={
            *("until", "watch", "rooms", "patient_steps", "patient_s"),
            *("fast_emit", "teacher", "biasing", "languages", "word_errors", "lead_ins"),
        },
    )
    told["treatment"] = told.pop("compressor")
    for source in told["speech"]:
        del source["sounds_only"], source["teacher_only"], source["language"]
    assert new.sha256 == old.sha256 == hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("compressor", "said"),
    [
        ({"name": "acosr", "bits": 1}, "compressor acosr: bits is 1"),
        ({"name": "acosr", "bits": 9}, "compressor acosr: bits is 9"),
        ({"name": "mracos", "bits": 7}, "compressor mracos: bits is 7"),
        ({"name": "acosr"}, "compressor acosr: bits is missing"),
        ({"name": "acosr", "bits": 4, "group": 32}, "compressor acosr: group is 32"),
        ({"name": "acosr", "bits": 4, "warmth": 1}, "unknown key 'warmth'"),
        ({"name": "one_shot", "sparsity": 1.0}, "compressor one_shot: sparsity is 1.0"),
        ({"name": "gradual", "sparsity": -0.1}, "compressor gradual: sparsity is -0.1"),
        ({"name": "one_shot", "sparsity": 0.5, "layers": {"joiner.*": {"sparsity": 2}}}, "sparsity is 2"),
        ({"name": "one_shot", "sparsity": 0.5, "layers": {"joiner.*": 0.5}}, r"layers.joiner.\* is 0.5"),
        ({"name": "one_shot", "sparsity": 0.5, "layers": 3}, "layers is 3"),
        ({"name": "magic"}, "compressor: name is 'magic', expected one of acosr, compressed_sensing"),
        ({"name": "stack", "bits": 4}, "compressor stack: quantiser is None"),
        ({"name": "stack", "quantiser": "gradual"}, "compressor stack: quantiser is 'gradual'"),
    ],
)
def test_wrong_compressors_are_refused(settings: Make, compressor: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeSpeechError, match=said):
        settings(init="x", compressor=compressor)


def test_a_compressor_from_nothing_is_refused(settings: Make) -> None:
    with pytest.raises(ValueError, match="init: a compressor expects a trained model"):
        settings(compressor={"name": "acosr", "bits": 4})


def _zero(weights: torch.Tensor) -> None:
    weights.zero_()


def _constant_row(weights: torch.Tensor) -> None:
    weights[3] = 0.25


def _nan(weights: torch.Tensor) -> None:
    weights[1, 2] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_zero, r"joiner\.weight: matrix is 0.0, expected weights that are not all zero"),
        (_constant_row, r"joiner\.weight: row 3 is 0.25, expected weights that differ"),
        (_nan, r"joiner\.weight: weight is nan, expected finite weights"),
    ],
)
def test_a_matrix_that_cannot_be_compressed_is_refused(
    spoil: Callable[[torch.Tensor], None], said: str
) -> None:
    model = trainable()
    with torch.no_grad():
        spoil(model.joiner.weight)
    for values in ({"name": "acosr", "bits": 4}, {"name": "one_shot", "sparsity": 0.5}):
        with pytest.raises(EdgeSpeechError, match=said):
            Compressors(values, model, 10)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"name": "acosr", "bits": 4, "layers": {"encoder.*": None}},
            r"layers is 'encoder\.\*', expected a pat",
        ),
        ({"name": "acosr", "bits": 4, "layers": {"*": None}}, "leaves a matrix to compress"),
        ({"name": "stack", "quantiser": "acosr", "bits": 4}, "init is 'a model without zeros'"),
    ],
)
def test_a_compressor_that_does_not_fit_the_model_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeSpeechError, match=said):
        Compressors(values, trainable(), 10)


def test_a_regulariser_that_is_no_number_names_the_layer(
    compressed: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def broken(self: Acosr, weights: torch.Tensor, moment: object) -> torch.Tensor:
        calls.append(1)
        return weights * (torch.nan if len(calls) == 2 else 1)

    monkeypatch.setattr(Acosr, "after", broken)
    config = compressed({"name": "acosr", "bits": 4})
    with pytest.raises(
        EdgeSpeechError, match=r"compressor acosr: step 0: transcriber\.lstms\.0\.weight_ih_l0"
    ):
        train(config, tmp_path / "run", quiet=True)

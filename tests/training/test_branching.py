"""Training of two branches and their arbitrator."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_checkpoint import load_branching, save_branching
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.fast_branch import SparseLayer
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.steps.step import Resources
from edgespeech.steps.store import folder_of, make
from edgespeech.training import branching_loop
from edgespeech.training.branching_config import BranchTraining, branch_training
from edgespeech.training.branching_loop import LOG, MODEL, SPENT, STATE, train_branching
from edgespeech.training.branching_losses import below, gumbel, pick, waiting
from edgespeech.training.branching_step import at_cost, branch_step
from helpers_chords import WORDS, tiny_run

BRANCHING: dict[str, Any] = {
    "fast": "sparse", "sparsity": 0.5, "block_rows": 4, "arbitrator": 1, "arbitrator_share": 1.0,
}  # fmt: skip
Make = Callable[..., BranchTraining]


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """A model with random weights."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    texts = [f"{one} {other}" for one in WORDS for other in WORDS]
    config = ModelConfig(vocabulary=32, layers=1, hidden=48, joiner=16, context=2)
    model = Transducer(config)
    model.transcriber.set_statistics(torch.full((80,), -6.0), torch.full((80,), 4.0))
    save_model(tmp_path / "init", model, Tokeniser.train(texts, 32), {"run": "trial"})
    return tmp_path / "init"


@pytest.fixture
def settings(corpus: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes the settings of a run over the tiny corpus."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))

    def make_it(run: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        values = (
            tiny_run(corpus, steps=8, save_every=3)
            | {"batch_s": 3.0, "learning_rate": 0.003, "ctc": 0.0, "init": str(init)}
            | (run or {})
        )
        values["model"] = {**load_model(init).model.config.to_mapping(), "dropout": 0.1}
        return {"run": values, "branching": BRANCHING, "chooses": "arbitrator", **changes}

    return make_it


@pytest.fixture
def config(settings: Callable[..., Any]) -> Make:
    """Makes the configuration of such a run."""
    return lambda run=None, **changes: branch_training(settings(run, **changes), "run.yaml")


def spent(folder: Path) -> dict[str, float]:
    told: dict[str, float] = json.loads((folder / SPENT).read_text())
    return told


@pytest.mark.parametrize("chooses", ["both", "arbitrator", "slow", "fast", "random", "energy", "pivot"])
def test_every_way_of_choosing_trains_a_model(chooses: str, config: Make, init: Path, tmp_path: Path) -> None:
    share = {"slow_share": 0.25} if chooses in ("random", "energy") else {}
    made = config(chooses=chooses, cost_weight=0.1, **share)
    train_branching(made, tmp_path / "run", init, quiet=True, workers=0)
    read = load_branching(tmp_path / "run" / MODEL)
    assert read.provenance["step"] == "8"
    before = load_model(init).model.state_dict()["transcriber.lstms.0.weight_hh_l0"]
    after = read.model.transcriber.lstms[0].get_parameter("weight_hh_l0")
    moved = float((before - after).abs().max())
    assert (moved < 1e-3) == (chooses == "fast")  # the weight decay moves it a little
    told = spent(tmp_path / "run")
    if chooses in ("slow", "fast"):
        assert told["slow"] == float(chooses == "slow")
    if chooses == "energy":
        assert told["slow"] == pytest.approx(0.25, abs=0.03)


def test_a_weight_on_cost_makes_frames_fast(config: Make, init: Path, tmp_path: Path) -> None:
    run = {"steps": 30, "learning_rate": 0.01, "save_every": 30, "average": 0.8, "batch_s": 2.0}
    for weight in (0.0, 100.0):
        made = config(run, cost_weight=weight, floor_weight=0.0)
        train_branching(made, tmp_path / str(weight), init, quiet=True, workers=0)
    macs = load_branching(tmp_path / "0.0" / MODEL).model.transcriber.macs
    assert spent(tmp_path / "100.0")["slow"] < 0.02 < 0.05 < spent(tmp_path / "0.0")["slow"]
    least = (macs.all_fast + macs.arbitrator) / macs.all_slow
    assert spent(tmp_path / "100.0")["cost"] == pytest.approx(least, abs=0.02)


@pytest.mark.parametrize("changes", [{}, {"chooses": "both", "prune": 0.6}])
def test_stopped_and_taken_up_again_is_bit_for_bit_the_same(
    changes: dict[str, Any], config: Make, init: Path, tmp_path: Path
) -> None:
    made = config(**changes)
    train_branching(made, tmp_path / "whole", init, quiet=True, workers=0)
    for until in (3, 5, None):
        train_branching(made, tmp_path / "parts", init, quiet=True, workers=0, until=until)
        assert (tmp_path / "parts" / MODEL).exists() == (until is None)
    for file in (STATE, f"{MODEL}/{WEIGHTS}"):
        one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "parts" / file)
        assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())
    assert spent(tmp_path / "whole") == spent(tmp_path / "parts")


def test_zeros_grow_to_all_and_are_in_the_saved_model(config: Make, init: Path, tmp_path: Path) -> None:
    made = config(chooses="both", prune=0.5, run={"average": 0.9})
    train_branching(made, tmp_path / "run", init, quiet=True, workers=0, until=1)
    early = load_file(tmp_path / "run" / STATE)["model.transcriber.fast.0.weight_hh"]
    assert early.count_nonzero() == early.numel()
    train_branching(made, tmp_path / "run", init, quiet=True, workers=0)
    layer = load_branching(tmp_path / "run" / MODEL).model.transcriber.layers_of_fast[0]
    assert isinstance(layer, SparseLayer)
    assert layer.weight_hh.count_nonzero() == layer.weight_hh.numel() // 2


def test_another_run_does_not_take_up_the_state(config: Make, init: Path, tmp_path: Path) -> None:
    train_branching(config(), tmp_path / "run", init, quiet=True, workers=0, until=3)
    with pytest.raises(EdgeSpeechError, match="belongs to another config"):
        train_branching(config(cost_weight=0.5), tmp_path / "run", init, quiet=True, workers=0)


def test_a_run_goes_on_from_one_with_the_same_branches_only(config: Make, init: Path, tmp_path: Path) -> None:
    train_branching(config(chooses="both"), tmp_path / "both", init, quiet=True, workers=0)
    train_branching(config(), tmp_path / "next", tmp_path / "both" / MODEL, quiet=True, workers=0, until=1)
    other = config(branching={**BRANCHING, "sparsity": 0.25})
    with pytest.raises(EdgeSpeechError, match=r"branching is .*, expected .*sparsity=0\.25"):
        train_branching(other, tmp_path / "other", tmp_path / "both" / MODEL, quiet=True, workers=0)


def test_a_loss_that_is_not_finite_stops_the_run(
    config: Make, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        branching_loop, "transducer_loss", lambda *a, **k: transducer_loss(*a, **k) * torch.nan
    )
    with pytest.raises(EdgeSpeechError, match="step 0: loss nan"):
        train_branching(config(), tmp_path / "run", init, quiet=True, workers=0)
    assert not (tmp_path / "run" / STATE).exists()


def test_hard_samples_are_0_or_1_with_the_gradient_of_the_soft_ones() -> None:
    logits = torch.linspace(-3, 3, 4000, requires_grad=True)
    torch.manual_seed(0)
    hard = gumbel(logits, 0.7, hard=True)
    torch.manual_seed(0)
    soft = gumbel(logits, 0.7, hard=False)
    assert ((hard - hard.round()).abs() < 1e-6).all()
    assert torch.equal(hard.round() == 1, soft > 0.5)
    (of_hard,) = torch.autograd.grad(hard.sum(), logits)
    (of_soft,) = torch.autograd.grad(soft.sum(), logits)
    torch.testing.assert_close(of_hard, of_soft)
    expected = logits.detach().sigmoid()
    assert float((hard.detach() - expected).mean().abs()) < 0.02
    cold, warm = (float((gumbel(logits.detach(), t, hard=False) - 0.5).abs().mean()) for t in (0.1, 3.0))
    assert cold > warm + 0.2


def test_usage_below_the_floor_of_either_branch_costs() -> None:
    assert float(below(torch.tensor([0.1, 0.5, 0.9]), 0.1)) == pytest.approx(0, abs=1e-12)
    assert float(below(torch.tensor([0.0]), 0.1)) == pytest.approx(0.01)
    assert float(below(torch.tensor([0.95]), 0.1)) == pytest.approx(0.0025)


def test_the_end_of_an_utterance_waits_for_the_backlog() -> None:
    cost = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    waits = waiting(cost, torch.tensor([4, 4]), 0.5, 1)
    assert waits.tolist() == [0.0, 2.0]
    assert waiting(cost, torch.tensor([2, 4]), 0.5, 1).tolist() == [2.0, 2.0]
    assert waiting(cost, torch.tensor([4, 4]), 0.5, 2).tolist() == [0.5, 1.5]


def test_the_backlog_punishes_slow_frames_at_the_end(config: Make, init: Path) -> None:
    model = branching_loop.starting(init, BranchingConfig.from_mapping(BRANCHING)).model.train()
    made = config(backlog_weight=1.0, device_rate=0.9, ramp=0.0, floor_weight=0.0)
    torch.manual_seed(0)
    features, lengths = torch.randn(4, 160, 80), torch.full((4,), 160)
    mix = torch.full((4, 40, 1), 0.5, requires_grad=True)
    cost = model.transcriber.macs.cost(mix)
    (grad,) = torch.autograd.grad(waiting(cost, lengths // 4, 0.7, 5).sum(), mix)
    assert float(grad[:, -5].mean()) > 0
    picked = pick(model, features, lengths, made, 7)
    plain = pick(model, features, lengths, config(floor_weight=0.0), 7)
    assert float(picked.penalty.detach()) > float(plain.penalty.detach()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_weight": -0.1}, "cost_weight is -0.1"),
        ({"chooses": "guess"}, "chooses is 'guess'"),
        ({"chooses": "random"}, "slow_share: None"),
        ({"slow_share": 0.5}, "slow_share: 0.5"),
        ({"slow_share": 1.5, "chooses": "random"}, "slow_share is 1.5"),
        ({"backlog_weight": 1.0}, "device_rate: None"),
        ({"device_rate": 0.0, "backlog_weight": 1.0}, "device_rate is 0"),
        ({"temperature": [1.0, 0.0]}, "temperature"),
        ({"prune": 0.5, "branching": {**BRANCHING, "fast": "narrow", "units": 8}}, "a sparse branch"),
        ({"branching": {"fast": "quick"}}, "fast is 'quick'"),
        ({"run": {"ctc": 0.3}}, "ctc"),
        ({"run": {"sounds": {"layer": 1}}}, "run.sounds"),
        ({"floors": 1}, "floors"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str, config: Make) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        config(**changes)


def test_a_step_trains_and_its_control_costs_as_much(
    settings: Callable[..., Any], init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_PIPELINE", str(tmp_path / "pipeline"))
    both = branch_step("tiny/both", settings(chooses="both"), init, resources=Resources())
    arm = branch_step("tiny/arm", settings(), both)
    static = settings(chooses="fast", branching={**BRANCHING, "block_rows": 1})
    controls = {
        "static": branch_step("tiny/static", static, init, as_costly_as=arm),
        "random": branch_step("tiny/random", settings(chooses="random"), both, as_costly_as=arm),
    }
    for step in controls.values():
        make(step)
    wanted = spent(folder_of(arm))["cost"]
    model = load_branching(folder_of(controls["static"]) / MODEL).model
    macs = model.transcriber.macs
    assert macs.all_fast / macs.all_slow == pytest.approx(wanted, abs=0.02)
    keys = {branch_step("x", settings(cost_weight=weight), both).key for weight in (0.0, 0.1)}
    assert len(keys) == 2


def test_a_share_of_slow_frames_at_a_cost(settings: Callable[..., Any], init: Path, tmp_path: Path) -> None:
    start = branching_loop.starting(init, BranchingConfig.from_mapping(BRANCHING))
    save_branching(tmp_path / "b", start.model, start.tokeniser, {})
    macs = start.model.transcriber.macs
    middle = (macs.all_slow + macs.all_fast) / 2 / macs.all_slow
    assert at_cost(settings(chooses="random"), middle, tmp_path / "b")["slow_share"] == pytest.approx(0.5)
    assert at_cost(settings(chooses="random"), 2.0, tmp_path / "b")["slow_share"] == 1.0
    narrow = replace(BranchingConfig.from_mapping(BRANCHING), sparsity=0.0)
    assert BranchingConfig.from_mapping(narrow.to_mapping()) == narrow


def test_a_low_rank_of_a_cost(settings: Callable[..., Any], init: Path) -> None:
    asked = settings(chooses="fast", branching={**BRANCHING, "fast": "factorised", "rank": 3})
    ranks = {}
    for cost in (0.5, 0.9):
        found = BranchingConfig.from_mapping(at_cost(asked, cost, init)["branching"])
        macs = branching_loop.starting(init, found).model.transcriber.macs
        assert macs.all_fast / macs.all_slow == pytest.approx(cost, abs=0.03)
        ranks[cost] = found.rank
    assert ranks[0.5] < ranks[0.9]


def test_a_log_has_what_frames_cost(config: Make, init: Path, tmp_path: Path) -> None:
    train_branching(config(), tmp_path / "run", init, workers=0)
    line = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    assert 0 < line["cost"] < 3
    assert 0 <= line["slow"] <= 1

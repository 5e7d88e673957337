"""Two branches over one state, and the arbitrator between them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching import BranchingTransducer, branched
from edgespeech.model.branching_checkpoint import load_branching, save_branching
from edgespeech.model.branching_config import BranchingConfig, FastKind
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.fast_branch import BLOCK_COLUMNS, SparseLayer, lstm_matrices
from edgespeech.model.mixed_lstm import mixed_lstm
from helpers_branching import KINDS, always, branching_config, tiny_branching
from helpers_packed import features, tiny

FRAMES = 22


def heard(frames: int = FRAMES, seed: int = 0) -> Tensor:
    return torch.from_numpy(features(4 * frames, seed))[None]


def transcribed(model: BranchingTransducer, feats: Tensor, mix: Tensor | None = None) -> Tensor:
    return model.transcribe(feats, torch.tensor([feats.shape[1]] * len(feats)), None, mix)[0]


@pytest.mark.parametrize("narrow", [2, 3])
def test_the_gradients_of_a_mixed_layer_are_those_of_finite_differences(narrow: int) -> None:
    torch.manual_seed(0)
    shapes = (2, 3, 12), (2, 3, 4 * narrow), (12, 3), (4 * narrow, narrow)
    inputs = [torch.randn(*shape, dtype=torch.float64) for shape in shapes]
    inputs += [torch.rand(2, 3, dtype=torch.float64), *torch.randn(2, 2, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(mixed_lstm, [one.requires_grad_() for one in inputs])


@pytest.mark.parametrize("fast", KINDS)
def test_all_slow_is_the_plain_transducer(fast: FastKind) -> None:
    trained = tiny_branching(fast)
    plain = tiny().model
    alone = transcribed(trained.model, heard(), torch.ones(1, FRAMES, 1))
    torch.testing.assert_close(alone, plain.transcribe(heard(), torch.tensor([4 * FRAMES]))[0])
    other = transcribed(trained.model, heard(), torch.zeros(1, FRAMES, 1))
    assert (alone - other).abs().max() > 0.01


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("fast", KINDS)
def test_frame_by_frame_with_one_branch_equals_all_at_once(fast: FastKind, per_layer: bool) -> None:
    transcriber = tiny_branching(fast, per_layer=per_layer).model.transcriber
    feats = heard()
    whole, _, last = transcriber(feats, torch.tensor([4 * FRAMES]))
    logits = transcriber.decide(feats)
    state = transcriber.start()
    for t in range(FRAMES):
        encoded, chosen, state = transcriber.step(feats[0, 4 * t : 4 * t + 4], state)
        assert torch.equal(chosen, logits[0, t] > 0)
        torch.testing.assert_close(encoded, whole[0, t])
    for own, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(own, wanted)
    slow = (logits > 0).float().mean()
    assert 0.1 < slow < 0.9, "the test needs both branches"


@pytest.mark.parametrize("fast", KINDS)
def test_the_pieces_of_a_stream_do_not_matter(fast: FastKind) -> None:
    model = tiny_branching(fast).model
    whole = transcribed(model, heard())
    state, pieces = None, []
    for piece in (heard()[:, a:b] for a, b in ((0, 4), (4, 16), (16, 4 * FRAMES))):
        encoded, _, state = model.transcribe(piece, torch.tensor([piece.shape[1]]), state)
        pieces.append(encoded)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)


def test_the_arbitrator_sees_the_past_alone() -> None:
    transcriber = tiny_branching().model.transcriber
    one, other = heard(), heard()
    other[0, 4 * 10 :] += 1.0
    before, after = transcriber.decide(one), transcriber.decide(other)
    assert torch.equal(before[0, :10], after[0, :10])
    assert not torch.equal(before[0, 10:], after[0, 10:])


def test_a_narrow_branch_leaves_the_rest_of_the_state_as_it_was() -> None:
    transcriber = always(tiny_branching("narrow"), slow=False).model.transcriber
    _, _, state = tiny_branching("narrow").model.transcribe(heard(), torch.tensor([4 * FRAMES]))
    _, _, after = transcriber.step(heard()[0, :4], state)
    assert torch.equal(after.hidden[..., 30:], state.hidden[..., 30:])
    assert torch.equal(after.cell[..., 30:], state.cell[..., 30:])
    assert not torch.equal(after.hidden[..., :30], state.hidden[..., :30])


@pytest.mark.parametrize("slow", [True, False])
def test_an_arbitrator_that_never_switches_works(slow: bool) -> None:
    model = always(tiny_branching(), slow=slow).model
    mix = torch.full((1, FRAMES, 1), float(slow))
    assert torch.equal(transcribed(model, heard()), transcribed(model, heard(), mix))


def test_a_sparse_branch_has_whole_blocks_of_zeros_which_stay() -> None:
    trained = tiny_branching("sparse", hidden=128)
    layer = trained.model.transcriber.layers_of_fast[0]
    assert isinstance(layer, SparseLayer)
    weights = layer.weight_hh.detach()
    blocks = weights.view(32, 16, 2, BLOCK_COLUMNS).ne(0)
    used = blocks.any(dim=3).any(dim=1)
    assert torch.equal(used, blocks.all(dim=3).all(dim=1))
    assert used.float().mean() == 0.5
    assert layer.macs == int(weights.count_nonzero() + layer.weight_ih.count_nonzero())

    model = BranchingTransducer(trained.model.config, trained.model.branching)
    model.load_state_dict(trained.model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), 0.1)
    torch.autograd.backward(transcribed(model.train(), heard(), torch.zeros(1, FRAMES, 1)).square().sum())
    optimiser.step()
    own = model.transcriber.layers_of_fast[0]
    assert isinstance(own, SparseLayer)
    assert torch.equal(own.weight_hh.ne(0), weights.ne(0))
    assert not torch.equal(own.weight_hh, weights)


def test_a_factorised_branch_starts_from_the_nearest_matrices() -> None:
    plain = tiny().model
    full = branched(plain, replace(branching_config("factorised"), rank=140))
    of_input, of_state, bias = full.transcriber.layers_of_fast[1].matrices()
    lstm = plain.transcriber.lstms[1]
    for own, theirs in zip((of_input, of_state, bias), lstm_matrices(lstm), strict=True):
        torch.testing.assert_close(own, theirs)


def test_the_cost_of_a_frame_is_that_of_its_branches_and_the_arbitrator() -> None:
    macs = tiny_branching("narrow").model.transcriber.macs
    assert macs.arbitrator == 12 * (320 + 3) + 3
    assert macs.slow == (4 * 70 * 140,) * 2
    assert macs.fast == (4 * 30 * 60,) * 2
    assert macs.shared == 320 * 70 + 70 * 66
    costs = macs.cost(torch.tensor([[1.0], [0.0], [0.5]]))
    wanted = [macs.all_slow + macs.arbitrator, macs.all_fast + macs.arbitrator]
    torch.testing.assert_close(costs[:2], torch.tensor(wanted) / macs.all_slow)
    torch.testing.assert_close(costs[2], costs[:2].mean())
    layers = macs.cost(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(layers, costs[2])


@pytest.mark.parametrize("fast", KINDS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_branch_throughout_is_as_one_of_two(fast: FastKind, share: float) -> None:
    model = tiny_branching(fast).model
    mix = torch.full((1, FRAMES, 1), share)
    alone = transcribed(model, heard(), mix)
    torch.testing.assert_close(transcribed(model, heard(), mix.clone().requires_grad_()), alone)


@pytest.mark.parametrize("fast", KINDS)
def test_there_and_back(fast: FastKind, tmp_path: Path) -> None:
    trained = tiny_branching(fast)
    save_branching(tmp_path / "m", trained.model, trained.tokeniser, trained.provenance)
    read = load_branching(tmp_path / "m")
    assert read.model.branching == trained.model.branching
    assert read.provenance == trained.provenance
    assert torch.equal(transcribed(read.model, heard()), transcribed(trained.model, heard()))
    assert read.model.transcriber.macs == trained.model.transcriber.macs
    with pytest.raises(EdgeSpeechError, match="format"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fast": "slow"}, "fast is 'slow'"),
        ({"fast": "sparse", "sparsity": 1.0}, "sparsity is 1.0"),
        ({"fast": "factorised", "rank": 0}, "rank is 0"),
        ({"fast": "narrow", "arbitrator": 0}, "arbitrator is 0"),
        ({"fast": "narrow", "arbitrator_share": 0}, "arbitrator_share is 0"),
        ({"fast": "narrow", "per_layer": "yes"}, "per_layer is 'yes'"),
        ({"fast": "narrow", "width": 3}, "key is 'width'"),
        ({}, "fast is None"),
    ],
)
def test_a_wrong_configuration_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        BranchingConfig.from_mapping(values)


def test_a_branch_of_another_state_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"units is 71.*at most 70"):
        branched(tiny().model, replace(branching_config("narrow"), units=71))
    trained = tiny_branching("narrow")
    save_branching(tmp_path, trained.model, trained.tokeniser, {})
    save_branching(tmp_path / "wide", tiny_branching("narrow", hidden=64).model, trained.tokeniser, {})
    _replace_weights(tmp_path, "fast", load_file(tmp_path / "wide" / WEIGHTS), "lstms.0.weight_hh")
    with pytest.raises(EdgeSpeechError, match=r"tensor transcriber.lstms.0.weight_hh_l0 is \(256, 64\)"):
        load_branching(tmp_path)


def test_an_arbitrator_that_costs_too_much_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match=r"arbitrator is '3 \(3879 MACs\)'"):
        branched(tiny().model, replace(branching_config(), arbitrator_share=0.02))


@pytest.mark.parametrize("part", ["fast", "lstms", "arbitrator"])
def test_a_file_without_a_branch_is_refused(part: str, tmp_path: Path) -> None:
    trained = tiny_branching()
    save_branching(tmp_path, trained.model, trained.tokeniser, {})
    _replace_weights(tmp_path, f"transcriber.{part}.", {}, "")
    with pytest.raises(EdgeSpeechError, match=f"tensor transcriber.{part}.* is None"):
        load_branching(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    trained = tiny_branching()
    save_branching(tmp_path, trained.model, trained.tokeniser, {})
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:-100])
    with pytest.raises(EdgeSpeechError, match="not a readable model"):
        load_branching(tmp_path)


def _replace_weights(folder: Path, dropped: str, others: dict[str, Tensor], taken: str) -> None:
    """Rewrite a model's file without some tensors, or with some of another file, and with its own header."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(folder / WEIGHTS)
    if taken:
        tensors |= {name: t for name, t in others.items() if taken in name}
    else:
        tensors = {name: t for name, t in tensors.items() if not name.startswith(dropped)}
    save_file(tensors, folder / WEIGHTS, about)

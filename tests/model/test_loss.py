"""The transducer loss against plain loops, finite differences, autograd, enumeration, and its promise on memory."""

from __future__ import annotations

import itertools
import math
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.loss import transducer_loss
from edgespeech.model.reference import transducer_loss_reference


class Case(NamedTuple):
    """The arguments of `transducer_loss`, in order."""

    encoded: Tensor
    predicted: Tensor
    weight: Tensor
    bias: Tensor
    labels: Tensor
    frame_lengths: Tensor
    label_lengths: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self[:4]

    def logits(self, index: int) -> Tensor:
        """Of one utterance without its padding, `(T, U + 1, V)`."""
        frames, states = int(self.frame_lengths[index]), int(self.label_lengths[index]) + 1
        total = self.encoded[index, :frames, None] + self.predicted[index, None, :states]
        return torch.tanh(total) @ self.weight.t() + self.bias

    def spoken(self, index: int) -> list[int]:
        return self.labels[index, : self.label_lengths[index]].tolist()


def random_case(
    frames: list[int],
    labels: list[int],
    *,
    joiner: int = 5,
    vocabulary: int = 7,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    blank: int = 0,
) -> Case:
    """Utterances of those lengths; whatever lies in the padding must not matter, so it is absurd."""
    draw = torch.Generator().manual_seed(seed)
    count, long, wide = len(frames), max(frames) + 1, max(labels) + 1

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=draw, dtype=torch.float64) * scale
        return values.to(dtype).requires_grad_()

    encoded, predicted = normal(count, long, joiner), normal(count, wide + 1, joiner)
    words = torch.randint(0, vocabulary - 1, (count, wide), generator=draw)
    words += words >= blank
    with torch.no_grad():
        for index, (t, u) in enumerate(zip(frames, labels, strict=True)):
            encoded[index, t:] = math.nan
            predicted[index, u + 1 :] = math.nan
            words[index, u:] = -100
    weight, bias = normal(vocabulary, joiner, scale=2.0), normal(vocabulary)
    return Case(encoded, predicted, weight, bias, words, torch.tensor(frames), torch.tensor(labels))


def with_tensors(case: Case, *tensors: Tensor) -> Case:
    return case._replace(**dict(zip(Case._fields, tensors, strict=False)))


def reference(case: Case, blank: int = 0) -> list[float]:
    return [
        transducer_loss_reference(
            case.logits(index).detach().double().numpy(), case.spoken(index), blank=blank
        )[0]
        for index in range(len(case.labels))
    ]


def gradients(case: Case, losses: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(losses, case.tensors, scale)


SHAPES = [
    ([1], [0]),
    ([1], [1]),
    ([1], [4]),
    ([7], [0]),
    ([2], [5]),
    ([5, 1, 9, 3], [2, 0, 4, 6]),
    ([1, 1], [0, 0]),
    ([13, 12, 11], [3, 3, 0]),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("frames", "labels"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_equals_the_reference(
    frames: list[int], labels: list[int], seed: int, dtype: torch.dtype
) -> None:
    case = random_case(frames, labels, seed=seed, dtype=dtype)
    losses = transducer_loss(*case)
    assert losses.dtype == dtype
    np.testing.assert_allclose(
        losses.detach().numpy(), reference(case), rtol=1e-5 if dtype == torch.float32 else 1e-11
    )


@pytest.mark.parametrize(("frames", "labels"), SHAPES)
def test_gradients_equal_the_references(frames: list[int], labels: list[int]) -> None:
    case = random_case(frames, labels, seed=3)
    scale = torch.linspace(-1.0, 2.0, len(frames), dtype=torch.float64)
    found = gradients(case, transducer_loss(*case), scale)
    surrogate = torch.zeros((), dtype=torch.float64)
    for index in range(len(frames)):
        logits = case.logits(index)
        gradient = transducer_loss_reference(logits.detach().numpy(), case.spoken(index))[1]
        surrogate = surrogate + scale[index] * (logits * torch.from_numpy(gradient)).sum()
    for ours, theirs in zip(found, torch.autograd.grad(surrogate, case.tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def paths_loss(logits: Tensor, labels: list[int], blank: int = 0) -> Tensor:
    """By enumeration: every order of the T - 1 blanks before the last and the U labels."""
    frames, spoken = logits.shape[0], len(labels)
    logp = torch.log_softmax(logits, 2)
    paths = []
    for emissions in itertools.combinations(range(frames - 1 + spoken), spoken):
        t = u = 0
        score = torch.zeros((), dtype=logits.dtype)
        for step in range(frames - 1 + spoken):
            if step in emissions:
                score, u = score + logp[t, u, labels[u]], u + 1
            else:
                score, t = score + logp[t, u, blank], t + 1
        paths.append(score + logp[t, u, blank])
    return -torch.logsumexp(torch.stack(paths), 0)


@pytest.mark.parametrize("blank", [0, 3])
def test_loss_and_gradients_equal_an_enumeration_of_paths(blank: int) -> None:
    case = random_case([4, 2, 1, 5], [2, 3, 2, 0], seed=4, blank=blank)
    losses = transducer_loss(*case, blank=blank)
    expected = torch.stack([paths_loss(case.logits(n), case.spoken(n), blank) for n in range(4)])
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(torch.tensor(reference(case, blank), dtype=torch.float64), expected.detach())
    scale = torch.tensor([1.0, -0.5, 2.0, 0.0], dtype=torch.float64)
    for ours, theirs in zip(gradients(case, losses, scale), gradients(case, expected, scale), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def given_logits(logits: list[list[list[float]]], labels: list[int]) -> Case:
    """A case whose logits are those: the hidden value of frame t picks the row, for one state a one-hot.

    `encoded[t] + predicted[u]` is large at the place of `(t, u)` alone, where both of its halves agree.
    """
    frames, states, vocabulary = len(logits), len(logits[0]), len(logits[0][0])
    joiner, far = frames * states, 40.0
    cell = torch.arange(joiner)
    encoded = torch.where(cell // states == torch.arange(frames)[:, None], far, -far).double()
    predicted = torch.where(cell % states == torch.arange(states)[:, None], far, -far).double() - far
    # tanh(40), tanh(-40) or tanh(-120): 1 at the one place, -1 elsewhere.
    rows = torch.tensor(logits, dtype=torch.float64).view(joiner, vocabulary)
    weight = rows.t() / 2
    bias = weight.sum(1)
    return Case(
        encoded[None].requires_grad_(),
        predicted[None].requires_grad_(),
        weight.requires_grad_(),
        bias.requires_grad_(),
        torch.tensor([labels]),
        torch.tensor([frames]),
        torch.tensor([len(labels)]),
    )


def test_one_frame_one_label_by_hand() -> None:
    # p(label) = 1/4 before the label, p(blank) = 4/5 after it: 1/5.
    case = given_logits([[[math.log(3.0), 0.0], [math.log(4.0), 0.0]]], [1])
    assert transducer_loss(*case).item() == pytest.approx(math.log(5.0), rel=1e-12)


def test_two_frames_one_label_by_hand() -> None:
    # At (0, 0) label 1/4, blank 3/4; (0, 1) blank 4/5; (1, 0) label 1/2; (1, 1) blank 2/3.
    # Label first: 1/4 * 4/5 * 2/3 = 2/15. Blank first: 3/4 * 1/2 * 2/3 = 1/4. Together 23/60.
    logits = [
        [[math.log(3.0), 0.0], [math.log(4.0), 0.0]],
        [[0.0, 0.0], [math.log(2.0), 0.0]],
    ]
    case = given_logits(logits, [1])
    losses = transducer_loss(*case)
    assert losses.item() == pytest.approx(math.log(60 / 23), rel=1e-12)
    # The label is first in 8 of 23. The bias's gradient at the label is what is expected of labels less what is
    # seen, over the nodes passed: 1/4, then 1/5 or 1/2, then 1/3, less the one label.
    bias = torch.autograd.grad(losses, case.bias)[0]
    assert bias[1].item() == pytest.approx(1 / 4 + 8 / 23 / 5 + 15 / 23 / 2 + 1 / 3 - 1, rel=1e-12)
    assert bias[0].item() == pytest.approx(-bias[1].item(), rel=1e-12)


def test_all_label_sequences_together_are_certain() -> None:
    frames, longest = 2, 9
    case = random_case([frames], [longest], vocabulary=3, seed=5)
    with torch.no_grad():
        case.bias[0] += 2.0
    # The prediction may not depend on the labels here, so that one case serves all sequences.
    mass = 0.0
    for length in range(longest + 1):
        sequences = list(itertools.product([1, 2], repeat=length))
        size = len(sequences)
        losses = transducer_loss(
            case.encoded.expand(size, -1, -1),
            case.predicted[:, : length + 1].expand(size, -1, -1),
            case.weight,
            case.bias,
            torch.tensor(sequences, dtype=torch.int64).view(size, length),
            torch.full((size,), frames),
            torch.full((size,), length),
        )
        before, mass = mass, mass + float(torch.exp(-losses.detach()).sum())
        assert before < mass < 1.0 + 1e-12
    assert mass > 0.99


def test_gradcheck_over_all_four_inputs() -> None:
    case = random_case([4, 2], [1, 3], joiner=3, vocabulary=4, seed=6)
    clean = [tensor.detach().nan_to_num(0.5).requires_grad_() for tensor in case.tensors]
    assert torch.autograd.gradcheck(lambda *tensors: transducer_loss(*with_tensors(case, *tensors)), clean)


LONG = ([31, 17, 40, 1, 23], [6, 0, 9, 3, 9])


def cell_mib(case: Case, cells: int) -> float:
    return cells * 2 * sum(case.weight.shape) * case.encoded.element_size() / 2**20


@pytest.mark.parametrize("cells", [10, 11, 79, 80, 641, 5000])
def test_less_memory_changes_nothing(cells: int) -> None:
    case = random_case(*LONG, seed=7)
    scale = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    whole = transducer_loss(*case)
    parts = transducer_loss(*case, memory_mib=cell_mib(case, cells))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0.0)
    for ours, theirs in zip(gradients(case, parts, scale), gradients(case, whole, scale), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the largest tensor that any operation makes, and the most bytes that live tensors hold at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.largest = self.most = 0
        self._made: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [
            one for one in (result if isinstance(result, tuple | list) else [result]) if type(one) is Tensor
        ]
        self._made = [one for one in self._made if one() is not None] + [weakref.ref(one) for one in made]
        storages = [tensor.untyped_storage() for one in self._made if (tensor := one()) is not None]
        self.largest = max([self.largest, *(one.untyped_storage().nbytes() for one in made)])
        self.most = max(self.most, sum({one.data_ptr(): one.nbytes() for one in storages}.values()))
        return result


@pytest.mark.parametrize("memory_mib", [1.0, 2.0])
def test_the_memory_bound_holds(memory_mib: float) -> None:
    frames, labels, joiner, vocabulary = [30, 40, 50], [9, 12, 15], 192, 256
    case = random_case(frames, labels, joiner=joiner, vocabulary=vocabulary, dtype=torch.float32)
    with Watch() as watch:
        torch.autograd.backward(transducer_loss(*case).sum())
    whole, lattice = watch.most, len(frames) * 50 * 17 * 20 * 8
    gradients = 4 * 2 * sum(tensor.numel() for tensor in case.tensors)
    cells = sum(t * (u + 1) for t, u in zip(frames, labels, strict=True))
    assert whole > cells * (joiner + vocabulary) * 4 > 2.5 * 2**20  # without the bound, the test below fails
    with Watch() as watch:
        torch.autograd.backward(transducer_loss(*case, memory_mib=memory_mib).sum())
    assert watch.most < memory_mib * 2**20 + lattice + gradients < whole
    assert watch.largest < max(memory_mib * 2**20 / 8, lattice) < cells * joiner * 4


def test_what_is_stored_between_the_passes_fits_in_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespeech.model.loss._CPU_CELLS", 64)
    case = random_case([30, 40, 50], [9, 12, 15], joiner=48, vocabulary=64, dtype=torch.float32)
    kept = []
    for memory_mib in (0.1, 0.3, 0.6, 2.0):
        losses: Any = transducer_loss(*case, memory_mib=memory_mib)
        scores = losses.grad_fn.kept
        kept.append(sum(one is not None for one in scores) / len(scores))
        size = sum(tensor.nbytes for one in scores if one is not None for tensor in one)
        assert size <= memory_mib * 2**20 - losses.grad_fn.batch.cells * 2 * (48 + 64) * 4
    assert kept[0] < kept[1] < kept[2] < kept[3] == 1.0


def test_backward_twice_gives_the_same() -> None:
    case = random_case([5, 3], [2, 4], seed=8)
    losses: Any = transducer_loss(*case)
    node, losses = losses.grad_fn, losses.sum()
    first = torch.autograd.grad(losses, case.tensors, retain_graph=True)
    assert node.kept == [None]  # nothing large lives on with the loss
    for ours, again in zip(first, torch.autograd.grad(losses, case.tensors), strict=True):
        assert torch.equal(ours, again)


def test_nothing_is_stored_without_gradients() -> None:
    case = random_case([5, 3], [2, 4], seed=8)
    with torch.no_grad():
        assert transducer_loss(*case).grad_fn is None
    detached = with_tensors(case, *(tensor.detach() for tensor in case.tensors))
    assert not transducer_loss(*detached).requires_grad


def test_cells_that_no_path_passes_cost_no_accuracy() -> None:
    # A sharp alignment: most cells are left out of the second pass.
    case = random_case([60], [20], joiner=8, vocabulary=21, seed=9)
    with torch.no_grad():
        case.weight.mul_(10)
    logits = case.logits(0)
    loss, gradient = transducer_loss_reference(logits.detach().numpy(), case.spoken(0))
    assert (np.abs(gradient).max(2) < 1e-16).mean() > 0.05
    expected = torch.autograd.grad(logits, case.tensors, torch.from_numpy(gradient))
    losses = transducer_loss(*case)
    assert losses.item() == pytest.approx(loss, rel=1e-12)
    for ours, theirs in zip(torch.autograd.grad(losses, case.tensors), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_losses_near_the_reference(dtype: torch.dtype) -> None:
    case = random_case([20, 12], [6, 9], joiner=16, vocabulary=12, seed=10, dtype=dtype)
    losses = transducer_loss(*case)
    assert losses.dtype == torch.float32
    whole = with_tensors(case, *(tensor.detach().double().requires_grad_() for tensor in case.tensors))
    exact = transducer_loss(*whole)
    torch.testing.assert_close(losses.double(), exact, rtol=1e-2, atol=0.0)
    ones = torch.ones(2)
    for ours, theirs in zip(
        gradients(case, losses, ones), gradients(whole, exact, ones.double()), strict=True
    ):
        assert ours.dtype == dtype
        assert torch.linalg.norm(ours.double() - theirs) < 0.02 * torch.linalg.norm(theirs)


def test_autocast_outside_changes_nothing() -> None:
    case = random_case([9, 5], [3, 4], seed=11, dtype=torch.float32)
    plain = transducer_loss(*case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transducer_loss(*case), plain)


def test_types_may_differ_and_each_gradient_has_its_own() -> None:
    case = random_case([9, 5], [3, 4], seed=11, dtype=torch.float32)
    mixed = case._replace(encoded=case.encoded.detach().bfloat16().requires_grad_())
    losses = transducer_loss(*mixed)
    torch.testing.assert_close(losses, transducer_loss(*case), rtol=2e-2, atol=0.0)
    found = gradients(mixed, losses, torch.ones(2))
    assert [one.dtype for one in found] == [torch.bfloat16, torch.float32, torch.float32, torch.float32]


@pytest.mark.parametrize("which", ["encoded", "predicted"])
def test_a_nan_is_the_utterances_own_and_not_hidden(which: str) -> None:
    case = random_case([5, 4], [2, 3], seed=12)
    with torch.no_grad():
        getattr(case, which)[1, 1, 0] = math.nan
    losses = transducer_loss(*case)
    assert losses.isnan().tolist() == [False, True]
    encoded = torch.autograd.grad(losses.sum(), case.encoded)[0]
    assert encoded[0].isfinite().all()
    assert encoded[1, 1].isnan().all()


def test_a_label_of_probability_zero_costs_infinity() -> None:
    case = random_case([5, 4], [2, 3], seed=13)
    with torch.no_grad():
        case.labels[0, :2] = torch.tensor([1, 2])
        case.labels[1, :3] = torch.tensor([1, 6, 2])
        case.bias[6] = -math.inf
    losses = transducer_loss(*case)
    expected = transducer_loss_reference(case.logits(0).detach().numpy(), [1, 2])[0]
    assert losses.tolist() == [pytest.approx(expected, rel=1e-12), math.inf]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": torch.tensor([[1, 2], [1, 0]])}, r"labels\[1, 1\] is 0"),
        ({"labels": torch.tensor([[1, 7], [1, 1]])}, r"labels\[0, 1\] is 7"),
        ({"labels": torch.tensor([[-1, 2], [1, 1]])}, r"labels\[0, 0\] is -1"),
        ({"frame_lengths": torch.tensor([3, 0])}, r"frame_lengths\[1\] is 0, expected 1 to 4"),
        ({"frame_lengths": torch.tensor([5, 2])}, r"frame_lengths\[0\] is 5, expected 1 to 4"),
        ({"label_lengths": torch.tensor([3, 2])}, r"label_lengths\[0\] is 3, expected 0 to 2"),
        ({"label_lengths": torch.tensor([2, -1])}, r"label_lengths\[1\] is -1, expected 0 to 2"),
        ({"frame_lengths": torch.tensor([3])}, r"shape of frame_lengths is \(1,\), expected \(2,\)"),
        ({"predicted": torch.zeros(2, 2, 5)}, r"shape of predicted is \(2, 2, 5\), expected \(2, 3, 5\)"),
        ({"weight": torch.zeros(7, 4)}, r"shape of weight"),
        ({"bias": torch.zeros(6)}, r"shape of bias"),
        ({"encoded": torch.zeros(2, 5)}, r"expected \(B, T, J\), \(V, J\), \(B, U\)"),
        ({"blank": 7}, r"blank is 7, expected 0 to 6"),
        ({"memory_mib": 2.0**-14}, r"memory_mib is .* for one frame of utterance 0 with 2 labels"),
        ({"memory_mib": math.nan}, r"memory_mib is nan"),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "encoded": torch.zeros(2, 4, 5),
        "predicted": torch.zeros(2, 3, 5),
        "weight": torch.zeros(7, 5),
        "bias": torch.zeros(7),
        "labels": torch.tensor([[1, 2], [3, 4]]),
        "frame_lengths": torch.tensor([4, 2]),
        "label_lengths": torch.tensor([2, 2]),
    }
    assert transducer_loss(**arguments).isfinite().all()
    with pytest.raises(EdgeSpeechError, match=said):
        transducer_loss(**{**arguments, **change})


def test_an_empty_batch_is_refused() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(EdgeSpeechError, match="batch is 0"):
        transducer_loss(
            torch.zeros(0, 4, 5),
            torch.zeros(0, 3, 5),
            torch.zeros(7, 5),
            torch.zeros(7),
            none.view(0, 2),
            none,
            none,
        )

"""FastEmit: the gradient of the transducer loss against the paper's formula, over an enumeration of all paths."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.loss import transducer_loss
from edgespeech.model.reference import transducer_loss_reference

FRAMES, LABELS, JOINER, VOCABULARY = (4, 2, 1, 5), (2, 3, 2, 0), 5, 7


def tensors(seed: int = 0) -> list[Tensor]:
    """Of four utterances: `encoded`, `predicted`, `weight`, `bias`."""
    draw = torch.Generator().manual_seed(seed)
    shapes = ((4, max(FRAMES), JOINER), (4, max(LABELS) + 1, JOINER), (VOCABULARY, JOINER), (VOCABULARY,))
    return [torch.randn(*s, generator=draw, dtype=torch.float64).requires_grad_() for s in shapes]


def spoken(seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, (4, max(LABELS)), generator=torch.Generator().manual_seed(seed))


def losses(inputs: list[Tensor], **options: float) -> Tensor:
    encoded, predicted, weight, bias = inputs
    lengths = torch.tensor(FRAMES), torch.tensor(LABELS)
    return transducer_loss(encoded, predicted, weight, bias, spoken(), *lengths, **options)  # type: ignore[arg-type]  # floats


def log_probabilities(inputs: list[Tensor], index: int) -> Tensor:
    encoded, predicted, weight, bias = inputs
    frames, states = FRAMES[index], LABELS[index] + 1
    hidden = torch.tanh(encoded[index, :frames, None] + predicted[index, None, :states])
    return torch.log_softmax(hidden @ weight.t() + bias, 2)


def paths_loss(inputs: list[Tensor], index: int, fast_emit: float, at: list[Tensor]) -> Tensor:
    """-log of the sum over all paths, where the log-probability of a label counts 1 + lambda times where it moves away
    from its value `at`. Its derivative there is the paper's: that of the loss at a label times 1 + lambda, that at a
    blank as it is (section 3.2), and it is the loss itself in value.
    """
    logp, still = log_probabilities(inputs, index), log_probabilities(at, index).detach()
    labels, frames = spoken()[index, : LABELS[index]].tolist(), FRAMES[index]
    paths = []
    for emissions in itertools.combinations(range(frames - 1 + len(labels)), len(labels)):
        t = u = 0
        score = torch.zeros((), dtype=logp.dtype)
        for step in range(frames - 1 + len(labels)):
            if step in emissions:
                label = labels[u]
                score = score + (1 + fast_emit) * logp[t, u, label] - fast_emit * still[t, u, label]
                u += 1
            else:
                score, t = score + logp[t, u, 0], t + 1
        paths.append(score + logp[t, u, 0])
    return -torch.logsumexp(torch.stack(paths), 0)


@pytest.mark.parametrize("fast_emit", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("memory_mib", [64.0, 0.01])
def test_the_gradient_is_the_papers(fast_emit: float, memory_mib: float) -> None:
    inputs = tensors()
    scale = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    ours = losses(inputs, fast_emit=fast_emit, memory_mib=memory_mib)
    paper = torch.stack([paths_loss(inputs, n, fast_emit, inputs) for n in range(4)])
    torch.testing.assert_close(ours, paper, rtol=1e-12, atol=0.0)
    for one, two in zip(
        torch.autograd.grad(ours, inputs, scale), torch.autograd.grad(paper, inputs, scale), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    inputs, step, fast_emit = tensors(1), 1e-5, 0.7
    found = torch.autograd.grad(losses(inputs, fast_emit=fast_emit).sum(), inputs)
    random = np.random.default_rng(0)
    for place, gradient in enumerate(found):
        for flat in random.integers(0, gradient.numel(), 6).tolist():

            def moved(by: float, place: int = place, flat: int = flat) -> float:
                changed = [one.detach().clone() for one in inputs]
                changed[place].view(-1)[flat] += by
                return sum(float(paths_loss(changed, n, fast_emit, inputs)) for n in range(4))

            expected = (moved(step) - moved(-step)) / (2 * step)
            assert float(gradient.view(-1)[flat]) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("fast_emit", [0.0, 0.02, 1.0])
def test_the_reference_has_the_same_gradient(fast_emit: float) -> None:
    inputs = tensors(2)
    encoded, predicted, weight, bias = inputs
    ours = torch.autograd.grad(losses(inputs, fast_emit=fast_emit).sum(), inputs)
    surrogate = torch.zeros((), dtype=torch.float64)
    for n in range(4):
        hidden = torch.tanh(encoded[n, : FRAMES[n], None] + predicted[n, None, : LABELS[n] + 1])
        logits = hidden @ weight.t() + bias
        labels = spoken()[n, : LABELS[n]].tolist()
        gradient = transducer_loss_reference(logits.detach().numpy(), labels, fast_emit=fast_emit)[1]
        surrogate = surrogate + (logits * torch.from_numpy(gradient)).sum()
    for one, two in zip(ours, torch.autograd.grad(surrogate, inputs), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_zero_is_bit_for_bit_the_plain_loss() -> None:
    inputs = tensors(3)
    plain, zero = losses(inputs), losses(inputs, fast_emit=0.0)
    assert torch.equal(plain, zero)
    for one, two in zip(
        torch.autograd.grad(plain.sum(), inputs), torch.autograd.grad(zero.sum(), inputs), strict=True
    ):
        assert torch.equal(one, two)


def test_descending_the_gradient_emits_earlier() -> None:
    """From the same start, steps along the gradient bring the label earlier than those of the plain loss."""
    expected = {}
    for fast_emit in (0.0, 0.5):
        torch.manual_seed(0)
        encoded = torch.zeros(1, 6, 4, dtype=torch.float64, requires_grad=True)
        predicted = torch.randn(1, 2, 4, dtype=torch.float64)
        weight, bias = torch.randn(3, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        labels = torch.tensor([[2]]), torch.tensor([6]), torch.tensor([1])
        for _ in range(60):
            value = transducer_loss(encoded, predicted, weight, bias, *labels, fast_emit=fast_emit).sum()
            (gradient,) = torch.autograd.grad(value, [encoded])
            encoded = (encoded - 0.5 * gradient).detach().requires_grad_()
        logits = torch.tanh(encoded[0, :, None] + predicted[0, None]) @ weight.t() + bias
        logp = torch.log_softmax(logits, 2).detach()
        before, after = logp[:, 0, 0].cumsum(0) - logp[:, 0, 0], logp[:, 1, 0].flip(0).cumsum(0).flip(0)
        at = torch.softmax(before + logp[:, 0, 2] + after, 0)
        expected[fast_emit] = float((at * torch.arange(6)).sum())
    assert expected[0.5] < expected[0.0] - 0.1


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_a_wrong_lambda_is_refused(wrong: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"fast_emit is .*, expected a number of 0 or more"):
        losses(tensors(), fast_emit=wrong)

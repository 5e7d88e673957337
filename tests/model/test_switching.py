"""Choices of a branch, and the backlog that they make."""

import pytest
import torch

from edgespeech.model.switching import above, at_random, backlog, energy, in_stretches


def test_a_backlog_is_that_of_the_obvious_loop() -> None:
    torch.manual_seed(0)
    cost, rate = torch.rand(3, 40, dtype=torch.float64), 0.45
    found = backlog(cost, rate)
    for row in range(3):
        behind = 0.0
        for t in range(40):
            behind = max(0.0, behind + float(cost[row, t]) / rate - 1)
            assert float(found[row, t]) == pytest.approx(behind)
    assert found.max() > 1


def test_a_device_that_is_fast_enough_is_never_behind() -> None:
    assert not backlog(torch.full((1, 9), 0.5), 0.5).any()
    torch.testing.assert_close(backlog(torch.ones(4), 0.8), torch.tensor([0.25, 0.5, 0.75, 1.0]))


def test_a_backlog_has_a_gradient_only_where_the_device_did_not_catch_up() -> None:
    cost = torch.tensor([2.0, 0.1, 0.1, 2.0, 1.0], requires_grad=True)
    torch.autograd.backward(backlog(cost, 1.0)[-1])
    assert cost.grad is not None
    assert cost.grad.tolist() == [0, 0, 0, 1, 1]


def test_energy_sees_the_past_alone_and_is_0_at_the_quietest_frame() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 40, 80)
    score = energy(features, 4)
    assert score.shape == (2, 10)
    assert (score >= 0).all()
    assert (score[:, 0] == 0).all()
    louder = features.clone()
    louder[:, 20:] += 3
    assert torch.equal(energy(louder, 4)[:, :5], score[:, :5])
    assert (energy(louder, 4)[:, 5:] > score[:, 5:]).all()


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.3, 3), (1.0, 10)])
def test_a_threshold_that_a_share_is_above(rate: float, count: int) -> None:
    score = torch.arange(12.0)[None]
    valid = torch.ones(1, 12, dtype=torch.bool)
    valid[0, 10:] = False
    assert int((score > above(score, rate, valid))[valid].sum()) == count


def test_random_choices_are_those_of_their_seed() -> None:
    one = at_random(4000, 0.3, 7, 1)
    assert torch.equal(one, at_random(4000, 0.3, 7, 1))
    assert not torch.equal(one, at_random(4000, 0.3, 7, 2))
    assert float(one.float().mean()) == pytest.approx(0.3, abs=0.03)


def test_both_branches_are_trained_alone_and_in_turns() -> None:
    torch.manual_seed(0)
    mix = in_stretches(300, 60)
    share = mix.mean(dim=1)
    assert ((mix == 0) | (mix == 1)).all()
    assert 60 < int((share == 0).sum()) < 140
    assert 60 < int((share == 1).sum()) < 140
    switches = mix.diff(dim=1).abs().sum(dim=1)[(share > 0) & (share < 1)]
    assert 3 < float(switches.mean()) < 9

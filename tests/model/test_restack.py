"""A model that stacks another number of frames: what does not change in time is seen as before."""

import pytest
import torch

from edgespeech.model.config import ModelConfig
from edgespeech.model.restack import ENTER, restacked
from edgespeech.model.transducer import Transducer


@pytest.mark.parametrize(("old", "new"), [(4, 6), (6, 4), (4, 4), (3, 8)])
def test_steady_features_give_nearly_the_same_input(old: int, new: int) -> None:
    torch.manual_seed(0)
    shapes = {"vocabulary": 8, "layers": 1, "hidden": 12, "joiner": 8}
    before = Transducer(ModelConfig(**shapes, stack=old))  # type: ignore[arg-type]  # whole numbers all
    with torch.no_grad():  # neighbouring places of a trained matrix are alike
        smooth = torch.linspace(0, 1, old)[None, :, None] * torch.randn(12, 1, 80) + torch.randn(12, 1, 80)
        before.transcriber.enter.weight.copy_(smooth.reshape(12, -1))
    after = Transducer(ModelConfig(**shapes, stack=new))  # type: ignore[arg-type]  # as above
    after.load_state_dict(restacked(before.state_dict(), old, new))
    frame = torch.randn(80)
    given = [model.transcriber.enter(frame.repeat(n)) for model, n in ((before, old), (after, new))]
    torch.testing.assert_close(given[1], given[0], rtol=0.02, atol=0.02)


def test_the_same_stack_is_the_same_matrix() -> None:
    state = {ENTER: torch.randn(5, 4 * 80)}
    torch.testing.assert_close(restacked(state, 4, 4)[ENTER], state[ENTER])

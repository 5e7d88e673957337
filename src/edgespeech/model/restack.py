"""Converting a trained model to another number of stacked feature frames.

The first layer's matrix has one block of weights for each position in the stack. The blocks for the new positions are
interpolated linearly, and scaled so that constant features give the same input to the layers above. The layers then
receive fewer or more frames a second, to which some hundred updates adapt them.
"""

from __future__ import annotations

import torch
from torch import Tensor

ENTER = "transcriber.enter.weight"


def restacked(state: dict[str, Tensor], old: int, new: int) -> dict[str, Tensor]:
    """The weights of a transducer whose transcriber stacks `new` frames.

    Args:
        state: of a transducer that stacks `old` frames; not changed.
        old: 1 or more.
        new: 1 or more.
    """
    weight = state[ENTER]
    blocks = weight.reshape(len(weight), old, -1).transpose(1, 2)
    # Positions are compared by their centres: with 4 and 6 the first new one is outside of the first old one.
    wider = torch.nn.functional.interpolate(blocks, size=new, mode="linear", align_corners=False)
    return state | {ENTER: (wider * (old / new)).transpose(1, 2).reshape(len(weight), -1)}

"""A model that stacks another number of feature frames, made from one that is trained.

The first layer's matrix has one block of weights for each place in the stack. The blocks for the new places are
interpolated linearly, and scaled so that the same features all along give the same input to the layers above. The
layers see fewer or more frames a second from then on, which some hundred updates adapt them to.
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
    # Places are compared by their centres: with 4 and 6 the first new one lies outside of the first old one.
    wider = torch.nn.functional.interpolate(blocks, size=new, mode="linear", align_corners=False)
    return state | {ENTER: (wider * (old / new)).transpose(1, 2).reshape(len(weight), -1)}

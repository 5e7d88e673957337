"""The frames in which a transducer emits known labels: the likeliest path with at most one label in a frame.

`edgespeech.endpointing.alignment` allows several labels in a frame, state by state; training needs the one here, which
takes all states of a frame at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgespeech.core.labels import BLANK


@torch.no_grad()
def emission_frames(
    encoded: Tensor, predicted: Tensor, joiner: nn.Linear, labels: Tensor
) -> list[int] | None:
    """Align one utterance (Viterbi).

    Args:
        encoded: its transcription, with shape `(T, J)`.
        predicted: its predictions, with shape `(U + 1, J)`.
        joiner: of the model.
        labels: none of them blank, with shape `(U,)`.

    Returns:
        Increasing frames, with shape `(U,)`; None if there are more labels than frames.
    """
    frames, count = len(encoded), len(labels)
    if count > frames:
        return None
    scores = joiner(torch.tanh(encoded.float()[:, None] + predicted.float()[None])).log_softmax(dim=-1)
    stay = scores[..., BLANK].double().cpu().numpy()  # (T, U + 1)
    emit = (
        scores[:, :-1].gather(2, labels[None, :, None].expand(frames, -1, 1))[..., 0].double().cpu().numpy()
    )
    best = np.full(count + 1, -np.inf)
    best[0] = 0.0
    emitted = np.zeros((frames, count + 1), dtype=bool)
    for t in range(frames):
        kept, moved = best + stay[t], best[:-1] + emit[t] + stay[t, 1:]
        emitted[t, 1:] = moved > kept[1:]
        best = kept
        best[1:] = np.maximum(kept[1:], moved)
    found, state = [], count
    for t in reversed(range(frames)):
        if emitted[t, state]:
            found.append(t)
            state -= 1
    return found[::-1]

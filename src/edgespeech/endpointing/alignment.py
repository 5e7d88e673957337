"""Forced alignment of known words with speech by the transducer, for word boundaries."""

from __future__ import annotations

import numpy as np
import torch

from edgespeech.audio.features import log_mel
from edgespeech.contracts import Samples
from edgespeech.core.labels import BLANK, SPACE
from edgespeech.errors import bad
from edgespeech.model.checkpoint import Trained

Gap = tuple[float, float]


@torch.inference_mode()
def align(trained: Trained, samples: Samples, labels: list[int]) -> list[int]:
    """The transcriber frame in which each label is emitted on the likeliest path with all of them (Viterbi).

    Args:
        trained: the recogniser.
        samples: 16 kHz, with shape `(N,)`.
        labels: of the words, none of them blank, with shape `(U,)`.

    Returns:
        Non-decreasing frames, with shape `(U,)`.

    Raises:
        EdgeSpeechError: there is less audio than one frame.
    """
    features = log_mel(samples)
    if len(features) < trained.model.config.stack:
        raise bad("alignment", "frames", len(features), f"at least {trained.model.config.stack}")
    encoded, _, _ = trained.model.transcribe(torch.from_numpy(features[None]), torch.tensor([len(features)]))
    predicted = trained.model.predict(torch.tensor([labels], dtype=torch.int64))
    logits = trained.model.join(encoded[0, :, None], predicted[0, None])  # (T, U + 1, V)
    scores = logits.log_softmax(dim=-1).double().numpy()
    blank = scores[:, :, BLANK]
    steps, width = blank.shape
    label = np.full((steps, width), -np.inf)
    label[:, :-1] = scores[:, np.arange(width - 1), labels]
    best = np.full(width, -np.inf)
    best[0] = 0.0
    stayed = np.zeros((steps, width), dtype=bool)  # entered this frame with the same number of labels
    for t in range(steps):
        if t:
            best = best + blank[t - 1]
        stayed[t] = True
        for u in range(1, width):
            emitted = best[u - 1] + label[t, u - 1]
            if emitted > best[u]:
                best[u], stayed[t, u] = emitted, False
    frames: list[int] = []
    t, u = steps - 1, width - 1
    while u:
        if stayed[t, u]:
            t -= 1
        else:
            frames.append(t)
            u -= 1
    return frames[::-1]


def gaps(trained: Trained, samples: Samples, text: str) -> list[Gap]:
    """The intervals in which each word but the first begins, in seconds.

    A transducer emits a piece after its audio, or a part of it: the boundary between two words is between the last
    piece of the first and the first piece of the second.

    Args:
        trained: the recogniser.
        samples: 16 kHz, with shape `(N,)`.
        text: the words.

    Raises:
        EdgeSpeechError: a word that pieces cannot spell, or too little audio.
    """
    labels = trained.tokeniser.encode(text)
    frames = align(trained, samples, labels)
    frame_s = trained.model.config.frame_s
    return [
        (frames[place - 1] * frame_s, (frames[place] + 1) * frame_s)
        for place in range(1, len(labels))
        if trained.tokeniser.pieces[labels[place]].startswith(SPACE)
    ]

"""Reference implementation of the transducer loss: plain loops in float64 over one utterance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def transducer_loss_reference(
    logits: NDArray[np.float64], labels: Sequence[int], *, blank: int = 0, fast_emit: float = 0.0
) -> tuple[float, NDArray[np.float64]]:
    """Loss of one utterance and its gradient, by forward-backward (Graves 2012, equations 16 to 20).

    Letters: T transcriber frames; U labels; V word pieces.

    Args:
        logits: unnormalised scores, with shape `(T, U + 1, V)`, `T >= 1`.
        labels: the U word pieces, none of them the blank.
        blank: index of the blank.
        fast_emit: lambda of FastEmit (Yu et al. 2021); see `edgespeech.model.loss.transducer_loss`.

    Returns:
        loss: negative log-likelihood in nats.
        gradient: its derivative with respect to `logits`, with shape `(T, U + 1, V)`; that through the probabilities
            of labels is 1 + `fast_emit` times as large.
    """
    frames, states, _ = logits.shape
    last = states - 1
    logp = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)

    alpha = np.full((frames, states), -np.inf)
    alpha[0, 0] = 0.0
    for t in range(frames):
        for u in range(states):
            if t > 0:
                alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t - 1, u] + logp[t - 1, u, blank])
            if u > 0:
                alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t, u - 1] + logp[t, u - 1, labels[u - 1]])

    # beta[frames, last] is the state after the final blank; the rest of that row cannot be reached.
    beta = np.full((frames + 1, states), -np.inf)
    beta[frames, last] = 0.0
    for t in reversed(range(frames)):
        for u in reversed(range(states)):
            beta[t, u] = logp[t, u, blank] + beta[t + 1, u]
            if u < last:
                beta[t, u] = np.logaddexp(beta[t, u], logp[t, u, labels[u]] + beta[t, u + 1])

    total = beta[0, 0]
    gradient = np.zeros_like(logits)
    for t in range(frames):
        for u in range(states):
            gamma_blank = np.exp(alpha[t, u] + logp[t, u, blank] + beta[t + 1, u] - total)
            gamma_label = (
                np.exp(alpha[t, u] + logp[t, u, labels[u]] + beta[t, u + 1] - total) if u < last else 0.0
            )
            gamma_label *= 1 + fast_emit
            gradient[t, u] = np.exp(logp[t, u]) * (gamma_blank + gamma_label)
            gradient[t, u, blank] -= gamma_blank
            if u < last:
                gradient[t, u, labels[u]] -= gamma_label
    return float(-total), gradient

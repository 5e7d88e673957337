"""How far back the loss looks: the norm of its gradient in every feature frame, the lead-in's included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from replication.context_audio.hearing import Sound, StreamSet

from edgespeech.core.labels import BLANK
from edgespeech.errors import bad
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.checkpoint import Trained
from edgespeech.model.loss import transducer_loss

Floats = NDArray[np.float64]


class Norms(NamedTuple):
    """The gradient's norm in each transcriber frame of the lead-in, `(L,)`, and of the utterance, `(T,)`."""

    before: Floats
    own: Floats


def norms_of(trained: Trained, sound: Sound, text: str, where: str) -> Norms:
    """The gradient of an utterance's loss with respect to the features of its stream.

    The gradient is taken of features in units of their deviation, so that no band outweighs the others.

    Args:
        trained: the model.
        sound: the stream.
        text: what is said in the utterance.
        where: the utterance, for messages.

    Raises:
        EdgeSpeechError: the gradient is not finite.
    """
    model = trained.model.requires_grad_(False).eval()
    stack = model.config.stack
    features = torch.from_numpy(np.concatenate([sound.before, sound.own]))[None]
    features = features[:, : features.shape[1] // stack * stack].clone().requires_grad_(True)
    encoded, lengths, _ = model.transcribe(features, torch.tensor([features.shape[1]]))
    lead = len(sound.before) // stack
    labels = torch.tensor([trained.tokeniser.encode(text)])
    loss = transducer_loss(
        encoded[:, lead:],
        model.predict(labels),
        model.joiner.weight,
        model.joiner.bias,
        labels,
        lengths - lead,
        torch.tensor([labels.shape[1]]),
        blank=BLANK,
    )
    (gradient,) = torch.autograd.grad(loss.sum(), features)
    norms = (gradient[0] / model.transcriber.scale).reshape(-1, stack * features.shape[2]).norm(dim=1)
    found = norms.double().numpy()
    if not np.isfinite(found).all():
        raise bad(where, "gradient", "NaN or infinity", "finite numbers")
    return Norms(found[:lead], found[lead:])


def gradient_rows(models: Sequence[Trained], streams: StreamSet, way: str, settings: dict[str, Any]) -> Row:
    """The share of the gradient in the lead-ins, and how it falls with time, as a row.

    Args:
        models: of the way's arm, by seed.
        streams: the set.
        way: its name.
        settings: `before_s` and `after_s`, what the picture shows on either side of the utterance's first sample.
    """
    frame_s = models[0].model.config.frame_s
    sides = [round(settings[key] / frame_s) for key in ("before_s", "after_s")]
    lead, whole = np.zeros(len(streams.sounds)), np.zeros(len(streams.sounds))
    shown: list[Floats] = []
    for trained in models:
        for place, (sound, one) in enumerate(zip(streams.sounds, streams.utterances, strict=True)):
            text = one.text.lower()
            norms = norms_of(trained, sound, text, f"gradient of {one.id}")
            total = float(norms.before.sum() + norms.own.sum())
            lead[place] += float(norms.before.sum()) / total
            whole[place] += 1.0
            shown.append(_aligned(norms, *sides) / total)
    row: Row = {
        "detail": way,
        "measured": float(lead.sum() / whole.sum()),
        "n": len(lead),
        "seeds": len(models),
    }
    if len(lead) > 1:
        row |= bootstrap_ratio(lead, whole, streams.speakers, seed=streams.utterances.seed).as_row()
    # A lead-in that is shorter than what is shown has no frames there, and does not count.
    counts = np.maximum(1, np.isfinite(shown).sum(axis=0))
    means = np.nansum(shown, axis=0) / counts
    return row | {"gradient": {"way": way, "frame_s": frame_s, "before": sides[0], "shares": means.tolist()}}


def _aligned(norms: Norms, before: int, after: int) -> Floats:
    """So many frames on either side of the utterance's first; NaN where there are none."""
    found = np.full(before + after, np.nan)
    lead, own = norms.before[-before:], norms.own[:after]
    found[before - len(lead) : before] = lead
    found[before : before + len(own)] = own
    return found

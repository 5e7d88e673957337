"""Hearing utterances with a branching model, frame by frame, by any way of choosing.

Letters: B batch, F feature frames (10 ms), T transcriber frames, D decisions per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.labels import BLANK
from edgespeech.corpora.utterances import Utterances
from edgespeech.model.branching import BranchingTransducer, BranchState
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.switching import above, at_random, energy
from edgespeech.search.partials import TAIL_S
from edgespeech.search.settings import MAX_LABELS

_BATCH = 32
Mix = NDArray[np.uint8]
"""The branch of each frame, 1 for slow, with shape `(T, D)`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """An utterance to hear.

    Attributes:
        features: with shape `(F, 80)`, a tail of silence included.
        frames: transcriber frames without the tail.
        pivot: the frame from which on words count, and from which on the way `pivot` is slow.
        sos: first frame of speech; None if unknown, and `eos` too.
        eos: the frame after the last one of speech.
    """

    features: Features
    frames: int
    pivot: int = 0
    sos: int | None = None
    eos: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What became of an utterance.

    Attributes:
        text: its transcript, from the pivot on.
        mix: the branch of each frame, without the tail's.
        entropy: of the first output of each of these frames, in nats, with shape `(T,)`.
    """

    text: str
    mix: Mix
    entropy: NDArray[np.float32]


Chooser = Callable[[Tensor, Tensor], Tensor] | float
"""From features `(B, F, 80)` and indices of utterances to shares of the slow branch `(B, T, D)`; or the entropy of the
last output, in nats, above which a frame is slow."""


def sounds_of(utterances: Utterances, frame_s: float) -> list[Sound]:
    """The utterances' features, with where their speech begins and ends as far as the manifests say it."""
    found = []
    for one in utterances:
        samples = one.samples()
        sos, eos = one.item.sos_s, one.item.eos_s
        known = sos is not None and eos is not None
        found.append(
            sound_of(
                samples,
                frame_s,
                sos=int((sos or 0.0) / frame_s) if known else None,
                eos=int(np.ceil((eos or 0.0) / frame_s)) if known else None,
            )
        )
    return found


def sound_of(
    samples: Samples, frame_s: float, *, pivot: int = 0, sos: int | None = None, eos: int | None = None
) -> Sound:
    """Samples at 16 kHz, `(N,)`, as an utterance to hear."""
    tail = np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)
    frames = int(len(samples) / SAMPLE_RATE / frame_s)
    features = log_mel_at_once(np.concatenate([samples, tail]))
    return Sound(features=features, frames=frames, pivot=pivot, sos=sos, eos=eos)


@torch.inference_mode()
def hear(trained: TrainedBranching, sounds: Sequence[Sound], choose: Chooser) -> list[Said]:
    """Greedy search, with batches of similar length.

    Choices that do not hang on the search are made for whole utterances at once, and so are their transcriptions.

    Args:
        trained: the model.
        sounds: the utterances.
        choose: the branch of each frame.
    """
    order = sorted(range(len(sounds)), key=lambda place: len(sounds[place].features))
    found: dict[int, Said] = {}
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        heard = _batch(trained, [sounds[place] for place in places], torch.tensor(places), choose)
        found |= dict(zip(places, heard, strict=True))
    return [found[place] for place in range(len(sounds))]


@torch.inference_mode()
def decisions(model: BranchingTransducer, sounds: Sequence[Sound]) -> list[Mix]:
    """The arbitrator's decisions alone, which need no other part of the model."""
    found = []
    for one in sounds:
        logits = model.transcriber.decide(torch.from_numpy(one.features)[None])
        found.append((logits[0, : one.frames] > 0).numpy().astype(np.uint8))
    return found


def chooser(
    trained: TrainedBranching, way: str, sounds: Sequence[Sound], threshold: float, seed: int
) -> Chooser:
    """The choices of a way.

    Args:
        trained: the model.
        way: see `arms.WAYS`.
        sounds: to be heard.
        threshold: of `energy` and `entropy`; of `random` the share of slow frames.
        seed: of `random`.
    """
    transcriber = trained.model.transcriber
    if way == "entropy":
        return threshold

    def choose(features: Tensor, places: Tensor) -> Tensor:
        frames = features.shape[1] // transcriber.stack
        if way == "own":
            return (transcriber.decide(features) > 0).float()
        if way == "random":
            drawn = [at_random(frames, threshold, seed, place) for place in places.tolist()]
            return torch.stack(drawn)[..., None].float()
        if way == "energy":
            return (energy(features, transcriber.stack) > threshold)[..., None].float()
        if way == "pivot":
            pivots = torch.tensor([sounds[place].pivot for place in places.tolist()])
            return (torch.arange(frames) >= pivots[:, None])[..., None].float()
        return torch.full((len(features), frames, 1), float(way == "slow"))

    return choose


def energy_threshold(sounds: Sequence[Sound], stack: int, rate: float) -> float:
    """The energy that this share of all frames is above."""
    scores = [energy(torch.from_numpy(one.features)[None], stack)[0, : one.frames] for one in sounds]
    return float(above(torch.cat(scores), rate, torch.ones(sum(map(len, scores)), dtype=torch.bool)))


def entropy_threshold(said: Sequence[Said], rate: float) -> float:
    """The entropy that this share of all frames' is above."""
    together = torch.from_numpy(np.concatenate([one.entropy for one in said]))
    return float(above(together, rate, torch.ones(len(together), dtype=torch.bool)))


def _batch(
    trained: TrainedBranching, sounds: Sequence[Sound], places: Tensor, choose: Chooser
) -> Iterator[Said]:
    model, stack = trained.model, trained.model.config.stack
    features = nn.utils.rnn.pad_sequence(
        [torch.from_numpy(one.features) for one in sounds], batch_first=True, padding_value=-15.0
    )
    counts = torch.tensor([len(one.features) // stack for one in sounds])
    pivots = torch.tensor([one.pivot for one in sounds])
    mixes = None if isinstance(choose, float) else choose(features, places)
    predicted, memory = model.start(len(sounds))
    labels: list[list[int]] = [[] for _ in sounds]
    state: BranchState | None = None
    told = torch.zeros(len(sounds))
    used, entropies = [], []
    whole = None if mixes is None else model.transcribe(features, stack * counts, None, mixes)[0]
    for t in range(int(counts.max())):
        if isinstance(choose, float):
            mix = (told > choose).float()[:, None, None]
            piece = features[:, stack * t : stack * (t + 1)]
            encoded, _, state = model.transcribe(piece, torch.full((len(sounds),), stack), state, mix)
        else:
            assert mixes is not None
            assert whole is not None
            mix, encoded = mixes[:, t : t + 1], whole[:, t : t + 1]
        used.append(mix[:, 0])
        going = t < counts
        for emitted in range(MAX_LABELS):
            logits = model.join(encoded[:, 0], predicted)
            if not emitted:
                told = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
                entropies.append(told)
            best = logits.argmax(-1)
            going = going & (best != BLANK)
            rows = going.nonzero()[:, 0].tolist()
            if not rows:
                break
            for row in rows:
                if t >= int(pivots[row]):
                    labels[row].append(int(best[row]))
            after, memory_after = model.advance(best, memory)
            predicted = torch.where(going[:, None], after, predicted)
            assert isinstance(memory, Tensor)
            assert isinstance(memory_after, Tensor)
            memory = torch.where(going[:, None], memory_after, memory)
    together, doubts = torch.stack(used, dim=1), torch.stack(entropies, dim=1)
    for row, one in enumerate(sounds):
        yield Said(
            text=trained.tokeniser.decode(labels[row]),
            mix=together[row, : one.frames].numpy().astype(np.uint8),
            entropy=doubts[row, : one.frames].numpy(),
        )

"""Training of the learned scorers, on speech that hesitates (`edgespeech.synthesis.pauses`); train splits alone.

The recogniser is frozen and decodes every utterance once; its outputs are the inputs of the networks.

The end-of-query token is trained as in an RNN-T: in every frame either the token or no token, one token per utterance,
with the probabilities of all possible frames summed, each with the penalty of that frame
(Li et al., 2020): `-log sum_t exp(log P(</s> at t) - early max(0, t_ref - t) - late max(0, t - t_ref - t_buffer))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgespeech.endpointing.frames import Frame, Vector
from edgespeech.endpointing.networks import Arbitrator, EndNet, Networks, Observer
from edgespeech.errors import EdgeSpeechError, bad

Share = Annotated[float, Field(ge=0)]


class NetworksConfig(BaseModel):
    """Configuration of the networks' training. Times in seconds.

    Attributes:
        hidden: width of every network.
        epochs: passes over all utterances.
        batch: utterances per step.
        learning_rate: of Adam, falling linearly to a tenth.
        after_s: frames later than this after the end of speech are not used.
        early: penalty of the token, per second before the end of speech.
        late: the same after it, from `buffer_s` on.
        buffer_s: delay without penalty.
        pause_s: minimum decoder pause of frames for training the second pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hidden: Annotated[int, Field(gt=0)] = 64
    epochs: Annotated[int, Field(gt=0)] = 8
    batch: Annotated[int, Field(gt=0)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    after_s: Annotated[float, Field(gt=0)] = 1.5
    early: Share = 10.0
    late: Share = 4.0
    buffer_s: Share = 0.12
    pause_s: Share = 0.12


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """An utterance as processed by the recogniser.

    Attributes:
        encoded: with shape `(T, J)`, in half precision.
        extra: with shape `(T, 85)`.
        last: with shape `(T, 2)`.
        audio_s: of each frame, with shape `(T,)`.
        pause_s: of each frame, with shape `(T,)`.
        labels: of each frame.
        eos_s: end of speech.
    """

    encoded: NDArray[np.float16]
    extra: Vector
    last: NDArray[np.int64]
    audio_s: Vector
    pause_s: Vector
    labels: tuple[tuple[int, ...], ...]
    eos_s: float


def lesson(frames: Sequence[Frame], eos_s: float, after_s: float) -> Lesson:
    """The training data of an utterance's frames, up to `after_s` after its end of speech.

    Raises:
        EdgeSpeechError: there is no frame after the end of speech.
    """
    if not frames or frames[-1].audio_s <= eos_s:
        raise bad("end-pointing", "audio", frames[-1].audio_s if frames else 0.0, f"more than {eos_s} s")
    kept = [frame for frame in frames if frame.audio_s <= eos_s + after_s]
    observer = Observer()
    told = [observer.accept(frame) for frame in kept]
    return Lesson(
        encoded=np.stack([frame.encoded for frame in kept]).astype(np.float16),
        extra=np.stack([extra for extra, _ in told]),
        last=np.stack([last for _, last in told]),
        audio_s=np.array([frame.audio_s for frame in kept], np.float32),
        pause_s=np.array([frame.pause_s for frame in kept], np.float32),
        labels=tuple(frame.labels for frame in kept),
        eos_s=eos_s,
    )


def train_networks(
    networks: Networks, lessons: Sequence[Lesson], config: NetworksConfig, seed: int
) -> dict[str, float]:
    """Train all three networks in place; the same seed gives the same weights.

    Returns:
        The mean loss of each network over its last epoch.

    Raises:
        EdgeSpeechError: there are no lessons, or a loss is not finite.
    """
    if not lessons:
        raise bad("end-pointing", "lessons", 0, "at least one utterance")
    return {
        "learned": _train(
            networks.learned, lambda rows: _ended_loss(networks.learned, rows), lessons, config, seed
        ),
        "token": _train(
            networks.token, lambda rows: _token_loss(networks.token, rows, config), lessons, config, seed
        ),
        "arbitrator": _train(
            networks.arbitrator,
            lambda rows: _arbitrator_loss(networks.arbitrator, rows, config.pause_s),
            lessons,
            config,
            seed,
        ),
    }


def token_loss(
    logits: Tensor, valid: Tensor, late_s: Tensor, *, early: float, late: float, buffer_s: float
) -> Tensor:
    """The negative log-probability of one token per utterance, with penalties; the mean over the batch.

    Args:
        logits: of the token against none, with shape `(B, T)`.
        valid: mask of frames, with shape `(B, T)`.
        late_s: seconds from the end of speech to each frame, with shape `(B, T)`.
        early: penalty per second before the end of speech.
        late: penalty per second after it, from `buffer_s` on.
        buffer_s: delay without penalty.
    """
    here = nn.functional.logsigmoid(logits)
    none = nn.functional.logsigmoid(-logits)
    before = none.cumsum(dim=1) - none  # no token in any frame before
    penalty = early * (-late_s).clamp(min=0) + late * (late_s - buffer_s).clamp(min=0)
    paths = (before + here - penalty).masked_fill(~valid, -torch.inf)
    return -paths.logsumexp(dim=1).mean()


def _ended_loss(network: EndNet, rows: Sequence[Lesson]) -> Tensor:
    logits, valid, late_s = _run(network, rows)
    target = (late_s > 0).float()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return losses[valid].mean()


def _token_loss(network: EndNet, rows: Sequence[Lesson], config: NetworksConfig) -> Tensor:
    logits, valid, late_s = _run(network, rows)
    penalties = {"early": config.early, "late": config.late, "buffer_s": config.buffer_s}
    return token_loss(logits, valid, late_s, **penalties)


def _arbitrator_loss(network: Arbitrator, rows: Sequence[Lesson], pause_s: float) -> Tensor | None:
    """The loss over all frames in pauses; None if a batch has none."""
    heard, _ = network.hear(
        _padded([row.encoded for row in rows]).float(), _padded([row.extra for row in rows])
    )
    picked, extra, target = [], [], []
    texts: list[Tensor] = []
    which: list[int] = []
    for number, row in enumerate(rows):
        places = np.flatnonzero((row.pause_s >= pause_s) & np.isfinite(row.pause_s))
        seen: dict[tuple[int, ...], int] = {}
        for place in places:
            labels = row.labels[place]
            if labels not in seen:
                seen[labels] = len(texts)
                texts.append(torch.tensor(labels, dtype=torch.int64))
            which.append(seen[labels])
        picked.append(heard[number, torch.from_numpy(places)])
        extra.append(row.extra[places])
        target.append(row.audio_s[places] > row.eos_s)
    if not texts:
        return None
    lengths = torch.tensor([len(text) for text in texts])
    read = network.read(nn.utils.rnn.pad_sequence(texts, batch_first=True), lengths)
    logits = network(
        torch.cat(picked),
        torch.from_numpy(np.concatenate(extra)),
        read[torch.tensor(which)],
    )
    wanted = torch.from_numpy(np.concatenate(target)).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def _run(network: EndNet, rows: Sequence[Lesson]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a batch, the mask of frames, and their times relative to the end of speech; all `(B, T)`."""
    logits, _ = network(
        _padded([row.encoded for row in rows]).float(),
        _padded([row.extra for row in rows]),
        _padded([row.last for row in rows]),
    )
    late_s = _padded([row.audio_s - np.float32(row.eos_s) for row in rows])
    valid = _padded([np.ones(len(row.audio_s), dtype=np.bool_) for row in rows])
    return logits, valid, late_s


def _padded(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
    """Utterances as a batch, padded with zeros."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)


def _train(
    network: nn.Module,
    loss_of: Callable[[Sequence[Lesson]], Tensor | None],
    lessons: Sequence[Lesson],
    config: NetworksConfig,
    seed: int,
) -> float:
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    rng = np.random.default_rng(seed)
    steps = config.epochs * -(-len(lessons) // config.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.1, total_iters=steps)
    losses: list[float] = []
    for _ in range(config.epochs):
        losses.clear()
        for rows in _batches(lessons, config.batch, rng):
            loss = loss_of(rows)
            if loss is not None:
                if not torch.isfinite(loss):
                    raise EdgeSpeechError(
                        f"end-pointing: the loss is {loss.item()}, expected a finite number"
                    )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
                losses.append(loss.item())
            schedule.step()
    network.eval().requires_grad_(False)
    return float(np.mean(losses)) if losses else float("nan")


def _batches(lessons: Sequence[Lesson], size: int, rng: np.random.Generator) -> Iterator[Sequence[Lesson]]:
    """All lessons in batches of similar length, in random order."""
    order = sorted(rng.permutation(len(lessons)), key=lambda place: len(lessons[place].audio_s))
    starts = np.arange(0, len(order), size)
    rng.shuffle(starts)
    for start in starts:
        yield [lessons[place] for place in order[start : start + size]]

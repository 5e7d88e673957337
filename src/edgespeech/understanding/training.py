"""Training of an understanding network, on one thread; what is written after each pass lets it go on from there."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgespeech.core.files import write_atomic
from edgespeech.corpora.requests import Request, slots_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.understanding.config import NetworkConfig, TrainingConfig
from edgespeech.understanding.network import Network, Scheme, Words
from edgespeech.understanding.vocabulary import UNKNOWN, Vocabulary

STATE = "state.pt"


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with what it needs to be used.

    Attributes:
        config: its shape.
        network: in evaluation mode.
        vocabulary: of its words.
        schemes: by name.
    """

    config: NetworkConfig
    network: Network
    vocabulary: Vocabulary
    schemes: Mapping[str, Scheme]

    @property
    def words(self) -> Words:
        """The numbers of its words."""
        return Words(self.config, self.vocabulary)


Start = Callable[[Network, Vocabulary], None]
"""Fills in the weights that a network starts with."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of one scheme and one length.

    Attributes:
        scheme: its name.
        numbers: of words, `(B, T)` or `(B, T, hashes)`.
        intents: `(B,)`.
        tags: `(B, T)`; None for a scheme without slots.
    """

    scheme: str
    numbers: Tensor
    intents: Tensor
    tags: Tensor | None


def schemes_of(material: Mapping[str, Sequence[Request]]) -> dict[str, Scheme]:
    """The intents and slots of every scheme's requests, sorted.

    Raises:
        EdgeSpeechError: a scheme without requests.
    """
    found = {}
    for name, requests in material.items():
        if not requests:
            raise bad("understanding", f"requests of {name}", 0, "at least one")
        tags = {tag for one in requests for tag in whole_tags(one)}
        slots, longer = (sorted(tag[2:] for tag in tags if tag[0] == begin) for begin in "BI")
        found[name] = Scheme(tuple(sorted({one.intent for one in requests})), tuple(slots), tuple(longer))
    return found


def train(
    material: Mapping[str, Sequence[Request]],
    shape: NetworkConfig,
    how: TrainingConfig,
    seed: int,
    folder: Path,
    start: Start | None = None,
) -> Trained:
    """Train a network on one thread, or go on where a run in this folder was stopped.

    Args:
        material: requests by scheme.
        shape: of the network.
        how: it is trained.
        seed: of weights, order and dropout.
        folder: for the state after each pass.
        start: fills in what the network starts with; None for random weights.

    Raises:
        EdgeSpeechError: a scheme without requests, a state that is not this run's, or a loss that is not finite.
    """
    schemes = schemes_of(material)
    vocabulary = Vocabulary.of(
        (one.words for some in material.values() for one in some), shape.least, shape.words
    )
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = Network(shape, len(vocabulary) + 1, schemes, how.dropout)
    if start is not None:
        start(network, vocabulary)
    groups = _groups(material, schemes, Words(shape, vocabulary))
    steps = sum(math.ceil(len(one.intents) / how.batch) for one in groups) * how.epochs
    # Rows of words that a step does not see have no gradient: SparseAdam leaves them alone, which is most of the time.
    rest = [parameter for name, parameter in network.named_parameters() if name != "embedding.table.weight"]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, lr=how.rate)]
    if how.learn_table:
        optimisers.append(torch.optim.SparseAdam([network.embedding.table.weight], lr=how.rate))
    else:
        network.embedding.table.weight.requires_grad_(False)
    path, at, first = folder / STATE, 0, 0
    if path.is_file():
        at, first = _go_on(path, network, optimisers, steps)
    for epoch in range(first, how.epochs):
        torch.manual_seed(seed * 10_007 + epoch)
        network.train()
        total = 0.0
        batches = list(_batches(groups, how.batch))
        for place in torch.randperm(len(batches)).tolist():
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = how.rate * (1 + math.cos(math.pi * at / steps)) / 2
                optimiser.zero_grad()
            loss = _loss(network, batches[place], how)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
            nn.utils.clip_grad_norm_(rest, 5.0)
            for optimiser in optimisers:
                optimiser.step()
            total += loss.item()
            at += 1
        if not math.isfinite(total):
            raise EdgeSpeechError(
                f"{folder.name}: the loss of pass {epoch + 1} is not finite, expected finite"
            )
        _leave(path, network, optimisers, steps, at, epoch + 1)
        print(f"{folder.name}: pass {epoch + 1} of {how.epochs}, loss {total / len(batches):.4f}", flush=True)
    return Trained(shape, network.eval().requires_grad_(False), vocabulary, schemes)


def _loss(network: Network, batch: Batch, how: TrainingConfig) -> Tensor:
    numbers = batch.numbers
    if how.forget and network.embedding.config.buckets is None:
        numbers = numbers.masked_fill(torch.rand(numbers.shape) < how.forget, UNKNOWN)
    intents, tags = network(numbers, batch.scheme)
    loss: Tensor = nn.functional.cross_entropy(intents, batch.intents)
    if tags is not None and batch.tags is not None:
        loss = loss + how.slots * nn.functional.cross_entropy(tags.flatten(0, 1), batch.tags.flatten())
    return loss


def _groups(
    material: Mapping[str, Sequence[Request]], schemes: Mapping[str, Scheme], words: Words
) -> list[Batch]:
    """All requests, those of one scheme and one length together."""
    found = []
    for name, requests in material.items():
        scheme = schemes[name]
        intents = {intent: number for number, intent in enumerate(scheme.intents)}
        tags = {tag: number for number, tag in enumerate(scheme.tags)}
        lengths: dict[int, list[Request]] = defaultdict(list)
        for one in requests:
            lengths[len(one.words)].append(one)
        for _, some in sorted(lengths.items()):
            told = [[tags[tag] for tag in whole_tags(one)] for one in some] if tags else None
            found.append(
                Batch(
                    name,
                    torch.stack([words.numbers(one.words) for one in some]),
                    torch.tensor([intents[one.intent] for one in some]),
                    None if told is None else torch.tensor(told),
                )
            )
    return found


def whole_tags(request: Request) -> list[str]:
    """A request's tags, each slot with its beginning."""
    tags = ["O"] * len(request.words)
    for name, first, end in slots_of(request.words, request.tags or ()):
        tags[first:end] = [f"B-{name}"] + [f"I-{name}"] * (end - first - 1)
    return tags


def _batches(groups: Sequence[Batch], size: int) -> Iterator[Batch]:
    """The groups in pieces, each group in a new order."""
    for one in groups:
        order = torch.randperm(len(one.intents))
        for at in range(0, len(order), size):
            some = order[at : at + size]
            tags = None if one.tags is None else one.tags[some]
            yield Batch(one.scheme, one.numbers[some], one.intents[some], tags)


def _leave(path: Path, network: Network, optimisers: Sequence[Any], steps: int, at: int, epoch: int) -> None:
    buffer = io.BytesIO()
    state = {
        "steps": steps,
        "at": at,
        "epoch": epoch,
        "network": network.state_dict(),
        "optimisers": [one.state_dict() for one in optimisers],
    }
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def _go_on(path: Path, network: Network, optimisers: Sequence[Any], steps: int) -> tuple[int, int]:
    """The step and the pass to go on from."""
    try:
        state = torch.load(path, weights_only=True)
        if state["steps"] != steps:
            raise bad(str(path), "steps", state["steps"], f"{steps}, as this run has")
        network.load_state_dict(state["network"])
        for one, told in zip(optimisers, state["optimisers"], strict=True):
            one.load_state_dict(told)
    except (KeyError, RuntimeError, OSError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not the state of such a run: {error}") from error
    return int(state["at"]), int(state["epoch"])

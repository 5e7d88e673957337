"""Scores of understanding: intents, slots, requests out of scope, with intervals over requests and training runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.corpora.requests import Request, slots_of
from edgespeech.errors import bad
from edgespeech.metrics.statistics import Estimate, Units
from edgespeech.understanding.training import Trained

OUT_OF_SCOPE = "oos"
"""The intent of requests that fit no other (CLINC150's name)."""
TOGETHER = 64
RESAMPLES = 2000
_LEAST = 1e-12
"""In place of a denominator of 0, in resamples without any."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network makes of one request.

    Attributes:
        intent: the likeliest.
        probability: of it.
        tags: one for each word; empty for a scheme without slots.
    """

    intent: str
    probability: float
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a set's requests, one value for each, with shape `(N,)`.

    Attributes:
        right: 1 where the intent is right.
        agreed: slots that are in both, twice; `marked` those of both together: their ratio of sums is F1.
    """

    right: NDArray[np.float64]
    agreed: NDArray[np.float64]
    marked: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of requests whose intent is right."""
        return float(self.right.mean())

    @property
    def f1(self) -> float:
        """F1 of slots: name, first and last word are right."""
        return float(self.agreed.sum() / self.marked.sum())


def answers(trained: Trained, scheme: str, texts: Sequence[Sequence[str]]) -> list[Answer]:
    """What a network in torch makes of requests, many of one length at once, which changes no answer.

    Args:
        trained: the network, or the twin of a packed one.
        scheme: whose intents and slots.
        texts: words of each.
    """
    words, known = trained.words, trained.schemes[scheme]
    lengths: dict[int, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        lengths[len(text)].append(place)
    found: dict[int, Answer] = {}
    for places in _pieces(lengths.values()):
        numbers = torch.stack([words.numbers(texts[place]) for place in places])
        with torch.inference_mode():
            intents, tags = trained.network(numbers, scheme)
        chances = intents.softmax(dim=-1).max(dim=-1)
        for n, place in enumerate(places):
            told = () if tags is None else tuple(known.tags[one] for one in tags[n].argmax(dim=-1).tolist())
            found[place] = Answer(known.intents[int(chances.indices[n])], float(chances.values[n]), told)
    return [found[place] for place in range(len(texts))]


def _pieces(groups: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    for places in groups:
        for at in range(0, len(places), TOGETHER):
            yield places[at : at + TOGETHER]


def count(requests: Sequence[Request], told: Sequence[Answer]) -> Counts:
    """The counts of a set.

    Args:
        requests: with their labels.
        told: an answer to each.
    """
    rows = []
    for one, answer in zip(requests, told, strict=True):
        wanted, marked = set(), set()
        if one.tags is not None:
            wanted, marked = set(slots_of(one.words, one.tags)), set(slots_of(one.words, answer.tags))
        rows.append((answer.intent == one.intent, 2 * len(wanted & marked), len(wanted) + len(marked)))
    return Counts(*np.array(rows, np.float64).T)


def relative_loss(
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    our_marked: Sequence[NDArray[np.float64]],
    their_marked: Sequence[NDArray[np.float64]],
    *,
    seed: int,
) -> Estimate:
    """How much lower a ratio of sums is than another one, relative to that: 1 - ours / theirs.

    Each resample draws training runs and requests: runs of both sides each for itself, requests of both sides together.

    Args:
        ours: numerators of one run each, with shape `(N,)`.
        theirs: of the reference's runs.
        our_marked: the denominators of `ours`; ones for accuracy.
        their_marked: those of `theirs`.
        seed: of the resamples.

    Raises:
        EdgeSpeechError: no run, runs of different lengths, or a reference of 0.
    """
    sides = [
        np.stack([np.stack(part) for part in side]) for side in ((ours, our_marked), (theirs, their_marked))
    ]
    if not sides[1][0].sum() > 0:
        raise bad("understanding", "reference", 0, "above 0")
    return _resampled(sides, lambda mine, other: 1 - mine / max(other, _LEAST), seed)


def difference(
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    *,
    seed: int,
) -> Estimate:
    """How much higher a share is than another one, by resamples as in `relative_loss`.

    Args:
        ours: flags of one run each, with shape `(N,)`.
        theirs: of the other side's runs.
        seed: of the resamples.

    Raises:
        EdgeSpeechError: as `relative_loss`.
    """
    sides = [np.stack([np.stack(part), np.ones_like(np.stack(part))]) for part in (ours, theirs)]
    return _resampled(sides, lambda mine, other: mine - other, seed)


def _resampled(
    sides: Sequence[NDArray[np.float64]], statistic: Callable[[float, float], float], seed: int
) -> Estimate:
    if len({side.shape[2] for side in sides}) != 1:
        raise bad("understanding", "requests", [side.shape[2] for side in sides], "as many of both sides")
    ratios = [side[0].sum() / side[1].sum() for side in sides]
    rng = np.random.default_rng(seed + 1)
    units = Units.of([None] * sides[0].shape[2])
    draws = []
    for weights in units.weights(seed, RESAMPLES):
        for row in weights:
            drawn = []
            for side in sides:
                runs = rng.integers(side.shape[1], size=side.shape[1])
                top, bottom = side[:, runs] @ row
                drawn.append(top.sum() / max(bottom.sum(), _LEAST))
            draws.append(statistic(*drawn))
    return Estimate(float(statistic(*ratios)), units.interval(np.array(draws), RESAMPLES))


def best_threshold(requests: Sequence[Request], told: Sequence[Answer]) -> float:
    """The probability below which requests count as out of scope: the one with most right answers.

    Args:
        requests: of a tuning set, some of them out of scope.
        told: an answer to each.
    """
    found = (0.0, -1)
    for threshold in np.linspace(0, 0.99, 100):
        right = sum(
            one.intent == (answer.intent if answer.probability >= threshold else OUT_OF_SCOPE)
            for one, answer in zip(requests, told, strict=True)
        )
        found = max(found, (float(threshold), right), key=lambda pair: pair[1])
    return found[0]


def scoped(told: Sequence[Answer], threshold: float) -> list[Answer]:
    """Answers of which the unsure ones are out of scope."""
    return [
        one if one.probability >= threshold else Answer(OUT_OF_SCOPE, one.probability, one.tags)
        for one in told
    ]

"""Hearing the arms on the page's corpora, and comparing them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from replication.branching.arms import Arm, BranchArms
from replication.branching.hearing import (
    Mix,
    Said,
    Sound,
    chooser,
    energy_threshold,
    entropy_threshold,
    hear,
    sounds_of,
)

from edgespeech.core.files import write_atomic
from edgespeech.corpora.utterances import Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.harness.hear import word_errors
from edgespeech.metrics.statistics import Units, bootstrap_ratio
from edgespeech.metrics.word_errors import POOLED, WordErrors
from edgespeech.model.branching import Macs
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.records.records import without_paths

FRAME_S = 0.04
MARGIN = 0.05
"""How much less than an arm a control may cost, as a share, to be compared at equal cost."""
LOSSLESS = 0.005
"""Margin of non-inferiority on the pooled corpora: the project's own for every claim of "no loss"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """An arm as heard in one way.

    Attributes:
        way: how it was heard.
        label: the arm's name without its seed, and the way behind a colon where it is not the arm's own.
        seed: of its training.
        texts: of each utterance.
        cost: MACs of all frames of each utterance, in frames of the slow branch.
        slow: slow decisions of each utterance.
        count: decisions of each utterance.
    """

    way: str
    label: str
    seed: int
    texts: Sequence[str]
    cost: Sequence[float]
    slow: Sequence[float]
    count: Sequence[int]

    @property
    def warning(self) -> str | None:
        """What the record has to say of an arbitrator that decides nothing."""
        total, slow = sum(self.count), sum(self.slow)
        if total and slow in (0, total) and self.way == "own":
            return f"the arbitrator never switches: all {total} decisions are {'slow' if slow else 'fast'}"
        return None


class Listening:
    """The utterances of the page, and the arms as heard on them.

    Args:
        config: the page's: `corpora`, `tuning`.
        seed: of intervals and of random choices.

    Raises:
        EdgeSpeechError: no corpus is available.
    """

    def __init__(self, config: Mapping[str, Any], seed: int) -> None:
        self.seed = seed
        self.config = config
        self.utterances: Utterances = utterances_of(
            config["corpora"], seed=seed, count=config[config["profile"]]["utterances"]
        )
        self.words: WordErrors = word_errors(self.utterances)
        self.sounds = sounds_of(self.utterances, FRAME_S)
        self.frames = [one.frames for one in self.sounds]
        self.speakers = [
            None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in self.utterances
        ]

    @cached_property
    def tuning(self) -> list[Sound]:
        """Speech for thresholds, which is never speech for evaluation."""
        settings = self.config["tuning"]
        found = utterances_of({settings["corpus"]: "basic"}, seed=self.seed, count=settings["utterances"])
        return sounds_of(found, FRAME_S)

    def results(self, arms: BranchArms, folder: Path) -> Iterator[Result | Row]:
        """Every arm in each of its ways: heard now, or as published; or a row with the reason why not."""
        for arm in arms.arms.values():
            try:
                trained = arms.trained(arm)
            except EdgeSpeechError as error:
                for way in arm.ways:
                    said = self.published(arms, arm, way, folder)
                    reason = without_paths(str(error))
                    yield said or {"name": label_of(arm, way), "seed": arm.seed, "skipped": reason}
                continue
            for way in arm.ways:
                yield self.heard(arms, arm, trained, way)

    def heard(self, arms: BranchArms, arm: Arm, trained: TrainedBranching, way: str) -> Result:
        """One arm in one way."""
        threshold = self._threshold(arms, arm, trained, way)
        said = hear(trained, self.sounds, chooser(trained, way, self.sounds, threshold, self.seed))
        cost = [
            float(cost_of(trained.model.transcriber.macs, one.mix, arbitrated=way == "own").sum())
            for one in said
        ]
        return Result(
            way=way,
            label=label_of(arm, way),
            seed=arm.seed,
            texts=[one.text for one in said],
            cost=cost,
            slow=[float(one.mix.sum()) for one in said],
            count=[one.mix.size for one in said],
        )

    def _threshold(self, arms: BranchArms, arm: Arm, trained: TrainedBranching, way: str) -> float:
        """What a way needs to have the arm's share of slow frames: found on tuning speech."""
        if way not in ("random", "energy", "entropy"):
            return 0.0
        rate = arms.slow_share(arm)
        if way == "energy":
            return energy_threshold(self.tuning, trained.model.config.stack, rate)
        if way == "entropy":
            return entropy_threshold(self._at_random(trained, rate), rate)
        return rate

    def _at_random(self, trained: TrainedBranching, rate: float) -> list[Said]:
        return hear(trained, self.tuning, chooser(trained, "random", self.tuning, rate, self.seed))

    def published(self, arms: BranchArms, arm: Arm, way: str, folder: Path) -> Result | None:
        """An arm as published; None if it, or the utterances, have changed."""
        path = folder / "arms" / f"{arm.name}.{way}.json"
        if not path.is_file():
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("key") != self._key(arms, arm):
            return None
        return Result(way=way, label=label_of(arm, way), seed=arm.seed, **told)

    def publish(self, arms: BranchArms, found: Sequence[Result], folder: Path) -> None:
        """Keep the transcripts and costs of arms among the results."""
        by_name = {
            (label_of(arm, way), arm.seed): (arm, way) for arm in arms.arms.values() for way in arm.ways
        }
        for one in found:
            arm, way = by_name[one.label, one.seed]
            told = {"key": self._key(arms, arm), "texts": one.texts, "cost": one.cost}
            told |= {"slow": one.slow, "count": one.count}
            write_atomic(folder / "arms" / f"{arm.name}.{way}.json", json.dumps(told, indent=1) + "\n")

    def _key(self, arms: BranchArms, arm: Arm) -> str:
        return f"{arms.sha256(arm)} {sorted(self.utterances.manifests.items())} {len(self.utterances)}"

    def row(self, one: Result) -> Row:
        """An arm's row of the record."""
        errors = self.words.errors(one.texts)
        return {
            "name": one.label,
            "seed": one.seed,
            "cost": self.mean_cost(one),
            "slow": sum(one.slow) / max(1, sum(one.count)),
            "wer": {corpus: self.words.rate(errors, corpus) for corpus in self.words.corpora},
            **({} if one.warning is None else {"warning": one.warning}),
        }

    def mean_cost(self, one: Result) -> float:
        """MACs of a frame as a share of the slow branch's."""
        return sum(one.cost) / sum(self.frames)


def label_of(arm: Arm, way: str) -> str:
    """The name of an arm in one of its ways, without its seed."""
    return arm.first if way == arm.ways[0] else f"{arm.first}:{way}"


def cost_of(macs: Macs, mix: Mix, *, arbitrated: bool) -> NDArray[np.float64]:
    """MACs of each frame as a share of the slow branch's, with shape `(T,)`; without an arbitrator it costs none."""
    cost = macs.cost(torch.from_numpy(mix.astype(np.float64))).numpy()
    return cost if arbitrated else cost - macs.arbitrator / macs.all_slow


def by_seed(found: Sequence[Result], label: str) -> dict[int, Result]:
    """The results of a label by its seeds."""
    return {one.seed: one for one in found if one.label == label}


def comparisons(
    listening: Listening, found: Sequence[Result], asked: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    """Differences of pooled word error rates.

    Args:
        listening: the utterances.
        found: the arms.
        asked: of each the `claim`, the `arm`, what it is `against`, and perhaps `equal_cost`: then
            what costs more than `MARGIN` less is no control.
    """
    for entry in asked:
        names = entry["arm"], entry["against"]
        ours, theirs = (by_seed(found, name) for name in names)
        both = sorted(ours.keys() & theirs.keys())
        row: Row = {"claim": entry["claim"], "detail": f"{names[0]} against {names[1]}, pooled"}
        if not both:
            missing = [name for name, seeds in zip(names, (ours, theirs), strict=True) if not seeds] or names
            yield {**row, "skipped": f"not trained, or of no common seed: {', '.join(missing)}"}
            continue
        costs = [
            sum(map(listening.mean_cost, (seeds[seed] for seed in both))) / len(both)
            for seeds in (ours, theirs)
        ]
        if entry.get("equal_cost") and costs[1] < (1 - MARGIN) * costs[0]:
            told = f"not at equal cost: {costs[0]:.3f} against {costs[1]:.3f} of the slow branch"
            yield {**row, "skipped": told}
            continue
        errors = [[listening.words.errors(seeds[seed].texts) for seed in both] for seeds in (ours, theirs)]
        against = listening.words.compare(errors[0], errors[1])
        yield {**row, **against.as_row(), "costs": costs}


def saved(listening: Listening, seeds: Mapping[int, Result]) -> Row:
    """The share of MACs that an arm saves, the mean over its seeds, as fields of a row."""
    cost = np.mean([one.cost for one in seeds.values()], axis=0)
    frames = np.array(listening.frames, np.float64)
    row: Row = {"measured": 1 - float(cost.sum() / frames.sum()), "n": len(frames), "seeds": len(seeds)}
    if len(frames) < 2:
        return row
    told = bootstrap_ratio(frames - cost, frames, listening.speakers, seed=listening.seed)
    return {**row, **told.as_row()}


def lossless(listening: Listening, found: Sequence[Result], labels: Sequence[str], slow: str) -> Row | None:
    """What the cheapest of some arms saves that loses no words to the slow branch; None: none was heard."""
    best: Row = {"measured": 0.0, "n": len(listening.frames), "detail": "no point is without loss"}
    heard = False
    for label in labels:
        ours, theirs = by_seed(found, label), by_seed(found, slow)
        both = sorted(ours.keys() & theirs.keys())
        if not both or len(listening.frames) < 2:
            continue
        heard = True
        errors = [[listening.words.errors(seeds[s].texts) for s in both] for seeds in (ours, theirs)]
        told = saved(listening, {seed: ours[seed] for seed in both})
        if (
            listening.words.compare(errors[0], errors[1]).high <= LOSSLESS
            and told["measured"] > best["measured"]
        ):
            best = {**told, "detail": label}
    return best if heard else None


def ratio_of_shares(
    above: tuple[Sequence[float], Sequence[float]],
    below: tuple[Sequence[float], Sequence[float]],
    groups: Sequence[str | None],
    seed: int,
) -> Row:
    """A share over another, with its interval, as fields of a row.

    Args:
        above: numerators and denominators of each utterance.
        below: of the other share.
        groups: speakers.
        seed: of the resamples.
    """
    parts = np.array([*above, *below], np.float64)
    ratio = _double_ratio(parts.sum(axis=1)[:, None])
    row: Row = {"measured": float(ratio[0]), "n": parts.shape[1]}
    if parts.shape[1] < 2 or not np.isfinite(ratio[0]):
        return row
    units = Units.of(groups)
    sums = np.zeros((4, units.n))
    for part, own in zip(parts, sums, strict=True):
        np.add.at(own, units.index, part)
    resamples = 2000
    draws = np.concatenate([_double_ratio(sums @ weights.T) for weights in units.weights(seed, resamples)])
    return {**row, **units.interval(np.nan_to_num(draws, nan=np.inf), resamples).as_row()}


def _double_ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(a / b) / (c / d)` of rows a, b, c and d."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = (sums[0] / sums[1]) / (sums[2] / sums[3])
    return found


def pooled(one: Row) -> float:
    """An arm's pooled word error rate."""
    return float(one["wer"][POOLED]["wer"])

"""The trained arms of attention: their steps, and what they attend to.

`arms.yaml` has the arms (`edgespeech.arms.configuration`); they are trained by the ordinary steps of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgespeech.arms.attention import (
    AttentionMap,
    AttentionShares,
    attention_map,
    attention_plot,
    attention_shares,
    picture_of,
)
from edgespeech.arms.configuration import Arms, compression_base
from edgespeech.audio.features import Features
from edgespeech.biasing.pieces import phrase_labels
from edgespeech.core.yaml_files import load_yaml
from edgespeech.harness.checks import Row
from edgespeech.metrics.word_errors import paired_over_seeds
from edgespeech.model.biasing import MAX_PIECES
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.steps.step import Step

HERE = Path(__file__).parent
UNTRAINED = "not trained on this machine"
_SHOWN = 12
"""Entries of a picture, beside the right ones."""
ATTENDS, ELSEWHERE = "context_biasing.attends", "context_biasing.attends_elsewhere"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listened:
    """An utterance that an arm attends in.

    Attributes:
        features: with shape `(F, 80)`.
        text: the spoken words.
        phrases: of its list, in letters that word pieces spell.
        group: its speaker, for intervals; None: unknown.
    """

    features: Features
    text: str
    phrases: tuple[str, ...]
    group: str | None = None


def trained_arms() -> Arms:
    """The arms of `arms.yaml`, on `compression_base`."""
    return Arms(HERE, load_yaml(HERE / "arms.yaml"), compression_base())


def steps(profile: str, pattern: str = "*") -> list[Step]:
    """The steps that make the arms, see `Arms.steps`."""
    return trained_arms().steps(profile, pattern)


def attends(
    arms: Arms, families: Sequence[str], sets: dict[str, Sequence[Listened]], reason: str, seed: int
) -> Iterator[Row]:
    """What the arms with attention attend to, on each set, over the seeds that are trained.

    Args:
        arms: of the page.
        families: the arms' names without their seeds.
        sets: utterances by corpus.
        reason: why an arm is not trained.
        seed: of the intervals.
    """
    for family in families:
        ready = [arm for arm in arms.arms.values() if arm.first == family and arms.has_model(arm)]
        if not ready:
            yield {"claim": ATTENDS, "detail": family, "skipped": reason}
            continue
        models = [load_model(arms.model_folder(arm)) for arm in ready]
        for corpus, utterances in sets.items():
            yield from shares_of(models, f"{corpus}, {family}", utterances, seed)


def shares_of(
    models: Sequence[Trained], detail: str, utterances: Sequence[Listened], seed: int
) -> Iterator[Row]:
    """Rows of the two shares of one arm: in frames of listed phrases the right entry, in all others no-bias.

    Args:
        models: of the arm, by seed.
        detail: the condition.
        utterances: what they listen to; the first with all that its list has is the picture, by the first model.
        seed: of the intervals.
    """
    counts: list[list[AttentionShares]] = []
    groups: list[str | None] = []
    picture: Row = {}
    for one in utterances:
        told = [phrase_labels(one.phrases, trained.tokeniser.pieces, MAX_PIECES) for trained in models]
        maps = [
            attention_map(trained, one.features, one.text, phrases)
            for trained, phrases in zip(models, told, strict=True)
        ]
        found = [each for each in maps if each is not None]
        if len(found) < len(models):
            continue
        counts.append([attention_shares([each]) for each in found])
        groups.append(one.group)
        if not picture and found[0].targets.any() and len(told[0]) == len(one.phrases):
            picture = {"picture": shown(found[0], one.phrases, models[0].model.config.frame_s)}
    parts: tuple[tuple[str, str, str, Row], ...] = (
        (ATTENDS, "right", "phrase_frames", picture),
        (ELSEWHERE, "no_bias", "other_frames", {}),
    )
    for claim, right, frames, more in parts:
        hits, all_frames = (
            np.array([[getattr(one, name) for one in each] for each in counts], dtype=float).T
            for name in (right, frames)
        )
        if len(counts) < 2 or not all_frames.sum():
            yield {"claim": claim, "detail": detail, "skipped": "fewer than two utterances with such frames"}
            continue
        share, units = paired_over_seeds(
            hits, np.zeros_like(hits), all_frames.mean(axis=0), groups, seed=seed
        )
        yield {
            "claim": claim,
            "detail": detail,
            "measured": share.difference,
            **share.interval.as_row(),
            "resampled": units,
            "n": int(all_frames[0].sum()),
            "seeds": len(models),
            **more,
        }


def shown(found: AttentionMap, names: Sequence[str], frame_s: float) -> Row:
    """The picture of a map: the entries of which any frame has much, and the right ones."""
    rows = sorted(
        {
            *found.targets[found.targets > 0].tolist(),
            *(1 + found.shares[:, 1:].max(axis=0).argsort()[-_SHOWN:]),
        }
    )
    at = {int(entry): number for number, entry in enumerate([0, *rows])}
    some = AttentionMap(
        found.shares[:, list(at)], np.array([at[int(entry)] for entry in found.targets], dtype=np.int64)
    )
    return picture_of(some, [names[entry - 1] for entry in at if entry], frame_s)


def picture_of_rows(rows: Sequence[Row]) -> str | None:
    """The attention map of a record's rows as SVG; None without one."""
    found = [row["picture"] for row in rows if "picture" in row]
    return attention_plot(found[0]) if found else None

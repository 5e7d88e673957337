"""The trained arms of attention: their steps, and what they attend to.

`arms.yaml` has the arms (`edgespeech.arms.configuration`); they are trained by the ordinary steps of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgespeech.arms.attention import (
    AttentionMap,
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
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.biasing import MAX_PIECES
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.steps.step import Step

HERE = Path(__file__).parent
UNTRAINED = "not trained on this machine"
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


def attends(arms: Arms, sets: dict[str, Sequence[Listened]], seed: int) -> Iterator[Row]:
    """What each arm with attention attends to, on each set; the first utterance's map is a picture.

    Args:
        arms: of the page.
        sets: utterances by corpus.
        seed: of the intervals.
    """
    for arm in arms.arms.values():
        if arm.config is None or arm.config.biasing is None:
            continue
        if not arms.has_model(arm):
            yield {"claim": ATTENDS, "detail": arm.name, "skipped": UNTRAINED}
            continue
        trained = load_model(arms.model_folder(arm))
        for corpus, utterances in sets.items():
            yield from shares_of(trained, f"{corpus}, {arm.name}", utterances, seed)


def shares_of(trained: Trained, detail: str, utterances: Sequence[Listened], seed: int) -> Iterator[Row]:
    """Rows of the two shares of one model: in frames of listed phrases the right entry, in all others no-bias."""
    maps: list[AttentionMap] = []
    groups: list[str | None] = []
    picture: Row = {}
    for one in utterances:
        phrases = phrase_labels(one.phrases, trained.tokeniser.pieces, MAX_PIECES)
        found = attention_map(trained, one.features, one.text, phrases)
        if found is None:
            continue
        maps.append(found)
        groups.append(one.group)
        if not picture and found.targets.any() and len(phrases) == len(one.phrases):
            picture = {"picture": picture_of(found, one.phrases, trained.model.config.frame_s)}
    counts = [attention_shares([one]) for one in maps]
    parts: tuple[tuple[str, list[int], list[int], Row], ...] = (
        (ATTENDS, [one.right for one in counts], [one.phrase_frames for one in counts], picture),
        (ELSEWHERE, [one.no_bias for one in counts], [one.other_frames for one in counts], {}),
    )
    for claim, right, frames, more in parts:
        if len(frames) < 2 or not sum(frames):
            yield {"claim": claim, "detail": detail, "skipped": "fewer than two utterances with such frames"}
            continue
        interval = bootstrap_ratio(right, frames, groups, seed=seed)
        share = sum(right) / sum(frames)
        yield {
            "claim": claim,
            "detail": detail,
            "measured": share,
            **interval.as_row(),
            "n": sum(frames),
            **more,
        }


def picture_block(rows: Sequence[Row]) -> str | None:
    """The attention map of the newest record as SVG; None without one."""
    found = [row["picture"] for row in rows if "picture" in row]
    return attention_plot(found[0]) if found else None

"""The trained arms of attention on the page: their word errors with a list, and what they attend to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from replication.context_biasing import attention
from replication.context_biasing.attention import Listened, trained_arms
from replication.context_biasing.hearing import (
    BASE,
    NONE,
    HeardSet,
    hear_step,
    heard,
    label_of,
    plain,
    variant,
)
from replication.context_biasing.search import Counted, difference_over_seeds, gain_over_seeds

from edgespeech.arms.configuration import Arms
from edgespeech.biasing.phrases import BOOST
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.steps.step import Step

ATTENTION, FUSION, BOTH = "attention", "fusion", "both"
CLAIMS = ("attention", "both", "both_unbiased", "both_better", "attention_absent")


def steps(config: dict[str, Any], profile: str, only: str) -> list[Step]:
    """The arms' training, and what they hear. While the configuration has `waits`, only arms that `--only` names are
    trained.
    """
    trains = profile == "full" and (only != "*" or "waits" not in config["attention"])
    arms = trained_arms()
    made = attention.steps("full", only) if trains else []
    trained = {step.name for step in made}
    for arm in arms.arms.values():
        if arms.has_model(arm) or arms.pack_step(arm).name in trained:
            made += [_step(config, arms, arm.name, name) for name in config["attention"]["sets"]]
    return made


def _step(config: dict[str, Any], arms: Arms | None, model: str, name: str) -> Step:
    """The step that hears a set with an arm, or with what the arms go on from."""
    profile = config["profile"]
    fewer = {**config, profile: {**config[profile], "utterances": config[profile]["attention"]}}
    most, longest = config["headline"], max(config["counts"])
    listed = [variant(FUSION, most, BOOST)]
    needs: tuple[Step, ...] = ()
    if arms is not None:
        arm = arms.arms[model]
        needs = (arms.train_step(arm),)
        if arm.config is not None and arm.config.biasing is not None:
            listed = [variant(ATTENTION, count, 0.0) for count in dict.fromkeys((most, longest))]
            listed += [variant(BOTH, most, BOOST), variant(BOTH, most, BOOST, "absent")]
    return hear_step(fewer, name, model, [plain(), *listed], needs)


def reason_of(config: dict[str, Any]) -> str:
    """Why an arm is not trained."""
    waits = config["attention"].get("waits")
    return attention.UNTRAINED + (f": {waits}" if waits else "")


def trained(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word errors of every arm that is trained here, against the control and the other arms."""
    arms, how = trained_arms(), config["attention"]
    with_model = [name for name, arm in arms.arms.items() if arms.has_model(arm)]
    control = {arms.arms[name].seed: name for name in with_model if arms.arms[name].first == how["control"]}
    for family, about in how["arms"].items():
        models = {arms.arms[name].seed: name for name in with_model if arms.arms[name].first == family}
        seeds = sorted(models.keys() & control.keys())
        if not seeds:
            for claim in CLAIMS:
                yield {"claim": f"context_biasing.{claim}", "detail": about, "skipped": reason_of(config)}
            continue
        for name in how["sets"]:
            try:
                ours, theirs = (
                    [heard(_step(config, arms, each[one], name)) for one in seeds]
                    for each in (models, control)
                )
                base = heard(_step(config, None, BASE, name))
            except EdgeSpeechError as error:
                yield {"part": f"{about} on {name}", "skipped": str(error)}
                continue
            yield from rows_of(ours, theirs, base, f"{name}, {about}", config, seed)
    if not with_model:
        claim = "context_biasing.data_alone"
        yield {"claim": claim, "detail": "training without lists", "skipped": reason_of(config)}
    yield from attention.attends(arms, list(how["arms"]), listened(config), reason_of(config), seed)


def rows_of(
    ours: Sequence[HeardSet],
    control: Sequence[HeardSet],
    base: HeardSet,
    detail: str,
    config: dict[str, Any],
    seed: int,
) -> Iterator[Row]:
    """The claims about one arm on one set.

    Args:
        ours: by seed, what the arm wrote.
        control: by the same seeds, what training on the same speech without lists wrote.
        base: what all go on from wrote.
        detail: the condition.
        config: of the page.
        seed: of the intervals.
    """
    most, longest = config["headline"], max(config["counts"])

    def counted(some: Sequence[HeardSet], arm: str, kind: str = "full") -> list[Counted]:
        label = NONE if arm == NONE else label_of(arm, most, kind)
        return [one.counted(label, most, kind) for one in some]

    def row(claim: str, condition: str, found: Row) -> Row:
        return {"claim": f"context_biasing.{claim}", "detail": condition, **found}

    none, fused = (counted(control, arm) for arm in (NONE, FUSION))
    alone, both = (counted(ours, arm) for arm in (ATTENTION, BOTH))
    absent_none, absent = counted(control, NONE, "absent"), counted(ours, BOTH, "absent")
    yield row("attention", detail, gain_over_seeds(none, alone, "biased", seed))
    yield row("both", detail, gain_over_seeds(none, both, "biased", seed))
    yield row("both_unbiased", detail, difference_over_seeds(none, both, seed))
    yield row("both_better", f"{detail}, than fusion alone", gain_over_seeds(fused, both, "biased", seed))
    yield row("both_better", f"{detail}, than attention alone", gain_over_seeds(alone, both, "biased", seed))
    yield row("attention_absent", detail, gain_over_seeds(absent_none, absent, "errors", seed))
    started = [base.counted(NONE, most)] * len(control)
    yield row("data_alone", detail, gain_over_seeds(started, none, "biased", seed))
    shortened = [one.counted(label_of(ATTENTION, longest), longest) for one in ours]
    arms = {"control, none": none, "control, fusion": fused, "attention": alone, "attention and fusion": both}
    arms[f"attention to {config['shortlist']} of the list"] = shortened
    for name, some in arms.items():
        key = {"corpus": detail, "arm": name, "list": "full"}
        count = longest if some is shortened else most
        yield {"table": {**key, "count": count, **some[0].rates(seed)}, "n": len(some[0].errors)}


def listened(config: dict[str, Any]) -> dict[str, Sequence[Listened]]:
    """The utterances that the arms' attention is watched in, by set; sets that are not available are left out."""
    found: dict[str, Sequence[Listened]] = {}
    arms = trained_arms()
    if not any(arms.has_model(arm) for arm in arms.arms.values()):
        return found
    for name in config["attention"]["sets"]:
        try:
            one = heard(_step(config, None, BASE, name)).whole
        except EdgeSpeechError:  # the rows of this set say so
            continue
        found[name] = [
            Listened(
                features=case.features,
                text=case.text,
                phrases=one.phrases(case, config["headline"]),
                group=case.spoken.speaker,
            )
            for case in one.cases
        ]
    return found

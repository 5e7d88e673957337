"""Measure device-directed speech, write one record, and render it into this folder's README.

edgespeech replicate device_directed                  # measure with what is fitted or published
edgespeech replicate device_directed --profile full   # fit what is not fitted yet, measure, publish
edgespeech replicate device_directed --render         # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from replication.device_directed import sets, tables
from replication.device_directed.runs import (
    AUDIO_ONLY,
    CONTROLS,
    FILE,
    SPECTRUM,
    Controls,
    given_of,
    load_controls,
    steps_of,
)

from edgespeech.core.places import project_root, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.directed.score import Saved, load_classifier
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.metrics.statistics import Estimate, bootstrap_ratio
from edgespeech.metrics.verification import detected
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.report.page import run
from edgespeech.steps.published import newest_copy
from edgespeech.steps.step import Step

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "device_directed"
OWN = "audio and decoder"
CLAIMS = {"wake_word": "wake word", "energy": "energy", "microphones": SPECTRUM, "decoder": AUDIO_ONLY}
"""Of each comparison the control."""
UNTRAINED = "no classifier of the recogniser that ships is fitted here, and none is published"


class Fitted(NamedTuple):
    """A classifier with its controls."""

    saved: Saved
    controls: Controls


def fitted(config: dict[str, Any]) -> dict[int, Fitted]:
    """The classifier of each seed: of a step made here, which the full profile publishes, else as published."""
    steps, publish = {step.name: step for step in steps_of(config)}, config["profile"] == "full"
    folder, found = shipped_models() / "device_directed", {}
    for seed in config["seeds"]:
        step = steps[f"seed_{seed}"]
        paths = [
            newest_copy(step, file, folder / f"seed_{seed}.{file}", publish=publish)
            for file in (FILE, CONTROLS)
        ]
        if paths[0] is None or paths[1] is None:
            continue
        saved = load_classifier(paths[0])
        if saved.given_sha256 == sha256_json(given_of(config, seed)):
            found[seed] = Fitted(saved, load_controls(paths[1]))
    return found


def detection(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Equal error rates of the score and of its controls, and near misses."""
    runs = fitted(config)
    if not runs:
        for claim in ("eer", *CLAIMS, "near_misses"):
            yield {"claim": f"device_directed.{claim}", "skipped": UNTRAINED}
        return
    recogniser = sets.Recogniser()
    try:
        yield from _detected(config, runs, recogniser, seed)
        yield from _near_misses(config, runs, recogniser, seed)
    finally:
        recogniser.close()


def _heard(config: dict[str, Any], items: Any, recogniser: sets.Recogniser) -> sets.Heard:
    return sets.heard(items, recogniser.decode, recogniser.language, config["wake_words"])


def _detected(
    config: dict[str, Any], runs: Mapping[int, Fitted], recogniser: sets.Recogniser, seed: int
) -> Iterator[Row]:
    try:
        found = _heard(config, sets.test(config), recogniser)
    except EdgeSpeechError as error:
        for claim in ("eer", *CLAIMS):
            yield {"claim": f"device_directed.{claim}", "skipped": without_paths(str(error))}
        return
    yield from compared(found, runs, seed)


def compared(found: sets.Heard, runs: Mapping[int, Fitted], seed: int) -> Iterator[Row]:
    """The rows of test utterances as they were heard."""
    scores: dict[str, list[np.ndarray[Any, np.dtype[np.float64]]]] = {
        OWN: [one.saved.classifier.scores(found.features) for one in runs.values()]
    }
    for one in runs.values():
        for name, values in one.controls.scores(found).items():
            scores.setdefault(name, []).append(values)
    groups: list[str | None] = list(found.speakers)
    rates = {name: detected(own, found.directed, groups, seed=seed) for name, own in scores.items()}
    common: Row = {"n": len(found.directed), "seeds": len(runs)}
    yield {"claim": "device_directed.eer", **common, **_estimated(rates[OWN].eer_estimate())}
    for claim, name in CLAIMS.items():
        above = rates[OWN].eer_above(rates[name])
        yield {"claim": f"device_directed.{claim}", **common, **_estimated(above)}
    yield {"systems": {name: {"eer": one.eer} for name, one in rates.items()}}


def _estimated(estimate: Estimate) -> Row:
    """A value and its interval, which resamples training runs too."""
    row = {"measured": estimate.value, **estimate.interval.as_row()}
    return {**row, "resampled": (*row["resampled"], "seeds")}


def _near_misses(
    config: dict[str, Any], runs: Mapping[int, Fitted], recogniser: sets.Recogniser, seed: int
) -> Iterator[Row]:
    row: Row = {"claim": "device_directed.near_misses", "detail": config["near_misses"]["corpus"]}
    try:
        found = _heard(config, sets.near_misses(config), recogniser)
    except EdgeSpeechError as error:
        yield {**row, "skipped": without_paths(str(error))}
        return
    taken = np.stack(
        [one.saved.classifier.scores(found.features) >= one.saved.threshold for one in runs.values()]
    ).mean(0)
    groups: list[str | None] = list(found.speakers)
    interval = bootstrap_ratio(taken, np.ones(len(taken)), groups, seed=seed)
    yield {**row, "measured": float(taken.mean()), **interval.as_row(), "n": len(taken), "seeds": len(runs)}


def vision(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What no corpus here allows."""
    del config, seed
    yield {"claim": "device_directed.vision", "skipped": "no recorded visual data"}


def _steps(profile: str, only: str) -> Sequence[Step]:
    return steps_of(load_yaml(HERE / "config.yaml"), only) if profile == "full" else ()


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(detection, vision),
    blocks={"scores": tables.scores_block},
    steps=_steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, render_only=options.render)

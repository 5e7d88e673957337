"""Measure lists of phrases in the search; one record, rendered into this README.

edgespeech replicate context_biasing                  # seeded subsets, minutes
edgespeech replicate context_biasing --profile full   # every utterance; train the arms once the base model is ready
edgespeech replicate context_biasing --render         # render the newest record only

`hearing.py` has the steps that recognise and `costs.py` the one that takes times, which runs on an idle machine alone.
`tune.py` chose the bonus of a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from replication.context_biasing import peers as beside
from replication.context_biasing import tables
from replication.context_biasing import trained as arms
from replication.context_biasing.costs import costs_of, costs_step, sizes
from replication.context_biasing.hearing import (
    NONE,
    HeardSet,
    all_steps,
    hear_step,
    heard,
    label_of,
    lattice_step,
)
from replication.context_biasing.search import Counted, difference, increase
from replication.context_biasing.search import gain as gain_of

from edgespeech.core.files import sha256_file
from edgespeech.core.places import edge_model, project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, View, parser
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.checkpoint import WEIGHTS
from edgespeech.records.records import without_paths
from edgespeech.records.used import note_model
from edgespeech.report.page import run
from edgespeech.steps.step import Step

HERE = Path(__file__).parent
FUSION = "fusion"
COSTS = ("chunk", "chunk_long", "build", "attention_chunk")


def named(name: str) -> str:
    """The claim's id."""
    return f"context_biasing.{name}"


def gain(before: Counted, after: Counted, seed: int) -> Row:
    """The relative reduction of errors on listed words, as fields of a row, without a minus before zero."""
    row = gain_of(before, after, "biased", seed)
    return {name: value + 0.0 if isinstance(value, float) else value for name, value in row.items()}


def lists(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word errors of edge-fp32 on every set, by the length and the kind of lists."""
    note_model(f"edge-fp32/{WEIGHTS}", lambda: sha256_file(edge_model() / WEIGHTS))
    for name in config["sets"]:
        try:
            found = heard(hear_step(config, name))
        except EdgeSpeechError as error:
            yield {"part": f"lists of {name}", "skipped": without_paths(str(error))}
            continue
        for corpus, reason in found.missing.items():
            yield {"part": f"lists of {corpus}", "skipped": without_paths(reason)}
        yield from _of_set(config, found, name, seed)


def _of_set(config: dict[str, Any], found: HeardSet, name: str, seed: int) -> Iterator[Row]:
    most = config["headline"]

    def told(count: int, kind: str = "full") -> Counted:
        return found.counted(label_of(FUSION, count, kind), count, kind)

    def data(arm: str, count: int, kind: str, counted: Counted) -> Row:
        key = {"corpus": name, "arm": arm, "count": count, "list": kind}
        return {"table": key | counted.rates(seed), "n": len(counted.errors)}

    none, full = found.counted(NONE, most), told(most)
    yield data(NONE, 0, "full", none)
    for count in config["counts"]:
        yield data(FUSION, count, "full", told(count))
    same = found.found["empty"]
    yield {"claim": named("empty"), "detail": name, "measured": sum(same) / len(same), "n": len(same)}
    for claim in ("fusion", "fusion_25"):
        yield {"claim": named(claim), "detail": name, **gain(none, full, seed)}
    yield {"claim": named("unbiased"), "detail": name, **difference(none, full, seed)}
    yield data(FUSION, most, "oracle", told(most, "oracle"))
    for kind in ("absent", "anti"):
        before, after = found.counted(NONE, most, kind), told(most, kind)
        yield data(FUSION, most, kind, after)
        yield {"claim": named(kind), "detail": name, **increase(before, after, "errors", seed)}
        for arm, counted in (("no list in the search", before), ("in the search", after)):
            yield {
                "claim": named("invented"),
                "detail": f"{name}, {kind} list, {arm}",
                **per_hour(counted, seed),
            }


def per_hour(counted: Counted, seed: int) -> Row:
    """Phrases of the list that nobody said, per hour, as fields of a row."""
    hours = [seconds / 3600 for seconds in counted.seconds]
    interval = bootstrap_ratio(counted.invented, hours, counted.groups, seed=seed).as_row()
    return {"measured": sum(counted.invented) / sum(hours), **interval, "n": len(hours)}


def lattices(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Fusion in the search against fusion of its lattice after it; the engine against torch; lists made short."""
    most = config["headline"]
    for name in config["lattice_sets"]:
        try:
            found, by_engine = heard(lattice_step(config, name)), heard(hear_step(config, name))
        except EdgeSpeechError as error:
            yield {"part": f"lattices of {name}", "skipped": without_paths(str(error))}
            continue
        arms = {label: found.counted(label, most) for label in found.texts if label != "torch"}
        for label, counted in arms.items():
            key = {"corpus": name, "arm": f"lattice, {tables.LATTICES[label]}", "count": most, "list": "full"}
            yield {"table": key | counted.rates(seed), "n": len(counted.errors)}
        for claim, part in (("lattice", "oracle"), ("behind", "best")):
            before, after = arms[f"behind {part}"], arms[f"inside {part}"]
            counts = (
                f"{sum(before.biased)} errors on listed words after the search, {sum(after.biased)} in it"
            )
            yield {"claim": named(claim), "detail": f"{name}; {counts}", **gain(before, after, seed)}
        by_torch = found.texts["torch"]
        texts = by_engine.texts[label_of(FUSION, most)]
        same = [one == other for one, other in zip(by_torch, texts, strict=False)]
        yield {"claim": named("native"), "detail": name, "measured": sum(same) / len(same), "n": len(same)}
        left, right = zip(*found.found["left"], strict=True)
        groups = [case.spoken.speaker for case in found.whole.cases]
        yield {
            "claim": named("shortlist"),
            "detail": name,
            "measured": sum(left) / sum(right),
            "n": sum(right),
            **bootstrap_ratio(left, right, groups, seed=seed).as_row(),
        }


def costs(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Times and bytes."""
    del seed  # the step has its own
    yield from sizes(config)
    try:
        yield from costs_of(costs_step(config))
    except EdgeSpeechError as error:
        for claim in COSTS:
            yield {"claim": named(claim), "skipped": without_paths(str(error))}


def peers(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What a device would have executed, beside others that are told the same."""
    yield from beside.peers(config, seed)


def trained(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The arms of attention."""
    yield from arms.trained(config, seed)


def steps(profile: str, only: str) -> Sequence[Step]:
    """All that is heard and timed, and the arms."""
    config = {**load_yaml(HERE / "config.yaml"), "profile": profile}
    return [*all_steps(config), costs_step(config), *arms.steps(config, profile, only)]


def plots(view: View | None) -> dict[str, str]:
    """B-WER by the length of the list, and the attention of a trained model."""
    return tables.plots(view)


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "context_biasing",
    checks=(lists, lattices, trained, peers, costs),
    blocks={
        "lengths": tables.lengths_block,
        "kinds": tables.kinds_block,
        "attention": tables.attention_block,
        "peers": tables.peers_block,
        "arms": tables.arms_block,
    },
    plots=plots,
    steps=steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, render_only=options.render)

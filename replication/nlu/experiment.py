"""Measure understanding on the device, write one record, and render it into this folder's README.

edgespeech replicate nlu                                 # measure with what is trained or published
edgespeech replicate nlu --profile full                  # train what is not trained yet, measure, publish and ship
edgespeech replicate nlu --profile full --only 'codes'   # train some of the arms only, then the same
edgespeech replicate nlu --render                        # render the newest record only
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from replication.nlu import heard, tables
from replication.nlu.runs import (
    FILE,
    PUBLISHED,
    SCORES,
    Run,
    array_of,
    counts_of,
    load_scores,
    runs_of,
    steps_of,
)
from replication.nlu.sets import drawn

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, busy, parser
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_share, quantile
from edgespeech.records.used import note_model
from edgespeech.report.page import run
from edgespeech.steps.store import folder_of, is_made
from edgespeech.understanding.packing import load_twin
from edgespeech.understanding.runtime import Understander, shipped_network
from edgespeech.understanding.scoring import Counts, answers, difference, relative_loss

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "nlu"
Scores = Mapping[str, Any]


def scores_of(config: Mapping[str, Any]) -> dict[str, dict[int, Scores]]:
    """The scores of every arm by seed: of a run made here, which the full profile publishes, else as published."""
    found: dict[str, dict[int, Scores]] = {}
    steps = {step.name: step for step in steps_of(config)}
    for one in runs_of(config):
        step, published = steps[one.name], PUBLISHED / f"{one.name}.json.xz"
        if is_made(step):
            told = load_scores(folder_of(step) / SCORES)
            if config["profile"] == "full":
                write_atomic(published, (folder_of(step) / SCORES).read_bytes())
                _ship(config, one, folder_of(step) / FILE)
        elif published.is_file():
            told = load_scores(published)
            if told["given_sha256"] != one.sha256:
                continue
        else:
            continue
        found.setdefault(one.arm, {})[one.seed] = told
    return found


def _ship(config: Mapping[str, Any], one: Run, file: Path) -> None:
    """Publish a run's file of ours; the first seed's is what ships."""
    if one.arm != config["ours"]:
        return
    write_atomic(PUBLISHED / f"{one.name}.edge", file.read_bytes())
    if one.seed == config["arms"][one.arm].get("seeds", [1])[0]:
        write_atomic(shipped_network(), file.read_bytes())


def test_counts(runs: Mapping[int, Scores], name: str) -> list[Counts]:
    """The counts of one test set, of each run."""
    return [counts_of(told["test"][name]) for _, told in sorted(runs.items())]


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every arm on every set, ours against the reference, and against the controls of as many bytes."""
    found = scores_of(config)
    for arm, told in config["arms"].items():
        if arm not in found:
            yield {"part": f"arm {arm}", "skipped": "not trained on this machine, and not published"}
            continue
        yield from _arm(config, arm, told["about"], found[arm])
    ours, reference = config["ours"], config["reference"]
    for mine in (ours, config["smallest"]):
        absent = [arm for arm in (mine, reference) if arm not in found]
        if absent:
            for claim in ("nlu.intents", "nlu.slots", "nlu.smaller", "nlu.near", "nlu.size"):
                yield {"claim": claim, "detail": mine, "skipped": f"not trained: {', '.join(absent)}"}
        else:
            yield from _losses(config, mine, found[mine], found[reference], seed)
    for arm in config["equal_bytes"]:
        row: Row = {"claim": "nlu.equal_bytes", "detail": f"{ours} against {arm}"}
        if ours not in found or arm not in found:
            yield {**row, "skipped": f"not trained: {arm if ours in found else ours}"}
            continue
        sides = [_public(config, found[name]) for name in (ours, arm)]
        gain = difference(*sides, seed=seed)
        sizes = [_bytes(found[name]) for name in (ours, arm)]
        row["detail"] += f", {sizes[0]:,} and {sizes[1]:,} bytes"
        yield {**row, "measured": gain.value, **_both(gain.interval.as_row()), "n": len(sides[0][0]),
               "seeds": min(len(found[name]) for name in (ours, arm))}  # fmt: skip


def _both(interval: Row) -> Row:
    return {**interval, "resampled": ("utterances", "seeds")}


def _bytes(runs: Mapping[int, Scores]) -> int:
    return max(int(told["bytes"]) for told in runs.values())


def _public(config: Mapping[str, Any], runs: Mapping[int, Scores]) -> list[np.ndarray[Any, Any]]:
    """Flags of all public test sets together, of each run."""
    return [
        np.concatenate([array_of(told["test"][name]["right"]) for name in config["public"]])
        for _, told in sorted(runs.items())
    ]


def _arm(config: Mapping[str, Any], arm: str, about: str, runs: Mapping[int, Scores]) -> Iterator[Row]:
    sets, mean = {}, []
    for name in next(iter(runs.values()))["test"]:
        counts = test_counts(runs, name)
        slots = sum(one.marked.sum() for one in counts) > 0
        accuracy = float(np.mean([one.accuracy for one in counts]))
        f1 = float(np.mean([one.f1 for one in counts])) if slots else None
        sets[name] = {"intent": accuracy, "f1": f1}
        row = {"detail": f"{arm}, {name}", "n": len(counts[0].right), "seeds": len(counts)}
        yield {"claim": "nlu.accuracy", "measured": accuracy, **row}
        if f1 is not None:
            yield {"claim": "nlu.f1", "measured": f1, **row}
    for _, told in sorted(runs.items()):
        mean.append(
            float(np.mean([array_of(told["test"][name]["right"]).mean() for name in config["public"]]))
        )
    yield {
        "arm": {
            "name": arm,
            "about": about,
            "seeds": len(runs),
            "bytes": _bytes(runs),
            "words": max(told["words"] for told in runs.values()),
            "sets": sets,
            "public": mean,
        }
    }


def _losses(
    config: Mapping[str, Any],
    arm: str,
    ours: Mapping[int, Scores],
    reference: Mapping[int, Scores],
    seed: int,
) -> Iterator[Row]:
    sizes = _bytes(ours), _bytes(reference)
    for claim in ("nlu.smaller", "nlu.near"):
        yield {"claim": claim, "detail": f"{arm}, {sizes[0]:,} of {sizes[1]:,} bytes",
               "measured": 1 - sizes[0] / sizes[1]}  # fmt: skip
    yield {"claim": "nlu.size", "detail": f"{arm}, the largest seed's", "measured": sizes[0]}
    for name in config["public"]:
        mine, theirs = test_counts(ours, name), test_counts(reference, name)
        row = {"detail": f"{arm}, {name}", "n": len(mine[0].right), "seeds": min(len(mine), len(theirs))}
        ones = [np.ones(len(mine[0].right))]
        loss = relative_loss(
            [one.right for one in mine],
            [one.right for one in theirs],
            ones * len(mine),
            ones * len(theirs),
            seed=seed,
        )
        yield {"claim": "nlu.intents", "measured": loss.value, **_both(loss.interval.as_row()), **row}
        if theirs[0].marked.sum() == 0:
            continue
        loss = relative_loss(
            [one.agreed for one in mine],
            [one.agreed for one in theirs],
            [one.marked for one in mine],
            [one.marked for one in theirs],
            seed=seed,
        )
        yield {"claim": "nlu.slots", "measured": loss.value, **_both(loss.interval.as_row()), **row}


def scope(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Requests out of scope, by thresholds chosen on the tuning splits; intervals are of the first seed's run."""
    found = scores_of(config)
    for arm in (config["reference"], config["ours"]):
        if arm not in found:
            yield {"claim": "nlu.scope", "detail": arm, "skipped": f"not trained: {arm}"}
            continue
        for claim, part in (("nlu.scope", "outside"), ("nlu.in_scope", "inside")):
            runs = [array_of(told["scope"][part]) for _, told in sorted(found[arm].items())]
            share = bootstrap_share([bool(flag) for flag in runs[0]], [None] * len(runs[0]), seed=seed)
            value = float(np.mean([one.mean() for one in runs]))
            yield {"claim": claim, "detail": arm, "measured": value, **share.as_row(), "n": len(runs[0]),
                   "seeds": len(runs)}  # fmt: skip


def shipped() -> Path:
    """The file that ships.

    Raises:
        EdgeSpeechError: it is not there.
    """
    path = shipped_network()
    if not path.is_file():
        raise EdgeSpeechError("no understanding network ships yet: edgespeech replicate nlu --profile full")
    note_model("understanding/model.edge", lambda: sha256_file(path))
    return path


def engine(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The engine against its twin, and its time an utterance, on requests of our grammars' test part."""
    del seed
    path, scheme = shipped(), config["speed"]["scheme"]
    requests = drawn(config["schemes"][scheme], "test")[: config["speed"]["requests"]]
    told = answers(load_twin(path), scheme, [one.words for one in requests])
    with Understander(path) as native:
        again = [native.understand_words(one.words, scheme) for one in requests]
    same = [(a.intent, a.tags) == (b.intent, b.tags) for a, b in zip(told, again, strict=True)]
    yield {"claim": "nlu.native", "detail": scheme, "measured": sum(same) / len(same), "n": len(same)}


def speed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The time of a request from its text on, one at a time, on one thread."""
    path, settings = shipped(), config["speed"]
    row: Row = {"claim": "nlu.time", "detail": f"{settings['scheme']}, from the text on"}
    if (reason := busy()) is not None:
        yield {**row, "skipped": reason}
        return
    times = times_ms(path, config)
    found = bootstrap_quantile([[one] for one in times], 0.5, [None] * len(times), seed=seed)
    row["detail"] += f"; 95 % of them within {quantile(times, 0.95):.2f} ms"
    yield {**row, "measured": quantile(times, 0.5), **found.as_row(), "n": len(times)}


def times_ms(path: Path, config: Mapping[str, Any]) -> list[float]:
    """Milliseconds of each request of our grammars' test part."""
    scheme = config["speed"]["scheme"]
    texts = [one.text for one in drawn(config["schemes"][scheme], "test")[: config["speed"]["requests"]]]
    found = []
    with Understander(path) as native:
        for text in texts[: config["speed"]["warm"]]:
            native.understand(text, scheme)
        for text in texts:
            begun = time.perf_counter()
            native.understand(text, scheme)
            found.append(1000 * (time.perf_counter() - begun))
    return found


def recognised(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Published transcripts of spoken requests."""
    with Understander(shipped()) as model:
        yield from heard.recognised(config, model, seed)


def lattice(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Lattices of spoken requests."""
    with Understander(shipped()) as model:
        yield from heard.lattices(config, model, seed)


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, scope, engine, speed, recognised, lattice),
    blocks={"arms": tables.arms_block, "published": tables.published_block},
    plots=tables.plots,
    steps=lambda profile, only: steps_of(load_yaml(HERE / "config.yaml"), only) if profile == "full" else (),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, render_only=options.render)

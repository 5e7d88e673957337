"""Measure one recogniser of two languages beside monolingual ones and an identifier; write one record, and render it.

edgespeech replicate two_languages                                # measure with what is trained or published
edgespeech replicate two_languages --profile full                 # make speech, train, measure and publish
edgespeech replicate two_languages --profile full --only 'joint'  # make and train some networks only, then the same
edgespeech replicate two_languages --render                       # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from replication.two_languages import figures, tables
from replication.two_languages.runs import PUBLISHED, WORLD, heard_by, runs_of, steps_of

from edgespeech.core.yaml_files import load_yaml
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.report.page import run

HERE = Path(__file__).parent
RESULTS = PUBLISHED.parent
Heard = Mapping[str, Any]
JOINT = "joint"
IDENTIFIER = "identifier"


def all_heard(config: Mapping[str, Any]) -> dict[str, list[Heard]]:
    """What every network heard, by arm, one entry a seed; arms of which a seed is not trained are left out."""
    found: dict[str, list[Heard]] = {}
    absent = set()
    for one in runs_of(config):
        heard = heard_by(config, one)
        if heard is None:
            absent.add(one.arm)
        else:
            found.setdefault(one.arm, []).append(heard)
    return {arm: seeds for arm, seeds in found.items() if arm not in absent}


def _absent(found: Mapping[str, Any], *arms: str) -> str | None:
    """Why arms cannot be measured; None if all were heard."""
    missing = [arm for arm in arms if arm not in found]
    return f"not trained: {', '.join(missing)}" if missing else None


def _tests(seeds: Sequence[Heard], name: str) -> list[Any] | None:
    """A test of every seed; None where one has not heard it."""
    found = [heard["tests"].get(name) for heard in seeds]
    return None if any(one is None for one in found) else found


def words(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word error rates of every network on every test, and of the joint one over the monolingual ones."""
    found = all_heard(config)
    for arm, told in config["arms"].items():
        if told.get("identifies"):
            continue
        if (reason := _absent(found, arm)) is not None:
            yield {"part": f"arm {arm}", "skipped": reason}
            continue
        for name in sorted(found[arm][0]["tests"]):
            tests = _tests(found[arm], name)
            if tests is None or name in ("sessions", "third"):
                continue
            yield {"claim": "two_languages.wer", "detail": f"{arm}, {name}", **figures.word_rate(tests, seed)}
    for language in config["test"]:
        for claim, part in (("two_languages.words", "test"), ("two_languages.names", "switched")):
            row: Row = {"claim": claim, "detail": language}
            if (reason := _absent(found, JOINT, language)) is not None:
                yield {**row, "skipped": reason}
                continue
            ours, theirs = (_tests(found[arm], f"{part}/{language}") for arm in (JOINT, language))
            if ours is None or theirs is None:
                yield {**row, "skipped": f"{part}/{language} was not heard"}
            elif claim == "two_languages.words":
                yield {**row, **figures.relative_words(ours, theirs, seed)}
            else:
                yield {**row, **figures.compared_words(ours, theirs, seed)}


def named(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Languages named by the joint recogniser and by the identifier, at the end and after some seconds."""
    found = all_heard(config)
    times = [*config["times"], None]
    early = config["times"].index(config["early"])
    languages = list(config["test"])
    for arm in (JOINT, IDENTIFIER):
        if (reason := _absent(found, arm)) is not None:
            yield {"part": f"languages named by {arm}", "skipped": reason}
            continue
        for part in ("test", "switched", "real"):
            rows = figures.named_rows(found[arm], part, languages)
            if rows is None:
                yield {"part": f"{part}, named by {arm}", "skipped": "not heard in both languages"}
                continue
            for place, time in enumerate(times):
                when = "end" if time is None else f"{time:g} s"
                share = figures.named_right(rows, place, seed)
                yield {"claim": "two_languages.named", "detail": f"{arm}, {part}, {when}", **share}
                yield {"curve": {"arm": arm, "part": part, "time": time, "share": share["measured"]}}
            yield {"confusion": {"arm": arm, "part": part, "counts": figures.confusion(rows, languages)}}
    for claim, place in (("two_languages.end", len(times) - 1), ("two_languages.early", early)):
        row: Row = {"claim": claim, "detail": "held-out voices"}
        reason = _absent(found, JOINT)
        rows = None if reason else figures.named_rows(found[JOINT], "test", languages)
        if rows is None:
            yield {**row, "skipped": reason or "not heard in both languages"}
        else:
            yield {**row, **figures.named_right(rows, place, seed)}
    row = {"claim": "two_languages.matches", "detail": "held-out voices, end"}
    if (reason := _absent(found, JOINT, IDENTIFIER)) is not None:
        yield {**row, "skipped": reason}
    else:
        sides = [figures.named_rows(found[arm], "test", languages) for arm in (JOINT, IDENTIFIER)]
        if sides[0] is None or sides[1] is None:
            yield {**row, "skipped": "not heard in both languages"}
        else:
            yield {**row, **figures.named_better(sides[0], sides[1], len(times) - 1, seed)}


def third(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """How often the head is sure of one of its languages, of speech in them and in a third one."""
    found, languages = all_heard(config), list(config["test"])
    if (reason := _absent(found, JOINT)) is not None:
        yield {"claim": "two_languages.sure", "detail": "all", "skipped": reason}
        return
    for part in ("real", "third"):
        rows: Sequence[figures.Named] | None = figures.named_rows(found[JOINT], part, languages)
        if part == "third":
            tests = _tests(found[JOINT], part)
            rows = None if tests is None else [[("", row) for row in test["rows"]] for test in tests]
        row: Row = {
            "claim": "two_languages.sure",
            "detail": "en and es" if part == "real" else "third languages",
        }
        if rows is None:
            yield {**row, "skipped": "not heard"}
        else:
            yield {**row, **figures.sure(rows, config["sure"], seed)}


def memory(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Bytes of the files in single precision: one recogniser with its head, over two and an identifier."""
    del seed
    found = all_heard(config)
    row: Row = {"claim": "two_languages.memory", "detail": "files in single precision"}
    others = (*config["test"], IDENTIFIER)
    if (reason := _absent(found, JOINT, *others)) is not None:
        yield {**row, "skipped": reason}
        return
    own, theirs = found[JOINT][0]["bytes"], sum(found[arm][0]["bytes"] for arm in others)
    yield {**row, "detail": f"{own:,} of {theirs:,} bytes", "measured": own / theirs}


def sessions(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Sessions that change the language with every utterance, heard as one stream."""
    found = all_heard(config)
    reason = _absent(found, JOINT)
    told = None if reason else _tests(found[JOINT], "sessions")
    if told is None:
        for claim in ("two_languages.session", "two_languages.switch"):
            yield {"claim": claim, "detail": JOINT, "skipped": reason or "sessions were not heard"}
        return
    alone = {part: _tests(found[JOINT], f"test/{part}") for part in config["test"]}
    yield {"claim": "two_languages.session", "detail": JOINT, **figures.session_words(told, alone, seed)}
    delays = [np.concatenate([session["delays"] for session in one]) for one in told]
    yield {"claim": "two_languages.switch", "detail": JOINT, **figures.median_delay(delays, seed)}
    yield {"delays": [[float(value) for value in one] for one in delays]}


def worldwide(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The identifier of all languages of Common Voice, after some seconds and at the end of the clips."""
    found = all_heard(config)
    if (reason := _absent(found, WORLD)) is not None:
        yield {"claim": "two_languages.world", "detail": "all languages", "skipped": reason}
        return
    tests = found[WORLD][0]["tests"]["world"]
    rows = [[(code, row) for code, some in sorted(tests.items()) for row in some]]
    for place, time in enumerate([*config["times"], None]):
        when = "end" if time is None else f"{time:g} s"
        share = figures.named_right(rows, place, seed)
        yield {"claim": "two_languages.world", "detail": f"{len(tests)} languages, {when}", **share}
        yield {"curve": {"arm": WORLD, "part": "world", "time": time, "share": share["measured"]}}
    yield {"languages": figures.by_language(rows[0])}


def steps(profile: str, only: str) -> list[Any]:
    """The full profile makes speech, trains and hears; the quick one makes nothing."""
    return (
        steps_of({**load_yaml(HERE / "config.yaml"), "profile": profile}, only) if profile == "full" else []
    )


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(words, named, third, memory, sessions, worldwide),
    blocks={"arms": tables.arms_block, "languages": tables.languages_block},
    plots=tables.plots,
    steps=steps,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(arguments)
    run(PAGE, render_only=options.render)

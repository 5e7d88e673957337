"""Measure lists of phrases in the search; one record, rendered into this README.

edgespeech replicate context_biasing                  # seeded subsets, minutes
edgespeech replicate context_biasing --profile full   # every utterance
edgespeech replicate context_biasing --render         # render the newest record only

`tune.py` in this folder chose the bonus of a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from replication.context_biasing import speed
from replication.context_biasing.lists import Set, sets_of
from replication.context_biasing.search import (
    Counted,
    count_texts,
    counted,
    difference,
    gain,
    lattice_texts,
    lattices_of,
    packed_arm,
    torch_arm,
)

from edgespeech.biasing.phrases import BOOST
from edgespeech.core.places import edge_model, project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.phrases import load_phrases
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.hear import hear
from edgespeech.model.checkpoint import load_model
from edgespeech.packed.runtime import PackedModel
from edgespeech.report.page import run
from edgespeech.report.text import markdown_table
from edgespeech.search.settings import SearchSettings
from edgespeech.steps.step import Step
from edgespeech.synthesis.step import speech_steps
from edgespeech.systems.edge_packed import EdgePacked
from edgespeech.text.normalise import normalisers

HERE = Path(__file__).parent
UNTRAINED = "needs training from compression-base"
TRAINED_CLAIMS = ("both", "attends", "attention_chunk")
NONE, FUSION = "none", "fusion"


@cache
def _sets(profile: str, seed: int, folder: Path) -> tuple[list[Set], dict[str, str]]:
    config = load_yaml(folder / "config.yaml")
    return sets_of(config["corpora"], seed=seed, count=config[profile]["utterances"])


def sets_in(config: dict[str, Any], seed: int) -> tuple[list[Set], list[Row]]:
    """The sets of this profile, and rows for those that are not available."""
    found, missing = _sets(config["profile"], seed, HERE)
    return found, [{"part": f"lists of {name}", "skipped": reason} for name, reason in missing.items()]


def normaliser_of(config: dict[str, Any], name: str) -> str:
    """The normaliser of a set."""
    by_name = {Path(corpus).stem: how["normaliser"] for corpus, how in config["corpora"].items()}
    return str(by_name[name])


def named(name: str) -> str:
    """The claim's id."""
    return f"context_biasing.{name}"


def words(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word errors of edge-packed, as it ships, by the length and the kind of lists."""
    sets, missing = sets_in(config, seed)
    yield from missing
    with PackedModel(EdgePacked().path()) as model:
        transcribe = packed_arm(model, BOOST, config["beam"])
        for one in sets:
            if len(one.cases) > 1:
                yield from _of_set(config, seed, one, transcribe)


def _of_set(config: dict[str, Any], seed: int, one: Set, transcribe: Any) -> Iterator[Row]:
    normaliser, most = normaliser_of(config, one.name), config["headline"]

    def arm(count: int, kind: str, *, told: bool = True) -> Counted:
        return counted(one, normaliser, count, kind, transcribe, told=told)

    def data(name: str, count: int, kind: str, found: Counted) -> Row:
        key = {"corpus": one.name, "arm": name, "count": count, "list": kind}
        return {"table": key | found.rates(seed), "n": len(one.cases)}

    plain = arm(most, "full", told=False)
    yield data(NONE, 0, "full", plain)
    empty = arm(0, "full")
    same = sum(a == b for a, b in zip(plain.texts, empty.texts, strict=True)) / len(one.cases)
    yield {"claim": named("empty"), "detail": one.name, "measured": same, "n": len(one.cases)}
    for count in dict.fromkeys([*config["counts"], most]):
        found = arm(count, "full")
        yield data(FUSION, count, "full", found)
        if count == most:
            yield {"claim": named("fusion"), "detail": one.name, **gain(plain, found, "biased", seed)}
            yield {"claim": named("fusion_25"), "detail": one.name, **gain(plain, found, "biased", seed)}
            yield {"claim": named("unbiased"), "detail": one.name, **difference(plain, found, seed)}
    for kind in ("oracle", "absent", "anti"):
        found = arm(most, kind)
        yield data(FUSION, most, kind, found)
        if kind != "oracle":
            yield {"claim": named(kind), "detail": one.name, **gain(plain, found, "errors", seed)}
        if kind == "absent":
            per_hour = 3600 * sum(found.invented) / sum(found.seconds)
            yield {
                "claim": named("invented"),
                "detail": f"{one.name}, lists without the right phrase",
                "measured": per_hour,
                "n": len(one.cases),
            }


def by_torch(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The same for edge-fp32, on fewer utterances."""
    sets, _ = sets_in(config, seed)
    trained, amount = load_model(edge_model()), config[config["profile"]]["torch"]
    transcribe = torch_arm(trained, BOOST, SearchSettings(beam=config["beam"]))
    for whole in sets:
        one = Set(whole.name, whole.cases[:amount], whole.pool, whole.seed)
        if one.name not in config["torch_corpora"] or len(one.cases) < 2:
            continue
        normaliser, most = normaliser_of(config, one.name), config["headline"]
        plain, found = (
            counted(one, normaliser, most, "full", transcribe, told=told) for told in (False, True)
        )
        detail = f"{one.name}, edge-fp32"
        yield {"claim": named("fusion"), "detail": detail, **gain(plain, found, "biased", seed)}
        yield {"claim": named("unbiased"), "detail": detail, **difference(plain, found, seed)}


def lattices(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Fusion in the search against fusion after it: the lattice's best path and its oracle."""
    sets, _ = sets_in(config, seed)
    trained, amount, most = (
        load_model(edge_model()),
        config[config["profile"]]["lattices"],
        config["headline"],
    )
    for whole in sets:
        one = Set(whole.name, whole.cases[:amount], whole.pool, whole.seed)
        if one.name not in config["torch_corpora"] or len(one.cases) < 2:
            continue
        lists = [one.phrases(case, most) for case in one.cases]
        texts: dict[str, list[str]] = {}
        for case, phrases in zip(one.cases, lists, strict=True):
            found = lattices_of(trained, case, phrases, config["lattice"], BOOST)
            for name in ("plain", "behind", "inside"):
                best, least = lattice_texts(getattr(found, name), case.words)
                texts.setdefault(f"{name} best", []).append(best)
                texts.setdefault(f"{name} oracle", []).append(least)
        normalise = normalisers()[normaliser_of(config, one.name)]
        arms = {
            name: count_texts(one, normalise, lists, [normalise(text) for text in said])
            for name, said in texts.items()
        }
        for name, found_errors in arms.items():
            key = {"corpus": one.name, "arm": f"lattice, {name}", "count": most, "list": "full"}
            yield {"table": key | found_errors.rates(seed), "n": len(one.cases)}
        yield {
            "claim": named("lattice"),
            "detail": one.name,
            **gain(arms["behind oracle"], arms["inside oracle"], "biased", seed),
        }


def others(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The same list for other systems: WER with it minus WER without."""
    how = config["systems"]
    amount = config[config["profile"]]["systems"]
    for name in how["told"]:
        recogniser = find_recogniser(name)
        if (missing := recogniser.missing()) is not None:
            yield {"claim": named("told"), "detail": name, "skipped": missing}
            continue
        try:
            heard = utterances_of({how["corpus"]: "whisper-en"}, seed=seed, count=amount)
        except EdgeSpeechError as error:
            yield {"claim": named("told"), "detail": name, "skipped": str(error)}
            continue
        phrases = load_phrases(how["context"])
        told, plain = (hear(find_recogniser(name), heard, context=one) for one in (phrases, ()))
        yield {"claim": named("told"), "detail": name, **told.compare(plain).as_row()}
    yield {"claim": named("told"), "detail": "vosk, as a grammar", "skipped": "vosk is not installed"}


def untrained(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What attention is asked for."""
    del config, seed
    for name in TRAINED_CLAIMS:
        yield {"claim": named(name), "detail": "attention", "skipped": UNTRAINED}


def times(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What a list costs: for a chunk, to build, and in memory."""
    yield from speed.costs(config, seed)


def arms_table(view: View | None) -> str:
    """Every arm's rates."""
    found = [] if view is None else [row["table"] for row in view["rows"] if "table" in row]
    if not found:
        return NO_RECORD

    def rate(row: Row, name: str) -> str:
        if name not in row:
            return "-"
        value, low, high = (100 * end for end in row[name])
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"

    rows: Sequence[Sequence[str]] = [
        (
            row["corpus"],
            row["arm"],
            f"{row['count']:,}",
            row["list"],
            *(rate(row, name) for name in ("wer", "u_wer", "b_wer")),
            f"{row['invented_per_hour']:,.0f}",
        )
        for row in found
    ]
    head = ("Corpus", "Arm", "Phrases", "List", "WER %", "U-WER %", "B-WER %", "Invented phrases per hour")
    return markdown_table(head, rows)


def steps(profile: str, only: str) -> Sequence[Step]:
    """The synthetic speech of the page and of the choice of the bonus."""
    del profile, only
    return speech_steps(
        ["corpora/assistant/assistant_dev_names.jsonl", "corpora/assistant/assistant_test_names.jsonl"]
    )


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "context_biasing",
    checks=(words, by_torch, lattices, times, others, untrained),
    blocks={"arms": arms_table},
    steps=steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Render; the checks are the same in both profiles."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

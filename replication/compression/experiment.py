"""Stack zeros and few bits, choose the model that ships, write one record, and render it into this folder's README.

edgespeech replicate compression                              # measure every arm whose model is available
edgespeech replicate compression --profile full               # search, train what is not trained, measure, publish
edgespeech replicate compression --profile full --only 'stack_50_*'   # train some arms only, then the same
edgespeech replicate compression --publish-model              # only train and ship the chosen arm
edgespeech replicate compression --render                     # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from edgespeech.arms.configuration import Arm, Arms, compression_base, start_model
from edgespeech.arms.figures import check_arms, kept, sensitivity_rows
from edgespeech.arms.packed_bench import Bench, dev_loss, say
from edgespeech.arms.page import arms_block, arms_plots
from edgespeech.arms.sensitivity import Option, Tried, fit, layout_of, thinned
from edgespeech.arms.tables import layout_table
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root, records_dir, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.metrics.acceptance import accepted
from edgespeech.metrics.statistics import paired_ratio_difference
from edgespeech.model.checkpoint import WEIGHTS, load_model, model_files
from edgespeech.packed.pack import pack
from edgespeech.records.records import load_records, without_paths
from edgespeech.report.page import run
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, make
from edgespeech.synthesis.step import speech_steps
from edgespeech.systems.edge_packed import PACKED, EdgePacked
from edgespeech.text.grammar import load_grammar

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "compression"
SEARCH = RESULTS / "search.yaml"
"""File of the search's result, for the model with its hash."""


def settings() -> dict[str, Any]:
    """The page's configuration."""
    found: dict[str, Any] = load_yaml(HERE / "config.yaml")
    return found


def families(config: Mapping[str, Any], chosen: Mapping[str, Option] | None) -> list[dict[str, Any]]:
    """The families, with the search's result for each matrix, or without the searched families if there is none."""
    found = []
    for family in config["families"]:
        own = dict(family)
        if (key := own.pop("searched", None)) is not None:
            if chosen is None:
                continue
            values = {name: getattr(option, key) for name, option in chosen.items()}
            layers = {
                name: {key: value} if value else None for name, value in values.items()
            }  # None: not compressed
            own["compressor"] = {**own["compressor"], "layers": layers}
        found.append(own)
    return found


def the_arms(init: Path | None = None) -> Arms:
    """The page's arms on their common initial model, or with the same search on another one."""
    config, start = settings(), compression_base()
    bare = Arms(HERE, {**config, "families": []}, start)
    return Arms(HERE, {**config, "families": families(config, searched(bare.root_sha256))}, init or start)


def shipped_arms() -> Arms:
    """The arms on the recogniser's model: those of the page, where that is the model that they start from already."""
    found, recogniser = the_arms(), start_model()
    return found if sha256_file(recogniser / WEIGHTS) == found.root_sha256 else the_arms(recogniser)


def searched(root_sha256: str) -> dict[str, Option] | None:
    """The search's result for the model with these weights; None if there is none."""
    if not SEARCH.is_file():
        return None
    told = load_yaml(SEARCH)
    if told["root_sha256"] != root_sha256:
        return None
    return {name: Option(**one) for name, one in told["matrices"].items()}


def first_steps(profile: str, only: str) -> list[Step]:
    """The search, which decides what some arms are."""
    del only
    if profile != "full":
        return []
    config, init = settings(), compression_base()
    return [
        Step(
            rule="search",
            name=PAGE.name,
            function=f"{__name__}:search_step",
            given={"search": config["search"], "seed": config["seed"], "profile": profile},
            needs=speech_steps([config["search"]["corpus"]]),
            inputs=tuple(init / name for name in model_files(init)),
            code=("edgespeech.arms.sensitivity", "edgespeech.arms.figures"),
            without=("core", "records", "corpora"),
            resources=Resources(alone=True),
        )
    ]


def search_step(job: Job) -> list[Path]:
    """Search."""
    make_search(job.given["profile"])
    return [SEARCH]


def make_search(profile: str) -> None:
    """Search, and save the result.

    Raises:
        EdgeSpeechError: nothing fits.
    """
    config, init = settings(), compression_base()
    arms = Arms(HERE, {**config, "families": []}, init)
    asked = config["search"]
    options = [Option(bits, zeros) for bits, zeros in product(asked["bits"], asked["sparsities"])]
    (row,) = sensitivity_rows(arms, options, asked, profile, config["seed"])
    tried = [
        Tried(one["matrix"], Option(one["bits"], one["sparsity"]), one["n_bytes"], one["loss"])
        for one in row["tried"]
    ]
    base = row["tried"][0]["base"]
    fusion = load_model(arms.language_models()).fusion  # what ships has them, and their bytes count
    trained = replace(load_model(init), fusion=fusion)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "chosen.edge"
        budget = limit = asked["file_bytes"]
        while True:
            chosen = fit(tried, budget)
            shares = {name: option.sparsity for name, option in chosen.items()}
            pack(thinned(trained, shares), layout_of(chosen), file)
            if file.stat().st_size <= limit:
                break
            budget -= file.stat().st_size - limit  # vectors, padding and metadata
        bench = Bench({asked["corpus"]: "basic"}, Path(scratch), config["seed"], asked[profile])
        labels = [trained.tokeniser.encode(item.text) for item in bench.spoken]
        told = {
            "root_sha256": arms.root_sha256,
            "base_loss": base,
            "expected_loss": sum(one.loss - base for one in tried if chosen[one.matrix] == one.option),
            "added_loss": dev_loss(file, bench.spoken, labels) - base,
            "file_bytes": file.stat().st_size,
            "utterances": len(bench.spoken),
            "matrices": {name: option._asdict() for name, option in chosen.items()},
        }
    write_atomic(SEARCH, yaml.safe_dump(told, sort_keys=False))


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All arms, and their comparisons."""
    yield from check_arms(the_arms(), RESULTS, config, seed)


def search(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The search's result."""
    del config, seed
    if searched(the_arms().root_sha256) is None:
        raise EdgeSpeechError("no search was made for this model: `--profile full` makes it")
    told = load_yaml(SEARCH)
    yield {
        "claim": "compression.search",
        "detail": f"{told['file_bytes']} bytes; {told['added_loss']:.4f} added, {told['expected_loss']:.4f} expected",
        "measured": told["added_loss"] - told["expected_loss"],
        "n": told["utterances"],
        "search": told,
    }


def candidates(arms: Arms, config: Mapping[str, Any], scratch: Path) -> Iterator[tuple[Arm, Path, float]]:
    """The arms whose files are small enough to ship, with their word error rate on tuning speech."""
    asked = config["ships"]
    bench = Bench({asked["corpus"]: asked["normaliser"]}, scratch, config["seed"])
    for arm in arms.arms.values():
        file = scratch / f"{arm.name}.edge"
        try:
            arms.pack(arm, file)
        except EdgeSpeechError:
            continue  # the reason is in the table of arms
        if file.stat().st_size <= asked["largest_bytes"]:
            texts, _ = say(file, bench, config["beams"][0])
            yield arm, file, sum(bench.errors(texts)) / sum(bench.words)


def chosen(config: Mapping[str, Any], scratch: Path) -> tuple[Arm, float, dict[str, dict[str, float]]]:
    """The candidate with the fewest word errors; ties go to the smallest.

    Returns:
        The arm, its word error rate, and both figures of every candidate by its name.

    Raises:
        EdgeSpeechError: no arm on this machine is small enough, or the tuning speech is missing.
    """
    rated = list(candidates(the_arms(), config, scratch))
    if not rated:
        largest = config["ships"]["largest_bytes"]
        raise EdgeSpeechError(f"compression: no arm on this machine has a file of at most {largest} bytes")
    told = {arm.name: {"wer": rate, "file_bytes": file.stat().st_size} for arm, file, rate in rated}
    arm, _, rate = min(rated, key=lambda one: (one[2], one[1].stat().st_size))
    return arm, rate, told


def ships(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The shipped model on the test sets, against the fp32 references.

    It is the recogniser's model, compressed like the arm that is best on tuning speech. If either is not trained here,
    it is the published file.
    """
    found, asked = shipped_arms(), config["ships"]
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        row: Row = {"claim": "compression.ships"}
        name, file = "as it ships", scratch / "ships.edge"
        try:
            arm, rate, told = chosen(config, scratch)
            row |= {"detail": f"{arm.name}, of {len(told)} arms", "measured": rate, "n": len(told)}
            row |= {"chosen": arm.name, "candidates": told}
            found.pack(found.arms[arm.name], file)
            name = arm.name
        except EdgeSpeechError as error:
            file = shipped_models() / EdgePacked.name / PACKED
            if not file.is_file():
                raise EdgeSpeechError(f"{error}, and none is among the models") from error
            note = "note" if "measured" in row else "skipped"
            row[note] = f"{without_paths(str(error))}: what follows is of the one among the models"
        yield row | {"root_sha256": found.root_sha256, "edge_sha256": sha256_file(file)}
        yield {"claim": "compression.bytes", "detail": name, "measured": file.stat().st_size, "n": 1}
        yield from cloud(asked["cloud"], file.stat().st_size)
        bench = Bench(config["corpora"], scratch, seed)
        said, _ = say(file, bench, config["beams"][0])
        for reference in asked["references"]:
            yield from against(found, reference, f"{name} against {reference}", said, bench, config)


def against(
    arms: Arms, reference: str, detail: str, said: Sequence[str], bench: Bench, config: Mapping[str, Any]
) -> Iterator[Row]:
    """A model's transcripts of the test sets, compared with those of one arm."""
    other = bench.scratch / "reference.edge"
    try:
        arms.pack(arms.arms[reference], other)
    except EdgeSpeechError as error:
        yield {"claim": "compression.tie", "detail": detail, "skipped": without_paths(str(error))}
        return
    theirs, _ = say(other, bench, config["beams"][0])
    errors = [bench.errors(texts) for texts in (said, theirs)]
    for corpus in bench.normaliser:
        found = bench.compare(errors[:1], errors[1:], corpus)
        yield {
            "claim": "compression.tie",
            "detail": f"{corpus}, {detail}",
            **found.as_row(),
        }
    yield commands(config["ships"]["commands"], detail, (said, theirs), bench)


def cloud(name: str, file_bytes: int) -> Iterator[Row]:
    """The size of the file relative to the cloud model's published parameters in single precision."""
    sizes = [r.system.parameters for r in load_records(records_dir()) if r.system.name == name]
    known = [size for size in sizes if size is not None]
    if not known:
        yield {"claim": "compression.cloud", "detail": name, "skipped": "no published record says its size"}
        return
    yield {
        "claim": "compression.cloud",
        "detail": f"{file_bytes} bytes against 4 x {known[0]} of {name}",
        "measured": file_bytes / (4 * known[0]),
        "n": 1,
    }


def commands(asked: Mapping[str, str], name: str, texts: Sequence[Sequence[str]], bench: Bench) -> Row:
    """Orders not accepted, of the shipped model minus those of the reference."""
    row: Row = {"claim": "compression.commands", "detail": f"{asked['corpus']}, {name}"}
    corpus = Path(asked["corpus"]).stem
    at = bench.places(corpus)
    if not at:
        return {**row, "skipped": bench.missing.get(corpus, "not among the corpora")}
    items, grammar = manifest_of(asked["corpus"]).utterances, load_grammar(asked["grammar"])
    rejected = [
        [
            float(not accepted(grammar.parse(said[place]), item.intent or "", item.slots or {}))
            for place, item in zip(at, items, strict=True)
        ]
        for said in texts
    ]
    speakers = [item.speaker for item in items]
    found = paired_ratio_difference(rejected[0], rejected[1], [1.0] * len(items), speakers, seed=bench.seed)
    shares = [100 * (1 - sum(values) / len(values)) for values in rejected]
    return {
        **row,
        "detail": f"{row['detail']}: {shares[0]:.1f} % accepted against {shares[1]:.1f} %",
        "measured": found.difference,
        **found.interval.as_row(),
        "n": len(items),
    }


def publish_model() -> str:
    """Ship the recogniser's model compressed like the best arm, after training it if necessary; only the packed file.

    Returns:
        A description of the shipped file.

    Raises:
        EdgeSpeechError: no arm on this machine is small enough, or a training failed.
    """
    config = settings()
    with TemporaryDirectory() as folder:
        arm, rate, _ = chosen(config, Path(folder))
        found, file = shipped_arms(), Path(folder) / "ships.edge"
        for name in (arm.name, *config["ships"]["references"]):
            make(found.pack_step(found.arms[name]))
        found.pack(found.arms[arm.name], file)
        write_atomic(shipped_models() / EdgePacked.name / PACKED, file.read_bytes())
        return f"{arm.name}: {file.stat().st_size} bytes, the arm's WER {rate:.4f} on tuning material"


def search_block(record: View | None) -> str:
    """The search's result."""
    told = kept(record, "search")
    return NO_RECORD if told is None else layout_table(told["matrices"])


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, search, ships),
    blocks={"arms": arms_block, "search": search_block},
    plots=arms_plots,
    first=first_steps,
    steps=lambda profile, only: the_arms().steps(profile, only),
    reads=(SEARCH,),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__)
    options.add_argument(
        "--publish-model", action="store_true", help="make and ship what was chosen, and no more"
    )
    given = options.parse_args(words)
    if given.publish_model:
        print(publish_model())
        return
    run(PAGE, render_only=True)

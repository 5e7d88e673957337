"""Measuring the arms of an experiment: their packed files are decoded by the native engine.

Published transcripts are cached per arm in `results/PAGE/arms/NAME.json`; if the arm's model is not available the table
shows the cached WER, marked, without timings. Files and transcripts belong to one initial model; with another one they
are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgespeech.arms.configuration import Arm, Arms
from edgespeech.arms.packed_bench import Bench, Scorer, chunk_times, dev_loss, facts_of, say, weights_read
from edgespeech.arms.sensitivity import Option, layout_of, try_each
from edgespeech.arms.tables import search_of
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row, View
from edgespeech.metrics.word_errors import POOLED, WordErrors
from edgespeech.model.checkpoint import load_model
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.records.records import without_paths
from edgespeech.search.settings import CHUNK_S

ARMS = "arms"
"""Folder of the transcripts among a page's results."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An arm's file and transcripts.

    Attributes:
        arm: the arm.
        file: the `.edge` file; None for published transcripts.
        texts: transcripts of every utterance, by beam.
        labels: number of labels with the smallest beam; 0 for published transcripts.
        facts: `file_bytes`, `bits_per_weight`, `zeros` (the share of the matrices' weights) and `edge_sha256`.
    """

    arm: Arm
    file: Path | None
    texts: Mapping[int, Sequence[str]]
    labels: int
    facts: Mapping[str, Any]


def hear(arms: Arms, results: Path, bench: Bench, beams: Sequence[int]) -> Iterator[Heard | Row]:
    """Decode every arm's file; if an arm is missing, return its published transcripts, or a row with the reason.

    Args:
        arms: which.
        results: the page's folder among the results.
        bench: the utterances.
        beams: of the search; the first is that of the claims.
    """
    for arm in arms.arms.values():
        file = bench.scratch / f"{arms.page}-{arm.name}.edge"
        shipped = results / f"{arm.name}.edge"
        said = published(arms, arm, results, bench)
        try:
            arms.model_folder(arm)
        except EdgeSpeechError as error:
            if said is None:
                yield {"name": arm.name, "skipped": without_paths(str(error))}
                continue
            if not shipped.is_file():
                if beams[0] in said.texts:
                    yield said
                else:
                    reason = (
                        f"{without_paths(str(error))}, and published with a beam of {next(iter(said.texts))}"
                    )
                    yield {"name": arm.name, "skipped": reason}
                continue
            file = shipped
        else:
            arms.pack(arm, file)
        texts = {beam: say(file, bench, beam) for beam in beams}
        yield Heard(
            arm=arm,
            file=file,
            texts={beam: found[0] for beam, found in texts.items()},
            labels=texts[min(beams)][1],
            facts=facts_of(file),
        )


def publish(arms: Arms, found: Sequence[Heard], results: Path, bench: Bench) -> None:
    """Publish the arms' transcripts among the results, and the files of those that ship.

    Raises:
        EdgeSpeechError: a file cannot be written.
    """
    for heard in found:
        if heard.file is None:
            continue
        told = {
            "arm": heard.arm.name,
            "arm_sha256": arms.sha256(heard.arm),
            "root_sha256": arms.root_sha256,
            "manifests": {corpus: bench.manifests[corpus] for corpus in bench.normaliser},
            "facts": dict(heard.facts),
            "beam": next(iter(heard.texts)),
            "texts": list(_first(heard.texts)),
        }
        write_atomic(results / ARMS / f"{heard.arm.name}.json", json.dumps(told, indent=1) + "\n")
        kept = results / f"{heard.arm.name}.edge"
        if heard.arm.ships and heard.file != kept:
            write_atomic(kept, heard.file.read_bytes())


def arm_rows(found: Sequence[Heard | Row], bench: Bench, control: str) -> Iterator[Row]:
    """A row of each arm for a page's record, without times.

    Args:
        found: from `hear`.
        bench: the utterances.
        control: the arm with which each is compared, with the same seed.

    Yields:
        `name`, and `skipped` with the reason, or `family`, `point`, `seed`, `measured` (false for published
        transcripts), the facts, `wer` (by corpus, see `Bench.rate`, and `difference` with its interval from
        `lower` to `upper` and `verdict`), `wer_other` (of all corpora, by the other beams), and `chunk_bytes`, weights
        read per chunk.
    """
    heard = [one for one in found if isinstance(one, Heard)]
    errors = {one.arm.name: bench.errors(_first(one.texts)) for one in heard}
    for one in found:
        if not isinstance(one, Heard):
            yield one
            continue
        arm = one.arm
        yield {
            "name": arm.name,
            "family": arm.family,
            "point": arm.point,
            "seed": arm.seed,
            "measured": one.file is not None,
            **one.facts,
            "wer": rates(arm, errors, bench, control),
            "wer_other": {
                str(beam): bench.rate(bench.errors(texts), POOLED)["wer"]
                for beam, texts in list(one.texts.items())[1:]
            },
            "chunk_bytes": None if one.file is None else _chunk_bytes(one, bench),
        }


def rates(
    arm: Arm, errors: Mapping[str, Sequence[int]], bench: WordErrors, control: str
) -> dict[str, dict[str, Any]]:
    """An arm's word error rate by corpus, with its difference from the control with the same seed, see `arm_rows`.

    Args:
        arm: whose.
        errors: of each utterance, by the arm's name.
        bench: the utterances.
        control: the arm with which it is compared.
    """
    own = errors[arm.name]
    theirs = errors.get(control + arm.name.removeprefix(arm.first), errors.get(control))
    found: dict[str, dict[str, Any]] = {}
    for corpus in bench.corpora:
        found[corpus] = dict(bench.rate(own, corpus))
        if theirs is not None and len(bench.places(corpus)) > 1:
            against = bench.compare([own], [theirs], corpus)
            found[corpus] |= {
                "difference": against.difference,
                "lower": against.low,
                "upper": against.high,
                "verdict": against.verdict,
            }
    return found


def comparisons(
    found: Sequence[Heard | Row], bench: Scorer, asked: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    """Comparisons between arms, as rows of a page's record.

    Args:
        found: from `hear`.
        bench: the utterances.
        asked: of each comparison the `claim`, the `arm`, what it is `against`, and perhaps `each`: true for one row per
            corpus instead of one for all together. An arm's name means all of its seeds that the other has too.
    """
    seeds: dict[str, dict[int, list[int]]] = {}
    for one in found:
        if isinstance(one, Heard):
            seeds.setdefault(one.arm.first, {})[one.arm.seed] = bench.errors(_first(one.texts))
    for entry in asked:
        names = entry["arm"], entry["against"]
        ours, theirs = (seeds.get(name, {}) for name in names)
        both = sorted(ours.keys() & theirs.keys())
        row: Row = {"claim": entry["claim"], "detail": f"{names[0]} against {names[1]}"}
        if not both:
            missing = [name for name in names if name not in seeds] or list(names)
            yield {**row, "skipped": f"not trained, or of no common seed: {', '.join(missing)}"}
            continue
        for corpus in list(bench.normaliser) if entry.get("each") else [POOLED]:
            against = bench.compare([ours[seed] for seed in both], [theirs[seed] for seed in both], corpus)
            yield {
                **row,
                "detail": f"{row['detail']}, {corpus}",
                **against.as_row(),
                "compared": against._asdict(),
            }


def said_again(found: Sequence[Heard | Row], arms: Arms, results: Path, bench: Bench) -> tuple[float, int]:
    """The share of utterances whose published transcripts are reproduced, and the number of utterances.

    Both sides use the beam of the published transcripts, since another beam gives other transcripts.
    """
    same = total = 0
    for one in found:
        if not isinstance(one, Heard) or one.file is None:
            continue
        before = published(arms, one.arm, results, bench)
        trained_again = one.file != results / f"{one.arm.name}.edge"
        if before is None or (trained_again and before.facts["edge_sha256"] != one.facts["edge_sha256"]):
            continue
        beam = next(iter(before.texts))
        now = one.texts[beam] if beam in one.texts else say(one.file, bench, beam)[0]
        pairs = zip(before.texts[beam], now, strict=True)
        same += sum(a == b for a, b in pairs)
        total += len(bench.spoken)
    return (same / total if total else float("nan")), total


def published(arms: Arms, arm: Arm, results: Path, bench: Scorer) -> Heard | None:
    """An arm's published transcripts; None if the arm, its initial model or the utterances have changed."""
    path = results / ARMS / f"{arm.name}.json"
    if not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    manifests = {corpus: bench.manifests[corpus] for corpus in bench.normaliser}
    wanted = (arms.sha256(arm), arms.root_sha256, manifests, len(bench.utterances))
    if (told["arm_sha256"], told["root_sha256"], told["manifests"], len(told["texts"])) != wanted:
        return None
    return Heard(arm=arm, file=None, texts={told["beam"]: told["texts"]}, labels=0, facts=told["facts"])


def _chunk_bytes(one: Heard, bench: Bench) -> float:
    assert one.file is not None
    with PackedModel(one.file) as model:
        stack = model.config.stack
    frames = sum(len(item.features) // stack for item in bench.spoken)
    chunks = sum(item.duration_s for item in bench.spoken) / CHUNK_S
    return weights_read(read_edge(one.file).tensors, frames=frames, labels=one.labels) / chunks


def _first(texts: Mapping[int, Sequence[str]]) -> Sequence[str]:
    """The transcripts with the beam of the claims."""
    return next(iter(texts.values()))


def check_arms(arms: Arms, results: Path, config: Mapping[str, Any], seed: int) -> Iterator[Row]:
    """A page's check: every arm's row, the comparisons, and whether published files reproduce their transcripts.

    In the profile `full` the transcripts, and the files that ship, are published.

    Args:
        arms: the page's.
        results: its folder among the results.
        config: `corpora`, `beams`, `control` (an arm), `comparisons` (see there), and by profile `cold` and `warm`, the
            numbers of utterances for chunk times.
        seed: of intervals.
    """
    page, profile = arms.page, config["profile"]
    with TemporaryDirectory() as scratch:
        bench = Bench(config["corpora"], Path(scratch), seed)
        for corpus, reason in bench.missing.items():
            yield {"part": f"the arms on {corpus}", "skipped": reason}
        found = list(hear(arms, results, bench, config["beams"]))
        rows = list(arm_rows(found, bench, config["control"]))
        files = {
            one.arm.name: one.file
            for one in found
            if isinstance(one, Heard) and one.file is not None and one.arm.name == one.arm.first
        }  # another seed has the same layout, and each is a process
        times = chunk_times(files, bench, config[profile])
        searched = {"settings": search_of(config).describe()}
        yield {"arms": [{**row, **searched, **times.get(row["name"], {})} for row in rows]}
        yield from comparisons(found, bench, config["comparisons"])
        share, total = said_again(found, arms, results, bench)
        if total:
            yield {"claim": f"{page}.again", "measured": share, "n": total}
        if profile == "full":
            publish(arms, [one for one in found if isinstance(one, Heard)], results, bench)


def sensitivity_rows(
    arms: Arms, options: Sequence[Option], settings: Mapping[str, Any], profile: str, seed: int
) -> Iterator[Row]:
    """Every matrix of the initial model alone at every option, as rows of the page's record.

    Args:
        arms: the page's.
        options: to try.
        settings: `corpus`, which is for tuning, and by profile the number of its utterances.
        profile: `quick` or `full`.
        seed: of the subset of utterances.
    """
    trained = load_model(arms.init)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bench = Bench({settings["corpus"]: "basic"}, folder, seed, settings[profile])
        labels = [trained.tokeniser.encode(item.text) for item in bench.spoken]

        def loss(file: Path) -> float:
            return dev_loss(file, bench.spoken, labels)

        pack(trained, layout_of({}), folder / "base.edge")
        base = loss(folder / "base.edge")
        tried = [
            {"matrix": one.matrix, **one.option._asdict(), "n_bytes": one.n_bytes, "loss": one.loss,
             "base": base, "utterances": len(bench.spoken)}
            for one in try_each(trained, options, loss, folder)
        ]  # fmt: skip
    yield {"tried": tried}


def kept(record: View | None, key: str) -> Any:
    """The value of a key in the first row of a page's record that has it, or None."""
    rows = [] if record is None else record["rows"]
    return next((row[key] for row in rows if key in row), None)

"""Understanding what recognisers heard: published transcripts, and lattices of the model on the device."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgespeech.core.places import manifests_dir, records_dir
from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.corpora.requests import slots_of, tagged
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.paths import best_path
from edgespeech.lattice.search import lattice_of
from edgespeech.metrics.acceptance import accepted
from edgespeech.metrics.statistics import bootstrap_share, paired_ratio_difference
from edgespeech.model.checkpoint import load_model
from edgespeech.records.records import Record, load_records, load_rows, without_paths
from edgespeech.records.schema import Row as Line
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.text.grammar import Parse
from edgespeech.text.grammar_rules import load_rules
from edgespeech.text.spoken import plain
from edgespeech.text.tagged import TaggedGrammar
from edgespeech.understanding.runtime import Understander
from edgespeech.understanding.spoken import as_parse, expected_intents, values_of

Row = dict[str, Any]


def slot_values(grammar: str, draws: int, seed: int) -> dict[tuple[str, str], str]:
    """The values of slots by their words, from sentences of the grammar's part for training."""
    known = TaggedGrammar(grammar, load_rules(manifests_dir() / "grammars" / f"{grammar}.yaml"))
    rng = random.Random(seed)  # sentences, no secrets

    def said() -> Iterator[tuple[str, str, str]]:
        for _ in range(draws):
            one = known.tagged(rng, "train")
            request = tagged(one.sentence.text.split(), one.tags, one.sentence.intent)
            for name, first, end in slots_of(request.words, request.tags or ()):
                yield name, " ".join(request.words[first:end]), one.sentence.slots[name]

    return values_of(said())


def newest(records: Sequence[Record], system: str, corpus: str) -> Record | None:
    """The newest published record of a recogniser's plain run on a whole corpus."""
    found = [
        one
        for one in records
        if one.system.name == system
        and one.corpus.name == corpus
        and one.status == "passed"
        and one.condition.clean
        and not one.condition.context
    ]
    return max(found, key=lambda one: (one.corpus.n_utterances, one.created), default=None)


def recognised(config: Mapping[str, Any], model: Understander, seed: int) -> Iterator[Row]:
    """Published transcripts, understood by the network and, as published, by the corpus's grammar."""
    settings = config["recognised"]
    records = load_records(records_dir())
    values = slot_values(settings["grammar"], settings["draws"], seed)
    for corpus in settings["corpora"]:
        row: Row = {"claim": "nlu.recognised", "detail": corpus}
        try:
            labels = _labels(manifest_of(corpus))
        except EdgeSpeechError as error:
            yield {**row, "skipped": without_paths(str(error))}
            continue
        whole = find_split(corpus)[0].splits[corpus].resampling_unit == "speaker"
        for system in settings["systems"]:
            row = {"claim": "nlu.recognised", "detail": f"{system}, {corpus}"}
            record = newest(records, system, corpus)
            if record is None:
                yield {**row, "skipped": "no published record"}
                continue
            lines = [one for one in load_rows(records_dir(), record) if one.id in labels]
            yield from _compared(row, lines, labels, model, values, whole, settings, seed)


def _labels(manifest: Manifest) -> dict[str, tuple[str, Mapping[str, str]]]:
    return {one.id: (one.intent, one.slots or {}) for one in manifest.utterances if one.intent is not None}


def _compared(
    row: Row,
    lines: Sequence[Line],
    labels: Mapping[str, tuple[str, Mapping[str, str]]],
    model: Understander,
    values: Mapping[tuple[str, str], str],
    by_speaker: bool,
    settings: Mapping[str, Any],
    seed: int,
) -> Iterator[Row]:
    """One recogniser's transcripts of one corpus."""
    wrong, taken = {"network": [], "grammar": []}, {"network": [], "grammar": []}  # type: ignore[var-annotated]
    for line in lines:
        intent, slots = labels[line.id]
        parse = None if line.intent is None else Parse(line.intent, line.slots or {})
        found = None
        if plain(line.hyp_raw):
            found = as_parse(model.understand(line.hyp_raw, settings["scheme"]), values)
        for name, one in (("network", found), ("grammar", parse)):
            wrong[name].append(float(one is None or one.intent != intent))
            taken[name].append(accepted(one, intent, slots))
    groups = [line.speaker if by_speaker else None for line in lines]
    paired = paired_ratio_difference(
        wrong["grammar"], wrong["network"], [1.0] * len(lines), groups, seed=seed
    )
    rates = {name: 1 - sum(flags) / len(flags) for name, flags in wrong.items()}
    row["detail"] += f"; network {rates['network']:.3f}, grammar {rates['grammar']:.3f}"
    yield {**row, "measured": paired.difference, **paired.interval.as_row(), "n": len(lines)}
    for claim, name in (("nlu.accepted", "network"), ("nlu.parsed", "grammar")):
        share = bootstrap_share(taken[name], groups, seed=seed)
        value = sum(taken[name]) / len(lines)
        yield {
            "claim": claim,
            "detail": row["detail"].partition(";")[0],
            "measured": value,
            **share.as_row(),
            "n": len(lines),
        }


def lattices(config: Mapping[str, Any], model: Understander, seed: int) -> Iterator[Row]:
    """The expected intent over the paths of lattices of the model on the device, against that of the best path."""
    settings = config["lattice"]
    recogniser = EdgeFp32()
    if (missing := recogniser.missing()) is not None:
        yield {"claim": "nlu.lattice", "detail": "all", "skipped": missing}
        return
    trained = load_model(recogniser.folder())
    scheme = settings["scheme"]
    intents = model.scheme(scheme).intents
    for corpus in settings["corpora"]:
        row: Row = {"claim": "nlu.lattice", "detail": corpus}
        try:
            manifest = manifest_of(corpus).subset(settings[config["profile"]], seed)
        except EdgeSpeechError as error:
            yield {**row, "skipped": without_paths(str(error))}
            continue
        wrong: dict[str, list[float]] = {"lattice": [], "path": []}
        groups, sure = [], []
        for one in manifest.utterances:
            lattice = lattice_of(trained, manifest.read(one), settings["beam"], settings["merge"])
            expected, share = expected_intents(model, lattice, scheme, settings["paths"])
            words = plain(best_path(lattice).text).split()
            path = model.scores(words, scheme)[0] if words else None
            wrong["lattice"].append(float(intents[int(expected.argmax())] != one.intent))
            wrong["path"].append(float(path is None or intents[int(path.argmax())] != one.intent))
            groups.append(one.speaker)
            sure.append(share)
        paired = paired_ratio_difference(
            wrong["path"], wrong["lattice"], [1.0] * len(groups), groups, seed=seed
        )
        rates = {name: 1 - sum(flags) / len(flags) for name, flags in wrong.items()}
        row["detail"] += (
            f"; lattice {rates['lattice']:.3f}, path {rates['path']:.3f}, its share {sum(sure) / len(sure):.2f}"
        )
        ends = paired.interval.as_row()
        if wrong["path"] == wrong["lattice"]:
            # No resample differs from another. The exact bound of the share of utterances that may differ stands in.
            most = bootstrap_share([False] * len(groups), groups, seed=seed).high
            ends |= {"low": -most, "high": most}
        yield {**row, "measured": paired.difference, **ends, "n": len(groups)}

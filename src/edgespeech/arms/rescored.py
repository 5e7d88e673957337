"""Scoring a page of arms again from its published transcripts: with other intervals or normalisers, without decoding.

The new record repeats the rows of an earlier one, including times and pictures, and names it. Only word errors and
comparisons of arms are recomputed, from `results/PAGE/arms/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgespeech.arms.configuration import Arms, compression_base
from edgespeech.arms.figures import ARMS, Heard, comparisons, published, rates
from edgespeech.arms.packed_bench import Scorer
from edgespeech.core.places import project_root
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import Page, Row
from edgespeech.records import provenance
from edgespeech.records.pages import PageRecord, PageRow, row_of, write_page
from edgespeech.records.used import noting


def rescore(
    arms: Arms, results: Path, comparing: Sequence[Mapping[str, Any]], before: PageRecord
) -> PageRecord:
    """An earlier record with recomputed word errors and comparisons of its arms.

    Args:
        arms: of the record's own configuration, which also has corpora, beam and control.
        results: the page's folder among the results.
        comparing: see `comparisons`; from the page's present configuration, like the claims.
        before: the record; the published transcripts of all its arms must be of the same run.

    Raises:
        EdgeSpeechError: a corpus is missing, or an arm's transcripts are of another run, beam or manifest.
    """
    config = before.config
    with noting() as used:
        utterances = utterances_of(config["corpora"], seed=config["seed"])
        for corpus, reason in utterances.missing.items():
            raise EdgeSpeechError(f"{corpus}: {reason}")
        scorer = Scorer(utterances, config["seed"])
        found = [published(arms, arm, results, scorer) for arm in arms.arms.values()]
        heard = [one for one in found if one is not None and config["beams"][0] in one.texts]
        by_name = {one.arm.name: one for one in heard}
        errors = {name: scorer.errors(next(iter(one.texts.values()))) for name, one in by_name.items()}
        rows: list[PageRow] = []
        compared = {entry["claim"] for entry in comparing}
        for row in before.rows:
            if row.claim in compared:
                continue
            data = dict(row.data)
            if "arms" in data:
                checked(data["arms"], by_name, results)
                data["arms"] = [
                    told
                    if "skipped" in told
                    else {**told, "wer": rates(by_name[told["name"]].arm, errors, scorer, config["control"])}
                    for told in data["arms"]
                ]
            rows.append(row.model_copy(update={"data": data}))
        rows += [
            made
            for told in comparisons(heard, scorer, comparing)
            if isinstance(made := row_of(told, "rescore"), PageRow)
        ]
    commit, dirty = provenance.git_state(project_root())
    fields = {
        "schema_version": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rescored": before.stem,
        "utterances": used.utterances,
        "manifests": used.manifests,
        "models": {**before.models, f"{arms.init.name}": arms.root_sha256},
        "commit": commit,
        "dirty": dirty,
        "versions": {**before.versions, **provenance.package_versions()},
        "rows": tuple(rows),
    }
    return PageRecord.model_validate(before.model_copy(update=fields).model_dump())


def rescore_newest(page: Page) -> None:
    """Score the transcripts of a page's newest record again, and write a new record.

    Raises:
        EdgeSpeechError: there is no record, or as `rescore`.
    """
    before = page.newest()
    if before is None:
        raise EdgeSpeechError(f"{page.name}: no record yet whose transcripts could be scored")
    arms = Arms(page.folder, before.config, compression_base())
    write_page(rescore(arms, page.records, page.config()["comparisons"], before), page.records)


def checked(rows: Sequence[Row], heard: Mapping[str, Heard], results: Path) -> None:
    """Refuse transcripts that do not belong to the arms of a record.

    Raises:
        EdgeSpeechError: an arm has none, or they are from another file.
    """
    for told in rows:
        if "skipped" in told:
            continue
        where = f"{results.parent.name}/{results.name}/{ARMS}/{told['name']}.json"
        if told["name"] not in heard:
            raise bad(where, "transcripts", None, "those of the run that the record has")
        if (found := heard[told["name"]].facts["edge_sha256"]) != told["edge_sha256"]:
            raise bad(where, "edge_sha256", found, f"{told['edge_sha256']}, as the record has it")

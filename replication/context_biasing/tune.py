"""Choose the bonus of a letter on tuning speech, and write a record of it.

python -m replication.context_biasing.tune    # minutes, once `edgespeech replicate context_biasing` has made the speech

Each bonus of `tuning.boosts` in `config.yaml`, with each number of `tuning.first_letters` that count only at
the end, is tried with the lists of `tuning` on its corpora, none of which is for evaluation. A pause of `tuning.pauses`
seconds is behind some utterances, as it is in recordings of devices. The
rule: of those that raise the word errors of all corpora together by at most `tuning.harm` (relative) with lists without
the right phrase, and by at most `tuning.harm_other` with the list `tuning.other` of another domain, whose common words
are pieces of the model, those are taken that have at most `tuning.close` (relative) more word errors with full lists
than the best of them; of these the smallest bonus, then the fewest errors. It is printed, and is the value of `BOOST`
and `HEAD` in `src/edgespeech/biasing/phrases.py`. With a record as argument the rule is applied to its rows again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle, product
from pathlib import Path
from typing import Any

from replication.context_biasing.lists import Set, sets_of
from replication.context_biasing.search import Counted, Transcribe, count_texts, packed_arm

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import bad
from edgespeech.packed.runtime import PackedModel
from edgespeech.records import provenance
from edgespeech.search.settings import BEAM
from edgespeech.systems.edge_packed import EdgePacked
from edgespeech.text.normalise import normalisers

HERE = Path(__file__).parent
OTHER = "other"
KINDS = ("full", "absent", OTHER)
CHOICES = project_root() / "results" / "context_biasing" / "choices"


def now() -> str:
    """The time, as in names of records."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def tuned(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The record of a choice: errors by bonus, and the bonus chosen.

    Raises:
        EdgeSpeechError: a corpus is for evaluation only, or none is available.
    """
    how = config["tuning"]
    for corpus in how["corpora"]:
        if not corpus.endswith(".jsonl") and find_split(corpus)[0].splits[corpus].evaluation_only:
            raise bad("tuning", "corpus", corpus, "one that is not for evaluation")
    sets, missing = sets_of(how["corpora"], seed=seed, count=how["utterances"])
    sets = [with_pauses(one, how["pauses"]) for one in sets]
    path = EdgePacked().path()
    rows = []
    with PackedModel(path) as model:
        for boost, head in [(0, 0), *product(how["boosts"], how["first_letters"])]:
            transcribe = packed_arm(model, boost, BEAM, head)
            for one in sets:
                for kind in KINDS:
                    lists = lists_of(one, kind, how)
                    found = heard_with(one, lists, transcribe, told=boost > 0)
                    rows.append(
                        {
                            "boost": boost,
                            "head": head,
                            "corpus": one.name,
                            "list": kind,
                            "utterances": len(one.cases),
                            "words": sum(found.words),
                            "errors": sum(found.errors),
                            "biased": sum(found.biased),
                            "unbiased": sum(found.unbiased),
                            "invented": sum(found.invented),
                        }
                    )
    return {
        "created": now(),
        "commit": provenance.git_state(project_root())[0],
        "model": {path.name: sha256_file(path)},
        "config": how,
        "missing": missing,
        "rows": rows,
        "chosen": chosen(rows, how),
    }


def lists_of(one: Set, kind: str, how: dict[str, Any]) -> list[tuple[str, ...]]:
    """The list of each utterance."""
    if kind == OTHER:
        return [load_phrases(how["other"])] * len(one.cases)
    return [one.phrases(case, how["count"], kind) for case in one.cases]


def heard_with(one: Set, lists: list[tuple[str, ...]], transcribe: Transcribe, *, told: bool) -> Counted:
    """Errors of a set's transcripts with these lists."""
    normalise = normalisers()["basic"]
    texts = [
        normalise(transcribe(case, phrases if told else ()))
        for case, phrases in zip(one.cases, lists, strict=True)
    ]
    return count_texts(one, normalise, lists, texts)


def with_pauses(one: Set, pauses: Sequence[float]) -> Set:
    """The set with these pauses behind its utterances, in turn, in seconds."""
    cases = (replace(case, pause_s=pause) for case, pause in zip(one.cases, cycle(pauses), strict=False))
    return replace(one, cases=tuple(cases))


def chosen(rows: list[dict[str, Any]], how: dict[str, Any]) -> tuple[float, int]:
    """The bonus and the head by the rule of this module.

    Raises:
        EdgeSpeechError: no bonus of 0, which the others are compared with.
    """

    def errors(how: tuple[float, int], kind: str) -> int:
        return sum(row["errors"] for row in rows if (row["boost"], row["head"], row["list"]) == (*how, kind))

    tried = sorted({(row["boost"], row["head"]) for row in rows})
    if tried[:1] != [(0, 0)]:
        raise bad("tuning", "boosts", tried, "0 among them")
    limits = {"absent": how["harm"], OTHER: how["harm_other"]}
    allowed = [
        one
        for one in tried
        if all(errors(one, kind) <= (1 + harm) * errors((0, 0), kind) for kind, harm in limits.items())
    ]
    fewest = min(errors(one, "full") for one in allowed)
    near = [one for one in allowed if errors(one, "full") <= (1 + how["close"]) * fewest]
    return min(near, key=lambda one: (one[0], errors(one, "full")))


def main(words: list[str]) -> None:
    """Choose, and write the record."""
    config = load_yaml(HERE / "config.yaml")
    if words:
        before = json.loads(Path(words[0]).read_text())
        how = before["config"] | {name: config["tuning"][name] for name in ("harm", "harm_other", "close")}
        record = before | {"created": now(), "config": how, "chosen": chosen(before["rows"], how)}
        record["rule_applied_again_to"] = Path(words[0]).name
    else:
        record = tuned(config, config["seed"])
    path = CHOICES / f"boost-{record['created']}.json"
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"{path.relative_to(project_root())}: boost and head {record['chosen']}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Choose the bonus of a letter on tuning speech, and write a record of it.

python -m replication.context_biasing.tune    # minutes, once `edgespeech replicate context_biasing` has made the speech

Each bonus of `tuning.boosts` in `config.yaml`, with each number of `tuning.heads` of first letters that count only at
the end, is tried with the lists of `tuning` on its corpora, none of which is for evaluation. The rule: of those whose
lists without the right phrase raise the word errors of all corpora together by at most `tuning.harm` (relative), the
one with the fewest word errors with full lists. It is printed, and is the value of `BOOST` and `HEAD` in
`src/edgespeech/biasing/phrases.py`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from replication.context_biasing.lists import sets_of
from replication.context_biasing.search import counted, packed_arm

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.corpora import find_split
from edgespeech.errors import bad
from edgespeech.packed.runtime import PackedModel
from edgespeech.records import provenance
from edgespeech.search.settings import BEAM
from edgespeech.systems.edge_packed import EdgePacked

HERE = Path(__file__).parent
CHOICES = project_root() / "results" / "context_biasing" / "choices"


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
    path = EdgePacked().path()
    rows = []
    with PackedModel(path) as model:
        for boost, head in [(0, 0), *product(how["boosts"], how["heads"])]:
            transcribe = packed_arm(model, boost, BEAM, head)
            for one in sets:
                for kind in ("full", "absent"):
                    found = counted(one, "basic", how["count"], kind, transcribe, told=boost > 0)
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
        "created": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        "commit": provenance.git_state(project_root())[0],
        "model": {path.name: sha256_file(path)},
        "config": how,
        "missing": missing,
        "rows": rows,
        "chosen": chosen(rows, how["harm"]),
    }


def chosen(rows: list[dict[str, Any]], harm: float) -> tuple[float, int]:
    """The bonus and the head with the fewest errors with full lists, of those that do no more harm than allowed with
    absent ones.

    Raises:
        EdgeSpeechError: no bonus of 0, which the others are compared with.
    """

    def errors(how: tuple[float, int], kind: str) -> int:
        return sum(row["errors"] for row in rows if (row["boost"], row["head"], row["list"]) == (*how, kind))

    tried = sorted({(row["boost"], row["head"]) for row in rows})
    if tried[:1] != [(0, 0)]:
        raise bad("tuning", "boosts", tried, "0 among them")
    allowed = [one for one in tried if errors(one, "absent") <= (1 + harm) * errors((0, 0), "absent")]
    return min(allowed, key=lambda one: errors(one, "full"))


def main() -> None:
    """Choose, and write the record."""
    config = load_yaml(HERE / "config.yaml")
    record = tuned(config, config["seed"])
    path = CHOICES / f"boost-{record['created']}.json"
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"{path.relative_to(project_root())}: boost and head {record['chosen']}")


if __name__ == "__main__":
    main()

"""Compare models of one training on tuning speech, by greedy search without a language model, and record the choice.

python replication/rnnt/choose_model.py QUESTION FOLDER FOLDER [FOLDER ...] [--tuning CORPUS ...] [--utterances N]

Each folder holds a run or a model. The lowest word error rate over all tuning corpora wins; the record, in
`results/rnnt/choices`, has every model's errors and its difference from the winner with a 95 % interval (bootstrap
over speakers). No test is used.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.corpora.corpora import find_split, split_names
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.metrics.statistics import bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.wer import ErrorCounts, count_errors
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.records.provenance import git_state, load_average, processor
from edgespeech.text.normalise import basic_text
from edgespeech.training.loop import LOG, MODEL
from edgespeech.training.watch import Sample, transcripts, tuning_sample

SCHEMA = "edgespeech-choice-1"
TUNING = (
    "real_dev",
    "corpora/assistant/assistant_dev.jsonl",
    "corpora/assistant/assistant_dev_accents.jsonl",
)
SEED = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's errors on the utterances of each corpus."""

    folder: Path
    trained: Trained
    errors: dict[str, list[ErrorCounts]]

    @property
    def pooled(self) -> list[ErrorCounts]:
        """Of all corpora."""
        return [count for counts in self.errors.values() for count in counts]


def measure(folder: Path, samples: dict[str, Sample]) -> Measured:
    """Recognise every sample with the model of a folder."""
    model_folder = folder / MODEL if (folder / MODEL).is_dir() else folder
    trained = load_model(model_folder)
    errors = {}
    for name, sample in samples.items():
        texts = [basic_text(text) for text in sample.texts]
        found = [basic_text(text) for text in transcripts(trained.model, trained.tokeniser, sample.spoken)]
        errors[name] = count_errors(texts, found)
    return Measured(folder, trained, errors)


def about(one: Measured, best: Measured, samples: dict[str, Sample]) -> dict[str, Any]:
    """What the record says of a model."""
    groups = [speaker for sample in samples.values() for speaker in sample.speakers]
    words = [count.ref_words for count in one.pooled]
    mine, theirs = ([count.errors for count in other.pooled] for other in (one, best))
    model_folder = one.folder / MODEL if (one.folder / MODEL).is_dir() else one.folder
    log = one.folder / LOG
    return {
        "name": one.trained.provenance.get("run", one.folder.name),
        "weights_sha256": sha256_file(model_folder / WEIGHTS),
        "provenance": one.trained.provenance,
        "shape": one.trained.model.config.to_mapping(),
        "parameters": one.trained.model.parameters_deployed,
        "wer": {
            name: asdict(
                bootstrap_ratio(
                    [count.errors for count in counts],
                    [count.ref_words for count in counts],
                    samples[name].speakers,
                    seed=SEED,
                )
            )
            for name, counts in one.errors.items()
        },
        "wer_pooled": asdict(bootstrap_ratio(mine, words, groups, seed=SEED)),
        "minus_best": paired_ratio_difference(mine, theirs, words, groups, seed=SEED)._asdict(),
        "log": log.read_text(encoding="utf-8").splitlines()[-1] if log.is_file() else None,
    }


def main() -> None:
    """See the top."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("question", help="what is chosen, such as `stack`")
    options.add_argument("models", nargs="+", type=Path)
    options.add_argument("--tuning", nargs="+", default=list(TUNING))
    options.add_argument("--utterances", type=int, default=300, help="of each corpus")
    options.add_argument("--out", type=Path, default=project_root() / "results" / "rnnt" / "choices")
    given = options.parse_args()
    torch.set_num_threads(1)
    for corpus in given.tuning:
        if corpus in split_names():
            described, split = find_split(corpus)
            if described.splits[split].evaluation_only:
                raise bad("choose", "tuning", corpus, "no split for evaluation")
    samples = {Path(corpus).stem: tuning_sample(corpus, given.utterances) for corpus in given.tuning}
    measured = [measure(folder, samples) for folder in given.models]
    best = min(measured, key=lambda one: sum(count.errors for count in one.pooled))
    commit, dirty = git_state(project_root())
    record = {
        "schema": SCHEMA,
        "question": given.question,
        "chosen": best.trained.provenance.get("run", best.folder.name),
        "models": [about(one, best, samples) for one in measured],
        "utterances": {name: len(sample.texts) for name, sample in samples.items()},
        "search": "greedy, no language model; normaliser basic; whole utterances and 0.5 s of silence",
        "commit": commit,
        "dirty": dirty,
        "processor": processor()[0],
        "load_average": load_average(),
        "torch": torch.__version__,
    }
    for one in record["models"]:
        rates = ", ".join(f"{name} {100 * rate['value']:.1f} %" for name, rate in one["wer"].items())
        print(f"{one['name']}: {rates}; all {100 * one['wer_pooled']['value']:.1f} %")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = given.out / f"{given.question}-{stamp}.json"
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"chosen: {record['chosen']}; {path}")


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"choose: {error}")

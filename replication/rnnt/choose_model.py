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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.statistics import RESAMPLES, bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.wer import ErrorCounts, wer
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.records.provenance import git_state, load_average, processor
from edgespeech.training.loop import LOG, MODEL
from edgespeech.training.watch import Sample, sample_errors, tuning_sample

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
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def pooled(self) -> list[ErrorCounts]:
        """Of all corpora."""
        return [count for counts in self.errors.values() for count in counts]


def model_folder(folder: Path) -> Path:
    """The model in a run's folder, or the folder itself."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def measure(folder: Path, samples: Mapping[str, Sample]) -> Measured:
    """Recognise every sample with the model of a folder."""
    trained = load_model(model_folder(folder))
    errors = {
        name: sample_errors(trained.model, trained.tokeniser, sample) for name, sample in samples.items()
    }
    return Measured(folder, trained, errors)


def rate(errors: Sequence[ErrorCounts], speakers: Sequence[str]) -> dict[str, float]:
    """A word error rate and its interval."""
    wrong, words = [count.errors for count in errors], [count.ref_words for count in errors]
    interval = bootstrap_ratio(wrong, words, speakers, seed=SEED)
    return {"wer": wer(errors), "low": interval.low, "high": interval.high}


def about(one: Measured, best: Measured, samples: Mapping[str, Sample]) -> dict[str, Any]:
    """What the record says of a model."""
    speakers = [speaker for sample in samples.values() for speaker in sample.speakers]
    words = [count.ref_words for count in one.pooled]
    mine, theirs = ([count.errors for count in other.pooled] for other in (one, best))
    against = paired_ratio_difference(mine, theirs, words, speakers, seed=SEED)
    log = one.folder / LOG
    return {
        "name": one.name,
        "weights_sha256": sha256_file(model_folder(one.folder) / WEIGHTS),
        "provenance": one.trained.provenance,
        "shape": one.trained.model.config.to_mapping(),
        "parameters": one.trained.model.parameters_deployed,
        "rates": {name: rate(errors, samples[name].speakers) for name, errors in one.errors.items()},
        "pooled": rate(one.pooled, speakers),
        "minus_chosen": {
            "wer": against.difference,
            "low": against.interval.low,
            "high": against.interval.high,
            "verdict": against.verdict,
        },
        "log": json.loads(log.read_text(encoding="utf-8").splitlines()[-1]) if log.is_file() else None,
    }


def choose(question: str, folders: Sequence[Path], tuning: Sequence[str], utterances: int) -> dict[str, Any]:
    """Measure models on tuning speech.

    Args:
        question: what is chosen.
        folders: of runs or models.
        tuning: corpora that settings may be chosen on.
        utterances: how many of each.

    Returns:
        The record.

    Raises:
        EdgeSpeechError: a corpus or model cannot be had, or a corpus is for evaluation only.
    """
    samples = {Path(corpus).stem: tuning_sample(corpus, utterances) for corpus in tuning}
    measured = [measure(folder, samples) for folder in folders]
    best = min(measured, key=lambda one: wer(one.pooled))
    commit, dirty = git_state(project_root())
    return {
        "schema": SCHEMA,
        "question": question,
        "chosen": best.name,
        "models": [about(one, best, samples) for one in measured],
        "utterances": {name: len(sample.texts) for name, sample in samples.items()},
        "search": "greedy, no language model; normaliser basic; whole utterances and 0.5 s of silence",
        "bootstrap": f"95 %, over speakers, {RESAMPLES} resamples, seed {SEED}",
        "commit": commit,
        "dirty": dirty,
        "processor": processor()[0],
        "load_average": load_average(),
        "torch": torch.__version__,
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
    record = choose(given.question, given.models, given.tuning, given.utterances)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = given.out / f"{given.question}-{stamp}.json"
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    for one in record["models"]:
        rates = ", ".join(f"{name} {100 * found['wer']:.1f} %" for name, found in one["rates"].items())
        print(f"{one['name']}: {rates}; all {100 * one['pooled']['wer']:.1f} %")
    print(f"chosen: {record['chosen']}; {path}")


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"choose: {error}")

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
from edgespeech.metrics.statistics import RESAMPLES
from edgespeech.metrics.word_errors import POOLED, Text, WordErrors
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.records.provenance import git_state, load_average, processor
from edgespeech.training.loop import LOG, MODEL
from edgespeech.training.watch import NORMALISER, Sample, transcripts, tuning_sample

SCHEMA = "edgespeech-choice-1"
TUNING = (
    "real_dev",
    "corpora/assistant/assistant_dev.jsonl",
    "corpora/assistant/assistant_dev_accents.jsonl",
)
SEED = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's errors on each utterance of all corpora."""

    folder: Path
    trained: Trained
    errors: list[int]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name


def model_folder(folder: Path) -> Path:
    """The model in a run's folder, or the folder itself."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def counter_of(samples: Mapping[str, Sample]) -> WordErrors:
    """Counts errors of transcripts of all samples, one after the other."""
    references = [
        Text(name, text, speaker)
        for name, sample in samples.items()
        for text, speaker in zip(sample.texts, sample.speakers, strict=True)
    ]
    return WordErrors(references, dict.fromkeys(samples, NORMALISER), SEED)


def measure(folder: Path, samples: Mapping[str, Sample], counter: WordErrors) -> Measured:
    """Recognise every sample with the model of a folder."""
    trained = load_model(model_folder(folder))
    texts = [
        text
        for sample in samples.values()
        for text in transcripts(trained.model, trained.tokeniser, sample.spoken)
    ]
    return Measured(folder, trained, counter.errors(texts))


def about(one: Measured, best: Measured, counter: WordErrors) -> dict[str, Any]:
    """What the record says of a model."""
    against = counter.compare([one.errors], [best.errors])
    rates = {name: counter.rate(one.errors, name) for name in counter.corpora}
    log = one.folder / LOG
    return {
        "name": one.name,
        "weights_sha256": sha256_file(model_folder(one.folder) / WEIGHTS),
        "provenance": one.trained.provenance,
        "shape": one.trained.model.config.to_mapping(),
        "parameters": one.trained.model.parameters_deployed,
        "pooled": rates.pop(POOLED),
        "rates": rates,
        "minus_chosen": {
            "wer": against.difference,
            "low": against.low,
            "high": against.high,
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
    counter = counter_of(samples)
    measured = [measure(folder, samples, counter) for folder in folders]
    best = min(measured, key=lambda one: sum(one.errors))
    commit, dirty = git_state(project_root())
    return {
        "schema": SCHEMA,
        "question": question,
        "chosen": best.name,
        "models": [about(one, best, counter) for one in measured],
        "utterances": {name: len(sample.texts) for name, sample in samples.items()},
        "search": f"greedy, no language model; normaliser {NORMALISER}; whole utterances and 0.5 s of silence",
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

"""Compare models on tuning speech, record the choice, and ship the chosen one.

python replication/rnnt/choose_model.py QUESTION CANDIDATE [CANDIDATE ...] [--tuning CORPUS ...] [--utterances N]
    [--by ships] [--ship]

A candidate is a folder with a run or a model, or an average of several: `NAME=FOLDER:SHARE+FOLDER:SHARE`, where name
and shares are optional. All are measured by greedy search without a language model; `--by ships` also measures the
shipped search (its beam, with the language models) and chooses by that. The lowest word error rate over all tuning
corpora wins; the record, in `results/rnnt/choices`, has every model's errors and its difference from the winner with a
95 % interval (bootstrap over speakers). No evaluation corpus is used. `--ship` then makes the chosen model the
published one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import Fusion
from edgespeech.metrics.statistics import RESAMPLES
from edgespeech.metrics.word_errors import POOLED, Text, WordErrors
from edgespeech.model.average import average_checkpoints
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.records.provenance import git_state, load_average, processor
from edgespeech.search.partials import TAIL_S
from edgespeech.search.settings import BEAM
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.fusion import load_fusion_config, make_fusion
from edgespeech.training.loop import LOG, MODEL
from edgespeech.training.tuning import said
from edgespeech.training.watch import NORMALISER, Sample, transcripts, tuning_sample

SCHEMA = "edgespeech-choice-2"
CHOICES = project_root() / "results" / "rnnt" / "choices"
FUSION_CONFIG = Path(__file__).parent / "fusion.yaml"
TUNING = (
    "real_dev",
    "corpora/assistant/assistant_dev.jsonl",
    "corpora/assistant/assistant_dev_accents.jsonl",
)
SEED = 0
GREEDY, SHIPS = "greedy", "ships"
SEARCHES = {
    GREEDY: f"greedy, no language model; normaliser {NORMALISER}; whole utterances and 0.5 s of silence",
    SHIPS: f"beam of {BEAM}, language models of the recogniser, native engine in fp32; normaliser {NORMALISER}; whole "
    f"utterances and {TAIL_S:g} s of silence",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate model: of one folder, or the average of several.

    Attributes:
        name: in the record.
        parts: the folders, each of a run or a model, and their shares.
        trained: the model.
    """

    name: str
    parts: tuple[tuple[Path, float], ...]
    trained: Trained


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate's errors on each utterance of all corpora, by search."""

    candidate: Candidate
    errors: dict[str, list[int]]


def model_folder(folder: Path) -> Path:
    """The model in a run's folder, or the folder itself."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def candidate(text: str) -> Candidate:
    """A candidate from the command line: `NAME=FOLDER:SHARE+FOLDER:SHARE`.

    Raises:
        EdgeSpeechError: a share that is not a number, or as `average_checkpoints`.
    """
    name, _, spec = text.rpartition("=")
    folders: list[Path] = []
    shares: list[float] = []
    for part in spec.split("+"):
        folder, colon, share = part.partition(":")
        folders.append(Path(folder))
        if colon:
            try:
                shares.append(float(share))
            except ValueError:
                raise bad(f"candidate {text}", "share", share, "a number from 0 to 1") from None
    if shares and len(shares) != len(folders):
        raise bad(f"candidate {text}", "shares", shares, "one for each folder, or none")
    shares = shares or [1 / len(folders)] * len(folders)
    trained = average_checkpoints([model_folder(folder) for folder in folders], shares)
    parts = tuple(zip(folders, shares, strict=True))
    return Candidate(name or "+".join(folder.name for folder in folders), parts, trained)


def fusion_of(tokeniser: Tokeniser) -> Fusion:
    """The language models for word pieces: those of the recogniser if the pieces are the same."""
    shipped = load_model(EdgeFp32().folder())
    if shipped.fusion is not None and shipped.tokeniser.pieces == tokeniser.pieces:
        return shipped.fusion
    return make_fusion(load_fusion_config(FUSION_CONFIG), tokeniser)


def counter_of(samples: Mapping[str, Sample]) -> WordErrors:
    """`WordErrors` of the concatenated samples."""
    references = [
        Text(name, text, speaker)
        for name, sample in samples.items()
        for text, speaker in zip(sample.texts, sample.speakers, strict=True)
    ]
    return WordErrors(references, dict.fromkeys(samples, NORMALISER), SEED)


def measure(
    one: Candidate,
    samples: Mapping[str, Sample],
    searches: Sequence[str],
    tailed: Mapping[str, Sample],
    counter: WordErrors,
) -> Measured:
    """Recognise every sample with a model, by each search; `tailed` are the samples with silence after each."""
    errors: dict[str, list[int]] = {}
    for search in searches:
        if search == GREEDY:
            model, tokeniser = one.trained.model, one.trained.tokeniser
            texts = [transcripts(model, tokeniser, some.spoken) for some in samples.values()]
        else:
            fused = replace(one.trained, fusion=fusion_of(one.trained.tokeniser))
            texts = [said(fused, some.spoken, BEAM) for some in tailed.values()]
        errors[search] = counter.errors([text for some in texts for text in some])
    return Measured(one, errors)


def difference(one: Measured, other: Measured, search: str, counter: WordErrors) -> dict[str, Any]:
    """A model's word error rate over all corpora minus another's."""
    found = counter.compare([one.errors[search]], [other.errors[search]])
    return {"wer": found.difference, "low": found.low, "high": found.high, "verdict": found.verdict}


def about(one: Measured, other: Measured, counter: WordErrors) -> dict[str, Any]:
    """The record's entry of a model, where `other` is the one with which all are compared."""
    made, (last, _) = one.candidate.trained, one.candidate.parts[-1]
    log = last / LOG
    return {
        "name": one.candidate.name,
        "parts": [
            {
                "folder": folder.name,
                "share": share,
                "weights_sha256": sha256_file(model_folder(folder) / WEIGHTS),
            }
            for folder, share in one.candidate.parts
        ],
        "provenance": made.provenance,
        "shape": made.model.config.to_mapping(),
        "parameters": made.model.parameters_deployed,
        "log": json.loads(log.read_text(encoding="utf-8").splitlines()[-1]) if log.is_file() else None,
        **{
            search: {
                "rates": {name: counter.rate(errors, name) for name in counter.corpora if name != POOLED},
                "pooled": counter.rate(errors),
                "difference": difference(one, other, search, counter),
            }
            for search, errors in one.errors.items()
        },
    }


def choose(
    question: str,
    candidates: Sequence[Candidate],
    tuning: Sequence[str],
    utterances: int,
    *,
    by: str = GREEDY,
    against: str | None = None,
) -> dict[str, Any]:
    """Measure models on tuning speech.

    Args:
        question: of the choice.
        candidates: the models.
        tuning: corpora for tuning.
        utterances: number of each.
        by: the search that decides, a key of `SEARCHES`; greedy search is always measured.
        against: the name of the model with which all are compared; None for the chosen one.

    Returns:
        The record.

    Raises:
        EdgeSpeechError: a corpus is not available or is for evaluation only, two candidates have the same name, or none
            has that of `against`.
    """
    names = [one.name for one in candidates]
    if len(set(names)) < len(names):
        raise bad("choose", "candidates", ", ".join(names), "each name once (NAME=FOLDER)")
    if against is not None and against not in names:
        raise bad("choose", "against", against, "one of " + ", ".join(names))
    samples = {Path(corpus).stem: tuning_sample(corpus, utterances) for corpus in tuning}
    searches = (GREEDY,) if by == GREEDY else (GREEDY, by)
    tailed = (
        {}
        if by == GREEDY
        else {Path(corpus).stem: tuning_sample(corpus, utterances, tail_s=TAIL_S) for corpus in tuning}
    )
    counter = counter_of(samples)
    measured = {one.name: measure(one, samples, searches, tailed, counter) for one in candidates}
    best = min(measured, key=lambda name: sum(measured[name].errors[by]))
    compared_with = against or best
    commit, dirty = git_state(project_root())
    return {
        "schema": SCHEMA,
        "question": question,
        "chosen": best,
        "by": by,
        "compared_with": compared_with,
        "models": [about(one, measured[compared_with], counter) for one in measured.values()],
        "utterances": {name: len(sample.texts) for name, sample in samples.items()},
        "searches": {search: SEARCHES[search] for search in searches},
        "bootstrap": f"95 %, over speakers, {RESAMPLES} resamples, seed {SEED}",
        "commit": commit,
        "dirty": dirty,
        "processor": processor()[0],
        "load_average": load_average(),
        "torch": torch.__version__,
    }


def write_record(record: Mapping[str, Any], folder: Path = CHOICES) -> Path:
    """Write a choice to the folder of choices, print it, and return its path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{record['question']}-{stamp}.json"
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    for one in record["models"]:
        for search in record["searches"]:
            found = one[search]
            rates = ", ".join(f"{name} {100 * some['wer']:.1f} %" for name, some in found["rates"].items())
            less = " ".join(f"{100 * found['difference'][end]:+.2f}" for end in ("wer", "low", "high"))
            print(
                f"{one['name']}, {search}: {rates}; all {100 * found['pooled']['wer']:.1f} %; {less} points"
            )
    print(f"chosen: {record['chosen']} (by {record['by']}); {path}")
    return path


def ship(one: Candidate) -> None:
    """Publish a candidate as the recogniser's model, with its language models and packed.

    Raises:
        EdgeSpeechError: the publishing command failed; its output says why.
    """
    folders = [str(folder.resolve()) for folder, _ in one.parts]
    shares = [str(share) for _, share in one.parts]
    command = ("replicate", "rnnt", "--publish-model", *folders, "--shares", *shares)
    done = subprocess.run([sys.executable, "-m", "edgespeech.cli", *command], check=False)
    if done.returncode:
        raise EdgeSpeechError(f"edgespeech {' '.join(command)}: ended with {done.returncode}")


def main() -> None:
    """Run the command line; see the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("question", help="what is chosen, such as `stack`")
    options.add_argument("candidates", nargs="+", metavar="CANDIDATE", help="[NAME=]FOLDER[:SHARE][+...]")
    options.add_argument("--tuning", nargs="+", default=list(TUNING))
    options.add_argument("--utterances", type=int, default=300, help="of each corpus")
    options.add_argument("--by", choices=tuple(SEARCHES), default=GREEDY, help="the search that decides")
    options.add_argument(
        "--against", metavar="NAME", help="compare all with this one; else with the chosen one"
    )
    options.add_argument("--ship", action="store_true", help="publish the chosen model")
    options.add_argument("--out", type=Path, default=CHOICES)
    given = options.parse_args()
    torch.set_num_threads(1)
    candidates = [candidate(text) for text in given.candidates]
    record = choose(
        given.question, candidates, given.tuning, given.utterances, by=given.by, against=given.against
    )
    write_record(record, given.out)
    if given.ship:
        ship(next(one for one in candidates if one.name == record["chosen"]))


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"choose: {error}")

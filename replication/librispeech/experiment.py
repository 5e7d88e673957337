"""Measure the on-device model's recipe on LibriSpeech: greedy word error rates of the available runs.

edgespeech replicate librispeech            # measure the runs in the work folder
edgespeech replicate librispeech --render   # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgespeech.core.places import project_root, work_dir
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.report.page import run
from edgespeech.training.config import load_train_config
from edgespeech.training.loop import MODEL
from edgespeech.training.watch import evaluation_sample, transcripts

HERE = Path(__file__).parent


def error_rates(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every run on every split; runs that were not trained here are reported as not run."""
    for run_file, about in config["runs"].items():
        folder = work_dir() / "runs" / load_train_config(HERE / f"{run_file}.yaml").name / MODEL
        for claim, split in about["claims"].items():
            row: Row = {"claim": claim, "detail": split}
            if not (folder / WEIGHTS).is_file():
                yield {**row, "skipped": about["needs"]}
                continue
            trained = load_model(folder)
            sample = evaluation_sample(split)
            counter = sample.word_errors(seed)
            errors = counter.errors(transcripts(trained.model, trained.tokeniser, sample.spoken))
            yield {**row, **counter.as_row(errors), "provenance": trained.provenance}


PAGE = Page(folder=HERE, records=project_root() / "results" / "librispeech", checks=(error_rates,))


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, profile=options.profile, render_only=options.render)

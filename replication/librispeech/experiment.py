"""Measure the on-device model's recipe on LibriSpeech: greedy word error rates of the available runs.

edgespeech replicate librispeech                                     # measure the runs that are made
edgespeech replicate librispeech --profile full --only 'train_100'   # fetch the corpus, train, measure
edgespeech replicate librispeech --render                            # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import bad
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.model.checkpoint import load_model
from edgespeech.report.page import run
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import is_made
from edgespeech.training.config import load_train_config
from edgespeech.training.step import model_of, train_step
from edgespeech.training.watch import evaluation_sample, transcripts

HERE = Path(__file__).parent


def error_rates(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every run on every split; runs that were not trained here are reported as not run."""
    for run_file, about in config["runs"].items():
        step = run_step(config, run_file)
        for claim, split in about["claims"].items():
            row: Row = {"claim": claim, "detail": split}
            if not is_made(step):
                yield {**row, "skipped": about["needs"]}
                continue
            trained = load_model(model_of(step))
            sample = evaluation_sample(split)
            counter = sample.word_errors(seed)
            errors = counter.errors(transcripts(trained.model, trained.tokeniser, sample.spoken))
            yield {**row, **counter.as_row(errors), "provenance": trained.provenance}


def run_step(config: dict[str, Any], name: str) -> Step:
    """The step that trains a run of the configuration."""
    run_config = load_train_config(HERE / f"{name}.yaml")
    resources = Resources.from_mapping(
        config["runs"][name].get("resources"), f"librispeech/config.yaml: {name}"
    )
    return train_step(run_config.name, run_config, resources=resources)


def steps(profile: str, only: str) -> list[Step]:
    """The runs whose names match. All together are none: they take days, so each is asked for by its name."""
    if profile != "full" or only == "*":
        return []
    config = load_yaml(HERE / "config.yaml")
    found = [run_step(config, name) for name in config["runs"] if fnmatchcase(name, only)]
    if not found:
        raise bad("librispeech", "--only", only, "a pattern that matches one of " + ", ".join(config["runs"]))
    return found


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "librispeech",
    checks=(error_rates,),
    steps=steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

"""Measure training for word errors, write one record, and render it into this folder's README.

edgespeech replicate mwer                              # measure every arm whose model is available
edgespeech replicate mwer --profile full               # train what is not trained yet, measure and publish
edgespeech replicate mwer --profile full --only plain  # train some of the arms only, then the same
edgespeech replicate mwer --rescore                    # score the published transcripts again
edgespeech replicate mwer --render                     # render the newest record only
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from replication.mwer.lists import Lists, later, lists_of, points, relative

from edgespeech.arms.configuration import Arms, arms_of
from edgespeech.arms.figures import check_arms
from edgespeech.arms.packed_bench import Bench
from edgespeech.arms.page import arms_and_plot_block, arms_plots, main_of_arms
from edgespeech.core.labels import BLANK
from edgespeech.core.places import project_root
from edgespeech.harness.checks import Page, Row, busy
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.checkpoint import load_model
from edgespeech.model.loss import transducer_loss
from edgespeech.training.batches import Batch, Batches
from edgespeech.training.config import TrainConfig, WordErrors
from edgespeech.training.speech import encode_items, load_noises, load_speech
from edgespeech.training.word_errors import expected_errors, searched

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "mwer"


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All arms, and their comparisons."""
    yield from check_arms(arms_of(HERE), RESULTS, config, seed)


def lists(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Word errors of the first, the best and all hypotheses of lists, and when their labels come."""
    found, settings = arms_of(HERE), config["lists"]
    with TemporaryDirectory() as scratch:
        bench = Bench(config["corpora"], Path(scratch), seed)
        ours = _by_seed(found, settings["arm"], bench, settings["hypotheses"])
        for control in settings["against"]:
            detail = f"{settings['arm']} against {control}"
            theirs = _by_seed(found, control, bench, settings["hypotheses"])
            both = sorted(ours.keys() & theirs.keys())
            if not both:
                for claim in ("paper", "words", "oracle", "expected", "greedy", "delay"):
                    yield {
                        "claim": f"mwer.{claim}",
                        "detail": detail,
                        "skipped": "not trained on this machine",
                    }
                continue
            a, b = ([each[one] for one in both] for each in (ours, theirs))
            fewer = relative(a, b, "best", bench)
            yield {"claim": "mwer.paper", "detail": detail, **fewer}
            yield {"claim": "mwer.words", "detail": detail, **fewer}
            yield {"claim": "mwer.oracle", "detail": detail, **points(a, b, "oracle", bench)}
            yield {"claim": "mwer.expected", "detail": detail, **relative(a, b, "expected", bench)}
            yield {"claim": "mwer.greedy", "detail": detail, **relative(a, b, "greedy", bench)}
            yield {"claim": "mwer.delay", "detail": detail, **later(a, b, bench)}


def _by_seed(found: Arms, first: str, bench: Bench, hypotheses: int) -> dict[int, Lists]:
    """The lists of an arm's models that are here."""
    known = [arm for arm in found.arms.values() if arm.first == first and found.has_model(arm)]
    made = {}
    for arm in known:
        file = bench.scratch / f"{arm.name}.edge"
        found.pack(arm, file)
        made[arm.seed] = lists_of(file, bench, hypotheses)
    return made


def speed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """How long a step takes with lists that were made ahead, and with a search of its own."""
    settings, found = config["speed"], arms_of(HERE)
    claims = [f"mwer.{name}" for name in ("six", "three")]
    run = found.arms[settings["arm"]].config
    reason = busy() if run is not None else "no arm is trained with lists"
    if reason is not None or run is None or run.word_errors is None:
        for claim in claims:
            yield {"claim": claim, "skipped": reason}
        return
    ahead = run.word_errors
    ways: dict[str, WordErrors] = {
        name: ahead.model_copy(update={"every": 1, "search": name}) for name in settings["slow"]
    }
    told: dict[str, list[float]] = {name: [] for name in ("ahead", *ways)}
    timed = _Timed(run, found.init)
    for place in range(config[config["profile"]]["batches"]):
        batch = timed.batches[place]
        step = timed.step(batch)
        # Lists made ahead are made at once, so that the model is packed once for all.
        told["ahead"].append(step + timed.search([batch] * ahead.every, ahead) / ahead.every)
        for name, way in ways.items():
            told[name].append(step + timed.search([batch], way))
    for name in ways:
        ratio = sum(told[name]) / sum(told["ahead"])
        row: Row = {"detail": f"searching by {name}", "measured": ratio, "n": len(told[name])}
        if len(told[name]) > 1:
            row |= bootstrap_ratio(told[name], told["ahead"], [None] * len(told[name]), seed=seed).as_row()
        for claim in claims:
            yield {"claim": claim, **row}


class _Timed:
    """A training step, and the search for its lists, in seconds of processor time."""

    def __init__(self, run: TrainConfig, init: Path) -> None:
        trained = load_model(init)
        self._model, self._tokeniser, self._run = trained.model.requires_grad_(True), trained.tokeniser, run
        speech = load_speech(run.speech, longest_s=run.longest_s)
        labels = encode_items(speech.items, self._tokeniser, self._model.config)
        self.batches = Batches(run, speech, labels, load_noises(*run.noise_corpora))

    def search(self, batches: Sequence[Batch], settings: WordErrors) -> float:
        """Making the lists of some batches."""
        began = time.process_time()
        for _ in searched(batches, settings, self._model.eval(), self._tokeniser):
            pass
        return time.process_time() - began

    def step(self, batch: Batch) -> float:
        """Both losses and their gradients, with lists that are there."""
        model = self._model.eval()
        assert self._run.word_errors is not None
        heard = next(searched([batch], self._run.word_errors, model, self._tokeniser)).heard
        assert heard is not None
        began = time.process_time()
        encoded, lengths, _ = model.transcribe(batch.features, batch.lengths)
        found = expected_errors(model, encoded, lengths, heard, memory_mib=self._run.loss_mib)
        plain = transducer_loss(
            encoded,
            model.predict(batch.labels),
            model.joiner.weight,
            model.joiner.bias,
            batch.labels,
            lengths,
            batch.label_lengths,
            blank=BLANK,
            memory_mib=self._run.loss_mib,
        )
        torch.autograd.backward(found.loss + plain.sum())
        for parameter in model.parameters():
            parameter.grad = None
        return time.process_time() - began


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, lists, speed),
    blocks={"arms": arms_and_plot_block},
    plots=lambda record: arms_plots(record),
    steps=lambda profile, only: arms_of(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    main_of_arms(PAGE, __doc__, words)

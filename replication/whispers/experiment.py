"""Measure whisper detection, write one record, and render it into this folder's README.

edgespeech replicate whispers                  # measure with what is trained or published
edgespeech replicate whispers --profile full   # train what is not trained yet, measure, publish and ship
edgespeech replicate whispers --render         # render the newest record only
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from replication.whispers import sets, tables
from replication.whispers.runs import FILE, given_of, steps_of

from edgespeech.audio.features import log_mel
from edgespeech.cloud.whisper_backend import build_whisper
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.extras import missing
from edgespeech.core.places import project_root, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, busy, parser
from edgespeech.metrics.detection import Flags, f1, f1_difference
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio, quantile
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.records.records import sha256_json
from edgespeech.report.page import run
from edgespeech.steps.published import newest_copy
from edgespeech.whispers.network import Detector, Saved, WhisperNet, load_network
from edgespeech.whispers.rules import FEATURES, features_of
from edgespeech.whispers.training import best_threshold

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "whispers"
CLEAN, NOISE = "clean", "noise"
Rules = dict[str, tuple[int, float]]
"""Of each hand-made feature the sign and the threshold from which on it says that an utterance is whispered."""


class Heard(NamedTuple):
    """A test condition: the utterances, their features by hand, and the frames' log-odds of each network."""

    examples: list[sets.Example]
    features: NDArray[np.float64]
    log_odds: dict[int, list[torch.Tensor]]

    @property
    def truth(self) -> Flags:
        """Which utterances are whispered."""
        return np.array([one.is_whispered for one in self.examples])


def networks_of(config: dict[str, Any]) -> dict[int, Saved]:
    """The network of each seed: of a step made here, which the full profile publishes, else as published."""
    steps, found = {step.name: step for step in steps_of(config)}, {}
    for seed in config["seeds"]:
        published = shipped_models() / "whispers" / f"seed_{seed}.safetensors"
        path = newest_copy(steps[f"seed_{seed}"], FILE, published, publish=config["profile"] == "full")
        if path is None:
            continue
        saved = load_network(path)
        if saved.given_sha256 == sha256_json(given_of(config, seed)):
            found[seed] = saved
    return found


def hear(config: dict[str, Any], corpus: str, condition: str, networks: dict[int, Saved]) -> Heard:
    """Every detector on a test set under a condition."""
    noise = sets.kitchen(config) if condition == NOISE else None
    return _heard(list(sets.test(config, corpus, noise, treated=False)), networks)


@torch.inference_mode()
def _heard(examples: list[sets.Example], networks: dict[int, Saved]) -> Heard:
    log_odds: dict[int, list[torch.Tensor]] = {seed: [] for seed in networks}
    for one in examples:
        given = torch.from_numpy(log_mel(one.samples))[None]
        for seed, saved in networks.items():
            log_odds[seed].append(saved.network(given)[0][0])
    return Heard(examples, np.array([features_of(one.samples) for one in examples]), log_odds)


def decided(heard: Heard, networks: dict[int, Saved]) -> list[Flags]:
    """The utterances that each network takes for whispers."""
    return [
        np.array([saved.pooling.score(one) >= saved.pooling.threshold for one in heard.log_odds[seed]])
        for seed, saved in networks.items()
    ]


def detection(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """F1 of the network and of its controls, clean and in noise."""
    networks = networks_of(config)
    if not networks:
        for claim in ("features", "clean", "noise", "rules", "treated"):
            yield {
                "claim": f"whispers.{claim}",
                "skipped": "no network is trained here, and none is published",
            }
        return
    rules = _rules(config)
    for corpus in config["test"]:
        for condition in (CLEAN, NOISE):
            try:
                heard = hear(config, corpus, condition, networks)
            except EdgeSpeechError as error:
                yield {"claim": f"whispers.{condition}", "detail": corpus, "skipped": str(error)}
                continue
            yield from _compared(heard, networks, rules, f"{corpus}, {condition}", condition, seed)
        yield from _treated(config, corpus, networks, seed)


def _compared(
    heard: Heard, networks: dict[int, Saved], rules: Rules, detail: str, condition: str, seed: int
) -> Iterator[Row]:
    truth, groups = heard.truth, sets.speakers(heard.examples)
    found = decided(heard, networks)
    common = {"n": len(truth), "seeds": len(networks), "resampled": ("speakers", "seeds")}
    own = f1(found, truth, groups, seed=seed)
    yield {
        "claim": f"whispers.{condition}",
        "detail": detail,
        "measured": own.value,
        **own.interval.as_row(),
        **common,
    }
    table: dict[str, Any] = {"network": own.value}
    mlp = [one.control.scores(heard.features) >= one.control_threshold for one in networks.values()]
    table["all by hand"] = f1(mlp, truth, groups, seed=seed).value
    gain = f1_difference(found, mlp, truth, groups, seed=seed)
    yield {
        "claim": "whispers.features",
        "detail": detail,
        "measured": gain.value,
        **gain.interval.as_row(),
        **common,
    }
    for name, (sign, threshold) in rules.items():
        rule = [sign * heard.features[:, FEATURES.index(name)] >= threshold]
        table[name] = f1(rule, truth, groups, seed=seed).value
        gain = f1_difference(found, rule, truth, groups, seed=seed)
        row = {"claim": "whispers.rules", "detail": f"{detail}, against {name}", "measured": gain.value}
        yield {**row, **gain.interval.as_row(), **common}
    yield {"detector": {"condition": detail, **table}}


def _rules(config: dict[str, Any]) -> Rules:
    """The rules on one feature, fitted to the tuning speakers."""
    examples = list(sets.tuning(config))
    features = np.array([features_of(one.samples) for one in examples])
    labels = np.array([one.is_whispered for one in examples])
    rules = {}
    for at, name in enumerate(FEATURES):
        sign = 1 if features[labels, at].mean() >= features[~labels, at].mean() else -1
        rules[name] = (sign, best_threshold(sign * features[:, at], labels))
    return rules


def _treated(config: dict[str, Any], corpus: str, networks: dict[int, Saved], seed: int) -> Iterator[Row]:
    """Voiced utterances whose envelope is changed as that of whispers is, and as they are."""
    for treated in (True, False):
        detail = f"{corpus}, {'treated' if treated else 'as spoken'}"
        try:
            examples = [
                one for one in sets.test(config, corpus, None, treated=treated) if not one.is_whispered
            ]
        except EdgeSpeechError as error:
            yield {"claim": "whispers.treated", "detail": detail, "skipped": str(error)}
            continue
        flags = np.stack(decided(_heard(examples, networks), networks))
        alarms = flags.mean(0)
        share = bootstrap_ratio(alarms, np.ones(len(alarms)), sets.speakers(examples), seed=seed)
        yield {"claim": "whispers.treated", "detail": detail, "measured": float(flags.mean()), **share.as_row(),
               "n": len(examples), "seeds": len(networks)}  # fmt: skip


def size(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The numbers of the network."""
    del config, seed
    network = WhisperNet()
    counted = sum(value.numel() for value in network.state_dict().values())
    # torch has two biases for each gate where one would do; both are counted.
    yield {
        "claim": "whispers.parameters",
        "measured": counted,
        "detail": f"{2 * counted:,} bytes in half precision",
    }


def speed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The time of the network for each chunk of 100 ms, on features that the recogniser has."""
    row: Row = {"claim": "whispers.time", "detail": "chunks of 100 ms, one stream, by torch"}
    if (reason := busy()) is not None:
        yield {**row, "skipped": reason}
        return
    saved = next(iter(networks_of(config).values()), None)
    if saved is None:
        yield {**row, "skipped": "no network is trained here, and none is published"}
        return
    told = config["speed"]
    rng = np.random.default_rng(seed)
    features = log_mel(rng.standard_normal(told["seconds"] * SAMPLE_RATE).astype(np.float32) * 0.1)
    detector = Detector(saved.network, saved.pooling)
    times = []
    for at in range(0, len(features), 10):
        begun = time.perf_counter()
        detector.hear(features[at : at + 10])
        _ = detector.log_odds
        times.append(time.perf_counter() - begun)
    shares = [one / 0.1 for one in times[told["warm"] :]]
    found = bootstrap_quantile([[one] for one in shares], 0.5, [None] * len(shares), seed=seed)
    yield {**row, "measured": quantile(shares, 0.5), **found.as_row(), "n": len(shares)}


def words(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Whether a recogniser still finds the words: a check of how whispers are made."""
    told = config["words"]
    row: Row = {"claim": "whispers.words", "detail": f"{told['corpus']}, {told['system']}"}
    reason = missing("faster_whisper") or weights_available(told["system"])
    if reason is not None:
        yield {**row, "skipped": reason}
        return
    backend = build_whisper(resolve_weights(told["system"]).folder)
    own = {**config, "profile": "words", "words": told[config["profile"]]}
    examples = list(sets.test(own, told["corpus"], None, treated=False))
    for is_whispered, name in ((False, "as spoken"), (True, "whispered")):
        chosen = [one for one in examples if one.is_whispered == is_whispered]
        rates = word_errors_of([one.text for one in chosen], "spelled-en", sets.speakers(chosen), seed=seed)
        texts = [backend.transcribe(one.samples, (), "en") for one in chosen]
        yield {**row, "detail": f"{row['detail']}, {name}", **rates.as_row(rates.errors(texts))}


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(detection, size, speed, words),
    blocks={"detectors": tables.detectors_block},
    steps=lambda profile, only: steps_of(load_yaml(HERE / "config.yaml"), only) if profile == "full" else (),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, render_only=options.render)

"""Measure speaker identification, write one record, and render it into this folder's README.

edgespeech replicate speakers                  # measure with what is trained or published
edgespeech replicate speakers --profile full   # train what is not trained yet, measure, publish and ship
edgespeech replicate speakers --render         # render the newest record only
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from replication.speakers import households, sets, tables
from replication.speakers.listening import Listener, Systems, Vectors
from replication.speakers.runs import (
    CONTROLS,
    DISCRIMINANTS,
    FILE,
    controls_given,
    given_of,
    load_controls,
    steps_of,
)
from replication.speakers.trials import Trials, free_trials, same_text_trials

from edgespeech.audio.mix import mix_at_snr
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.places import project_root, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.weights import load_spec
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, busy, parser
from edgespeech.metrics.statistics import Estimate, bootstrap_quantile, bootstrap_ratio, quantile
from edgespeech.metrics.verification import Verified, verified
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.report.page import run
from edgespeech.speakers import resemblyzer
from edgespeech.speakers.enrolment import shipped_network
from edgespeech.speakers.network import (
    Saved,
    SpeakerNet,
    Thresholds,
    load_network,
    rounded,
    save_network,
)
from edgespeech.speakers.spectrum import Spectrum
from edgespeech.steps.published import newest_copy
from edgespeech.steps.step import Step

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "speakers"
NETWORK, ROUNDED = "network", "network, 8 bits"
SAME_WORD = "same word"
UNTRAINED = "no network is trained here, and none is published"
TIMES_RESEMBLYZER = 1.5
PEERS = {
    "CAM++": "no package archive carries its weights; its makers publish them on model hubs alone",
    "x-vector": "the package xvector-jtubespeech carries the network's code without its weights",
}
"""Known networks that cannot be measured here."""


class Networks(NamedTuple):
    """What is trained: the network of each seed, and the controls; those that there are."""

    saved: dict[int, Saved]
    controls: dict[str, Spectrum]


def networks_of(config: dict[str, Any]) -> Networks:
    """What steps made here, which the full profile publishes, else as published."""
    steps, publish = {step.name: step for step in steps_of(config)}, config["profile"] == "full"
    folder = shipped_models() / "speakers"
    found: dict[int, Saved] = {}
    for seed in config["seeds"]:
        path = newest_copy(steps[f"seed_{seed}"], FILE, folder / f"seed_{seed}.safetensors", publish=publish)
        if path is not None and (saved := load_network(path)).given_sha256 == sha256_json(
            given_of(config, seed)
        ):
            found[seed] = saved
    if publish and found:
        save_network(shipped_network(), next(iter(found.values())), packed=True)
    controls: dict[str, Spectrum] = {}
    path = newest_copy(steps["controls"], CONTROLS, folder / CONTROLS, publish=publish)
    if path is not None:
        made, given = load_controls(path)
        controls = made if given == sha256_json(controls_given(config)) else {}
    return Networks(found, controls)


def systems_of(networks: Networks) -> Systems:
    """Everything that can be compared here, by name."""
    found: dict[str, Sequence[Any]] = {}
    if networks.saved:
        found[NETWORK] = [one.network.embed for one in networks.saved.values()]
        found[ROUNDED] = [rounded(one.network).embed for one in networks.saved.values()]
    found |= {name: [one.embed] for name, one in networks.controls.items()}
    if _no_resemblyzer() is None:
        found[resemblyzer.NAME] = [resemblyzer.Resemblyzer.loaded().embed]
    return found


def _no_resemblyzer() -> str | None:
    """Why it cannot be compared here, without folders of this machine."""
    reason = resemblyzer.why_missing()
    return None if reason is None else without_paths(reason)


def trials_of(config: Mapping[str, Any], test: Mapping[str, Any]) -> tuple[Listener, Trials]:
    """The trials of a test, and its corpus without systems that listen."""
    manifest, utterances = sets.utterances_of(test["corpus"])
    common = {"enrol": test["enrol"], "strangers": config["strangers"], "seed": config["seed"]}
    if test["kind"] == SAME_WORD:
        trials = same_text_trials(utterances, **common)
    else:
        trials = free_trials(utterances, speakers=config[config["profile"]], **common)
    return Listener(manifest, {}), trials


def verification(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Error rates of all systems on all trials."""
    networks = networks_of(config)
    systems = systems_of(networks)
    known: dict[str, Listener] = {}
    for test in config["tests"]:
        detail = f"{test['corpus']}, {test['kind']}, {test['enrol']} recordings"
        if not networks.saved:
            yield from _skipped(detail, UNTRAINED)
            continue
        try:
            listener, trials = trials_of(config, test)
        except EdgeSpeechError as error:
            yield from _skipped(detail, without_paths(str(error)))
            continue
        listener = known.setdefault(test["corpus"], Listener(listener.manifest, systems))
        for condition in test["conditions"]:
            where = f"{detail}, {condition}"
            try:
                vectors = listener.vectors(trials, condition, sets.condition_of(config, condition))
            except EdgeSpeechError as error:
                yield from _skipped(where, without_paths(str(error)))
                continue
            yield from _compared(trials, vectors, where, seed)
            if condition == sets.CLEAN and test["kind"] != SAME_WORD:
                yield from _identified(config, networks, trials, vectors[NETWORK], where, seed)


def _skipped(detail: str, reason: str) -> Iterator[Row]:
    for claim in ("resemblyzer", "spectrum", "rounding", "eer", "dcf"):
        yield {"claim": f"speakers.{claim}", "detail": detail, "skipped": reason}


def _compared(
    trials: Trials, vectors: Mapping[str, Sequence[Vectors]], where: str, seed: int
) -> Iterator[Row]:
    """The rows of one list of trials under one condition."""
    speakers = trials.speakers
    found = {
        name: verified([one.scores(trials) for one in runs], speakers, seed=seed)
        for name, runs in vectors.items()
    }
    seeds = len(vectors[NETWORK])
    common: Row = {"detail": where, "n": len(trials.pairs), "seeds": seeds}
    own = found[NETWORK]
    for claim, estimate in (("eer", own.eer_estimate()), ("dcf", own.dcf_estimate())):
        yield {"claim": f"speakers.{claim}", **common, **_estimated(estimate)}
    yield from _difference("resemblyzer", own, found.get(resemblyzer.NAME), common, TIMES_RESEMBLYZER)
    yield from _difference("spectrum", own, found.get(DISCRIMINANTS), common, 1.0)
    yield from _difference("rounding", found[ROUNDED], own, common, 1.0)
    yield {
        "trials": {"where": where, "sha256": trials.sha256(), "trials": len(trials.pairs),
                   "targets": int(speakers.targets.sum()), "speakers": len({one.speaker for one in trials.voices})},
        "systems": {name: {"eer": one.eer, "dcf": one.dcf} for name, one in found.items()},
    }  # fmt: skip


def _difference(
    claim: str, own: Verified, other: Verified | None, common: Row, factor: float
) -> Iterator[Row]:
    row: Row = {"claim": f"speakers.{claim}", "detail": common["detail"]}
    if other is None:
        reason = _no_resemblyzer() if claim == "resemblyzer" else "the control is not fitted here"
        yield {**row, "skipped": reason}
        return
    estimate = own.eer_above(other, factor)
    yield {**common, **row, **_estimated(estimate)}


def _estimated(estimate: Estimate) -> Row:
    """A value and its interval, which resamples training runs too."""
    row = {"measured": estimate.value, **estimate.interval.as_row()}
    return {**row, "resampled": (*row["resampled"], "seeds")}


def _identified(
    config: Mapping[str, Any],
    networks: Networks,
    trials: Trials,
    runs: Sequence[Vectors],
    where: str,
    seed: int,
) -> Iterator[Row]:
    """Households that know their voices, with the threshold of each network."""
    told = [
        households.outcomes(trials, one.matrix(), saved.thresholds.voice, config["household"])
        for one, saved in zip(runs, networks.saved.values(), strict=True)
    ]
    speakers: list[str | None] = list(told[0].speakers)
    for claim, flags in (
        ("identified", [one.right for one in told]),
        ("strangers", [one.accepted for one in told]),
    ):
        shares = households.mean_over_runs(flags)
        interval = bootstrap_ratio(shares, np.ones(len(shares)), speakers, seed=seed)
        yield {"claim": f"speakers.{claim}", "detail": where, "measured": float(shares.mean()),
               **interval.as_row(), "n": len(shares), "seeds": len(told)}  # fmt: skip


def wake_word(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What no corpus here allows."""
    del config, seed
    reason = "no corpus of wake words names its speakers; digits said by named ones are in their place"
    yield {"claim": "speakers.wake_word", "detail": "real wake words", "skipped": reason}


def peers(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Networks that are not measured, and why."""
    del config, seed
    absent = dict(PEERS)
    if (reason := _no_resemblyzer()) is not None:
        absent[resemblyzer.NAME] = reason
    for name, reason in absent.items():
        yield {"part": name, "skipped": reason}
        yield {"peer": {"name": name, "reason": reason}}


def size(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The numbers of the network, and the bytes of the file that ships: the same however it is trained."""
    del config, seed
    network = SpeakerNet()
    yield {"claim": "speakers.parameters", "measured": network.parameters_count}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        save_network(path, Saved(network, Thresholds(0.5, 0.3), sha256_json({})), packed=True)
        packed = path.stat().st_size
    theirs = sum(
        file.n_bytes for source in load_spec(resemblyzer.NAME).sources for file in source.files.values()
    )
    network_alone = 4 * sum(value.numel() for value in resemblyzer.Resemblyzer().state_dict().values())
    for detail, count in (
        (f"{packed:,} bytes of {theirs:,}", theirs),
        (
            f"beside its network alone, without the optimiser in that file: of {network_alone:,}",
            network_alone,
        ),
    ):
        yield {"claim": "speakers.bytes", "detail": detail, "measured": packed / count}


def speed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The time of an embedding, features included."""
    told = config["speed"]
    row: Row = {"claim": "speakers.time", "detail": f"an utterance of {told['seconds']} s, by torch"}
    if (reason := busy()) is not None:
        yield {**row, "skipped": reason}
        return
    network = SpeakerNet().eval()  # times do not depend on the weights
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(told["seconds"] * SAMPLE_RATE).astype(np.float32)
    samples = mix_at_snr(noise, noise[::-1], 0.0, rule="mean", seed=seed)
    shares = []
    for _ in range(told["warm"] + told["repeats"]):
        begun = time.perf_counter()
        network.embed(samples)
        shares.append((time.perf_counter() - begun) / told["seconds"])
    shares = shares[told["warm"] :]
    found = bootstrap_quantile([[one] for one in shares], 0.5, [None] * len(shares), seed=seed)
    yield {**row, "measured": quantile(shares, 0.5), **found.as_row(), "n": len(shares)}


def _steps(profile: str, only: str) -> Sequence[Step]:
    return steps_of(load_yaml(HERE / "config.yaml"), only) if profile == "full" else ()


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(verification, wake_word, peers, size, speed),
    blocks={"systems": tables.systems_block, "trials": tables.trials_block},
    steps=_steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__).parse_args(words)
    run(PAGE, render_only=options.render)

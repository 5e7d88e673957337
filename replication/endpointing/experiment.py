"""Measure the end-pointers, write one record, and render it into this folder's README.

edgespeech replicate endpointing                   # measure with the shipped networks (minutes)
edgespeech replicate endpointing --profile full    # train the networks unless they are; all utterances
edgespeech replicate endpointing --train           # train and ship the networks, and no more
edgespeech replicate endpointing --write SET DIR   # write one of the sets as a corpus, and no more
edgespeech replicate endpointing --render          # render the newest record only
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from replication.endpointing import tables as report
from replication.endpointing.curves import Sweep, median_difference, sweep
from replication.endpointing.listening import Heard, early, frames_of, listen, played
from replication.endpointing.sets import Case, SetConfig, cases, lessons_cases, write_set
from replication.endpointing.training import Lesson, NetworksConfig, lesson, train_networks

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.contracts import SAMPLE_RATE, EventKind
from edgespeech.core.files import sha256_file
from edgespeech.core.places import networks_file, project_root, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.endpointing.networks import Thresholds, load_networks, new_networks, save_networks
from edgespeech.endpointing.scorers import Bounds, Scorers, scorers
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.metrics.latency import UtteranceTimes, utterance_timing
from edgespeech.metrics.silence import words_invented_per_minute
from edgespeech.metrics.statistics import (
    bootstrap_quantile,
    bootstrap_ratio,
    bootstrap_share,
    paired_quantile_difference,
    quantile,
)
from edgespeech.metrics.word_errors import WordErrors, word_errors_of
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.report.page import run
from edgespeech.search.settings import SearchSettings
from edgespeech.synthesis.pauses import Hesitation
from edgespeech.synthesis.synthesis import make_corpora
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.speech import load_noises, trainable

HERE = Path(__file__).parent
NORMALISER = "whisper-en"
Config = dict[str, Any]
Placed = tuple[str, float]  # a scorer and a threshold of it


@cache
def recogniser() -> tuple[Trained, str]:
    """The recogniser whose frames are looked at, and the hash of its weights.

    Raises:
        EdgeSpeechError: there is none.
    """
    found = EdgeFp32()
    if (missing := found.missing()) is not None:
        raise EdgeSpeechError(missing)
    torch.set_num_threads(1)
    return load_model(found.folder()), sha256_file(found.folder() / WEIGHTS)


def train(config: Config) -> Path:
    """Train the networks on train splits, and ship them with thresholds for use; synthetic speech is made first.

    Raises:
        EdgeSpeechError: speech or noises that are not here, or for evaluation only.
    """
    trained, sha256 = recogniser()
    settings, seed = config["training"], config["seed"]
    make_corpora([config["tuning"]["corpus"], *(source["corpus"] for source in settings["speech"])])
    how = NetworksConfig.model_validate(settings["networks"])
    augment = Augmenter(
        AugmentConfig.from_mapping(settings["augment"]),
        load_noises(*filter(None, [settings["noises"]])),
        seed,
    )
    hesitation = Hesitation.model_validate(settings["hesitation"])
    lessons_search = SearchSettings(beam=config["beam"], language_model=False)
    lessons: list[Lesson] = []
    for source in settings["speech"]:
        manifest = trainable(source["corpus"]).subset(source["utterances"], seed)
        lessons += [
            lesson(frames_of(trained, lessons_search, case), case.eos_s, how.after_s)
            for case in lessons_cases(manifest, hesitation, trained, augment, seed, gate=settings["gate"])
        ]
        print(f"{manifest.name}: heard, {len(lessons)} utterances in all", flush=True)
    shape = trained.model.config
    networks = new_networks(shape.joiner, shape.vocabulary, how.hidden, sha256, seed)
    losses = train_networks(networks, lessons, how, seed)
    networks.provenance.update(
        utterances=str(len(lessons)),
        audio_s=f"{sum(float(one.audio_s[-1]) for one in lessons):.0f}",
        config_sha256=training_sha256(config),
        **{f"loss_{name}": f"{loss:.4f}" for name, loss in losses.items()},
    )
    save_networks(networks_file(), networks)
    parts = config["dual"]["policies"][config["shipped"]]
    closing, opening = dual_thresholds(config, parts, tuned_sweeps(config))
    save_networks(networks_file(), replace(networks, thresholds=Thresholds(closing[1], opening[1])))
    return networks_file()


def training_sha256(config: Config) -> str:
    """A hash of what the configuration says of the training."""
    told = {key: config[key] for key in ("seed", "beam", "training")}
    training = dict(told["training"])
    training["heads"] = training.pop("networks")  # their name when the shipped ones were trained
    return sha256_json({**told, "training": training})


def is_trained(config: Config) -> bool:
    """Whether the networks that are here are of this recogniser and configuration."""
    try:
        networks = load_networks(networks_file(), recogniser()[1])
    except EdgeSpeechError:
        return False
    return networks.provenance.get("config_sha256") == training_sha256(config)


def known_scorers(config: Config) -> tuple[Scorers, dict[str, str]]:
    """Every scorer by its name, and why others are not here.

    Raises:
        EdgeSpeechError: the networks are missing or another recogniser's.
    """
    return scorers(load_networks(networks_file(), recogniser()[1]), Bounds.model_validate(config["bounds"]))


def set_cases(config: Config, values: Config) -> Iterator[Case]:
    """The utterances of a set of the configuration, fewer in the quick profile.

    Raises:
        EdgeSpeechError: its corpus or noises are not here.
    """
    what = SetConfig.model_validate(values)
    name = what.corpus
    if name.endswith(".jsonl") and not Path(name).exists():
        name = str(work_dir() / name)
    manifest = manifest_of(name)
    count = what.quick if config["profile"] == "quick" and what.quick else what.utterances
    if count is not None:
        manifest = manifest.subset(count, config["seed"])
    noises = {}
    if what.noises is not None:
        recorded = manifest_of(what.noises)
        noises = {one.id: recorded.read(one) for one in recorded.utterances}
    yield from cases(manifest, what, recogniser()[0], noises, config["seed"])


_heard: dict[str, list[Heard]] = {}


def heard_set(config: Config, name: str) -> list[Heard]:
    """A set as every scorer heard it, once for all checks; `tuning` is the one for thresholds.

    Raises:
        EdgeSpeechError: as for `set_cases`, or the networks are missing or another recogniser's.
    """
    key = f"{config['profile']}:{name}"
    if key not in _heard:
        trained, known = recogniser()[0], known_scorers(config)[0]
        values = config["tuning"] if name == "tuning" else config["sets"][name]
        _heard[key] = [
            listen(trained, report.search_of(config), case, known) for case in set_cases(config, values)
        ]
        print(f"{name}: {len(_heard[key])} utterances heard", flush=True)
    return _heard[key]


def each_set(config: Config) -> Iterator[tuple[str, list[Heard] | str]]:
    """Every evaluation set by its name, or why it cannot be heard here."""
    for name in config["sets"]:
        try:
            yield name, heard_set(config, name)
        except EdgeSpeechError as error:
            yield name, without_paths(str(error))


def word_errors(config: Config, name: str, heard: list[Heard], seed: int = 0) -> WordErrors:
    """Counts errors of a set; references are normalised as the configuration says for the corpus."""
    normaliser = config["normaliser"].get(config["sets"][name]["corpus"], NORMALISER)
    cases = [one.case for one in heard]
    return word_errors_of(
        [case.text for case in cases], normaliser, [case.speaker for case in cases], seed=seed
    )


def tuned_sweeps(config: Config) -> dict[str, Sweep]:
    """Every scorer's sweep of the tuning set."""
    heard = heard_set(config, "tuning")
    return {
        name: sweep([one.of(name) for one in heard], chunk_s=config["chunk_s"]) for name in heard[0].scores
    }


def curves(config: Config, seed: int) -> Iterator[Row]:
    """Every scorer on every set: its curve, what it does at the rate of the comparison, and against the control."""
    tuned: dict[str, Sweep] = {}
    try:
        tuned = tuned_sweeps(config)
    except EdgeSpeechError as error:  # it is synthesised; the other sets are to be had without it
        yield {"part": "the tuning set", "skipped": without_paths(str(error))}
    for set_name, heard in each_set(config):
        if isinstance(heard, str):
            yield {"part": set_name, "skipped": heard}
            continue
        swept = {
            name: sweep([one.of(name) for one in heard], chunk_s=config["chunk_s"])
            for name in heard[0].scores
        }
        for name in swept:
            row: Row = {"set": set_name, "scorer": name, "n": len(heard), "curve": report.curve(swept[name])}
            row["settings"] = report.search_of(config).describe()
            place = tuned[name].at(config["cut_off_rate"]) if name in tuned else None
            if place is not None:
                thresholds = tuned[name].thresholds[place : place + 1]
                again = sweep(
                    [one.of(name) for one in heard], chunk_s=config["chunk_s"], thresholds=thresholds
                )
                row["tuned"] = report.point(again, 0)
                yield {
                    "claim": "endpointing.tuned_cut_off",
                    "detail": f"{name}, {set_name}; EP50 {again.latency(0, 0.5):.2f} s",
                    "measured": float(again.cut_off_rate()[0]),
                    **bootstrap_share(
                        again.cut[:, 0].tolist(), [one.case.speaker for one in heard], seed=seed
                    ).as_row(),
                    "n": len(heard),
                }
            yield from _compared(config, seed, row, heard, swept)


def _compared(
    config: Config, seed: int, row: Row, heard: list[Heard], swept: dict[str, Sweep]
) -> Iterator[Row]:
    """One scorer on one set, at the rate of the comparison: its word errors, and its gain over the control."""
    rate, name, set_name = config["cut_off_rate"], row["scorer"], row["set"]
    found, control = swept[name], config["control"]
    groups = [one.case.speaker for one in heard]
    row |= {"claim": gain_claim(config, name, set_name), "detail": f"{name}, {set_name}"}
    place = found.at(rate)
    if place is None:
        yield {**row, "skipped": f"it cuts off more than {rate:g} at every threshold"}
        return
    row["at"] = report.point(found, place)
    final = (name, float(found.thresholds[place]))
    said = [played(one, final, chunk_s=config["chunk_s"]).text for one in heard]
    counter = word_errors(config, set_name, heard, seed)
    without, ended = (counter.errors(texts) for texts in ([one.texts[-1] for one in heard], said))
    cost = counter.compare([ended], [without])
    row["wer"] = counter.rate(ended)["wer"]
    yield {
        "claim": "endpointing.wer_cost",
        "detail": f"{name}, {set_name}, from {counter.rate(without)['wer']:.4f}",
        **cost.as_row(),
    }
    if name == control:
        ep50_s = row["at"]["ep50_s"]
        told = {"skipped": "it never fires for half of them"} if ep50_s is None else {"measured": ep50_s}
        yield {**row, "claim": "endpointing.control", **told}
        return
    try:
        gain = median_difference(swept[control], found, rate, groups, seed=seed)
    except EdgeSpeechError as error:
        yield {**row, "skipped": str(error)}
        return
    yield {**row, "measured": gain.difference, **gain.interval.as_row()}


def gain_claim(config: Config, scorer: str, set_name: str) -> str:
    """The claim that a scorer's gain over the control belongs to."""
    if scorer not in config["learned"]:
        return "endpointing.silence_gain"
    return "endpointing.learned_gain" if set_name in config["held"] else "endpointing.other_gain"


def dual_thresholds(config: Config, parts: Config, tuned: dict[str, Sweep]) -> tuple[Placed, Placed]:
    """Scorer and threshold of a dual policy's final and speculative gate, chosen on the tuning set.

    Raises:
        EdgeSpeechError: the tuning set is not here, or no threshold will do on it.
    """
    rate, settings = config["cut_off_rate"], config["dual"]
    place = tuned[parts["final"]].at(rate)
    if place is None:
        raise EdgeSpeechError(
            f"{parts['final']} cuts off more than {rate:g} of the tuning set at every threshold"
        )
    closing = (parts["final"], float(tuned[parts["final"]].thresholds[place]))
    candidates = _candidates(config, tuned[parts["speculative"]])
    tried = _tried(heard_set(config, "tuning"), closing, parts["speculative"], candidates, config["chunk_s"])
    kept = [one for one in tried if one["confirmed"] >= settings["confirmed"]]
    if not kept:
        raise EdgeSpeechError("no speculative threshold is confirmed often enough on the tuning set")
    ahead_s = parts.get("advance_s", math.inf)  # where nothing is said of it, as early as can be
    chosen = min(kept, key=lambda one: (abs(one["advance_s"] - ahead_s), one["threshold"]))
    return closing, (parts["speculative"], chosen["threshold"])


def _candidates(config: Config, tuned: Sweep) -> list[float]:
    """Speculative thresholds that are tried."""
    return [float(threshold) for threshold in tuned.thresholds[:: config["dual"]["every"]]]


def dual(config: Config, seed: int) -> Iterator[Row]:
    """Two thresholds: both chosen on the tuning set, and what they do on the others."""
    del seed
    tuned = tuned_sweeps(config)
    for policy, parts in config["dual"]["policies"].items():
        try:
            closing, opening = dual_thresholds(config, parts, tuned)
        except EdgeSpeechError as error:
            yield {"claim": "endpointing.dual_confirmed", "detail": policy, "skipped": str(error)}
            continue
        candidates = _candidates(config, tuned[parts["speculative"]])
        for set_name, heard in each_set(config):
            if not isinstance(heard, str):
                yield from _dual_rows(config, policy, set_name, heard, closing, opening, candidates)


def _tried(
    heard: list[Heard], closing: tuple[str, float], scorer: str, thresholds: list[float], chunk_s: float
) -> list[dict[str, float]]:
    """What each speculative threshold does, from the lowest."""
    return [
        {
            "threshold": threshold,
            **report.early_point(
                early([played(one, closing, (scorer, threshold), chunk_s=chunk_s) for one in heard])
            ),
        }
        for threshold in thresholds
    ]


def _dual_rows(
    config: Config,
    policy: str,
    set_name: str,
    heard: list[Heard],
    closing: tuple[str, float],
    opening: tuple[str, float],
    candidates: list[float],
) -> Iterator[Row]:
    """A dual policy on a set, beside its final end-pointer alone."""
    chunk_s = config["chunk_s"]
    runs = {
        "single": [played(one, closing, chunk_s=chunk_s) for one in heard],
        "dual": [played(one, closing, opening, chunk_s=chunk_s) for one in heard],
    }
    upl, rates, cut = {}, {}, {}
    for name, timelines in runs.items():
        timings = [
            utterance_timing(timeline, UtteranceTimes(eos_s=one.case.eos_s))
            for timeline, one in zip(timelines, heard, strict=True)
        ]
        upl[name] = [math.inf if one.upl_s is None else one.upl_s for one in timings]
        rates[name] = word_errors(config, set_name, heard).wer([timeline.text for timeline in timelines])
        cut[name] = sum(bool(one.cut_off) for one in timings) / len(timings)
    found, groups, seed = early(runs["dual"]), [one.case.speaker for one in heard], config["seed"]
    resets = [one for one in runs["dual"] if one.last(EventKind.RESET) is not None]
    common = {"policy": policy, "set": set_name, "n": len(heard)}
    p50 = {name: quantile(values, 0.5) for name, values in upl.items()}
    early_ones = [place for place, one in enumerate(found.each_confirmed) if one is not None]
    confirmed: Row = {
        **common,
        "claim": "endpointing.dual_confirmed" if set_name in config["held"] else "endpointing.dual_other",
        "detail": f"{policy}, {set_name}; {found.published:.3f} have one, {found.resets:.3f} resets",
        "measured": found.confirmed,
        "dual": {
            **report.early_point(found),
            "upl_p50_single_s": p50["single"],
            "upl_p50_s": p50["dual"],
            "cut_off_rate": cut["dual"],
            "wer": rates["dual"],
            "final": closing,
            "speculative": opening,
        },
        "pareto": _tried(heard, closing, opening[0], candidates, chunk_s),
    }
    if len(early_ones) > 1:
        flags = [bool(found.each_confirmed[place]) for place in early_ones]
        confirmed |= bootstrap_share(flags, [groups[place] for place in early_ones], seed=seed).as_row()
    if resets:
        confirmed["example"] = report.example(resets[0])
    yield confirmed
    if set_name not in config["held"]:
        return
    yield {
        **common,
        "claim": "endpointing.dual_advance",
        "detail": f"{policy}, {set_name}",
        "measured": found.advance_s,
        **bootstrap_quantile([[one] for one in found.advances_s], 0.5, groups, seed=seed).as_row(),
    }
    row = {
        **common,
        "claim": "endpointing.dual_upl",
        "detail": f"{policy}, {set_name}; {p50['single']:.2f} s to {p50['dual']:.2f} s",
    }
    try:
        gain = paired_quantile_difference(upl["single"], upl["dual"], 0.5, groups, seed=seed)
    except EdgeSpeechError as error:
        yield {**row, "skipped": str(error)}
        return
    yield {**row, "measured": gain.difference, **gain.interval.as_row()}


def nothing_said(config: Config, seed: int) -> Iterator[Row]:
    """Words and end-points where nobody speaks: silence, every noise, tones."""
    trained, known, tuned = recogniser()[0], known_scorers(config)[0], tuned_sweeps(config)
    sounds = report.wordless(config["silence_s"], seed)
    for corpus in ("noise_household", "noise_kitchen"):
        try:
            recorded = manifest_of(corpus)
        except EdgeSpeechError as error:
            reason = without_paths(str(error))
            yield {"claim": "endpointing.invented", "detail": corpus, "skipped": reason}
            continue
        for item in recorded.utterances:
            part_s = min(config["silence_s"], item.duration)
            sounds[item.id] = recorded.read(item)[: round(part_s * SAMPLE_RATE)]
    heard = []
    for name, samples in sounds.items():
        case = Case(id=name, condition="", text="", speaker=None, samples=samples, sos_s=0.0, eos_s=0.0)
        heard.append(listen(trained, report.search_of(config), case, known))
    texts, durations_s = [one.texts[-1] for one in heard], [one.duration_s for one in heard]
    yield {
        "claim": "endpointing.invented",
        "detail": ", ".join(f"{one.case.id} {len(one.texts[-1].split())}" for one in heard) + " words",
        "measured": words_invented_per_minute(texts, durations_s),
        "n": len(heard),
    }
    for name in known:
        place = tuned[name].at(config["cut_off_rate"])
        if place is None:
            continue
        final = (name, float(tuned[name].thresholds[place]))
        played_out = [played(one, final, chunk_s=config["chunk_s"]) for one in heard]
        ended = sum(timeline.last(EventKind.ENDPOINT) is not None for timeline in played_out)
        yield {
            "claim": "endpointing.false_ends",
            "detail": f"{name}; {ended} of {len(heard)} sounds",
            "measured": ended / sum(durations_s) * 3600,
            "n": len(heard),
        }


def cost(config: Config, seed: int) -> Iterator[Row]:
    """What the scorers compute, and the size of the learned ones."""
    networks = load_networks(networks_file(), recogniser()[1])
    heard = heard_set(config, "tuning")
    audio_s = sum(one.duration_s for one in heard)
    for name in heard[0].scores:
        yield {
            "claim": "endpointing.compute",
            "detail": name,
            "measured": sum(one.compute_s[name] for one in heard) / audio_s,
            "n": len(heard),
            **bootstrap_ratio(
                [one.compute_s[name] for one in heard],
                [one.duration_s for one in heard],
                [one.case.speaker for one in heard],
                seed=seed,
            ).as_row(),
        }
    yield {
        "claim": "endpointing.bytes",
        "detail": "all learned scorers",
        "measured": networks_file().stat().st_size,
        "n": 1,
        "provenance": networks.provenance,
    }
    for name, reason in known_scorers(config)[1].items():
        yield {"claim": "endpointing.silence_gain", "detail": name, "skipped": reason}


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "endpointing",
    checks=(curves, dual, nothing_said, cost),
    blocks={"points": report.points_table, "dual": report.dual_table, "reset": report.example_table},
    plots=lambda view: {f"{name}.svg": svg for name, svg in (report.plots(view) if view else {}).items()},
)


def main(words: Sequence[str] | None = None) -> None:
    """See the top."""
    options = parser(__doc__)
    options.add_argument("--train", action="store_true", help="train and ship the networks, and no more")
    options.add_argument(
        "--write", nargs=2, metavar=("SET", "DIR"), help="write a set as a corpus, and no more"
    )
    given = options.parse_args(words)
    config: Config = {
        **load_yaml(HERE / "config.yaml"),
        "profile": given.profile,
    }
    if given.write is not None:
        name, folder = given.write
        if name not in config["sets"]:
            raise bad("config.yaml", "set", name, f"one of {', '.join(config['sets'])}")
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        print(write_set(Path(folder), plain, set_cases(config, config["sets"][name])))
        return
    if given.train or (given.profile == "full" and not given.render and not is_trained(config)):
        print(train({**config, "profile": "full"}))  # thresholds for use come from all tuning utterances
    if not given.train:
        run(PAGE, profile=given.profile, render_only=given.render)

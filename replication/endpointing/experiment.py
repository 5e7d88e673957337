"""Measure the end-pointers, write one record, and render it into this folder's README.

edgespeech replicate endpointing                   # measure with the shipped networks (minutes)
edgespeech replicate endpointing --profile full    # train and ship the networks first; all utterances
edgespeech replicate endpointing --train           # only train and ship the networks
edgespeech replicate endpointing --write SET DIR   # only write one of the sets as a corpus
edgespeech replicate endpointing --render          # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from replication.endpointing import tables as report
from replication.endpointing.curves import Sweep, curve, median_difference, point, sweep
from replication.endpointing.dual import dual
from replication.endpointing.listening import Heard, listen, played
from replication.endpointing.material import (
    Config,
    each_set,
    heard_set,
    known_scorers,
    learned,
    recogniser,
    search_of,
    set_cases,
    tuned_sweeps,
    word_errors,
)
from replication.endpointing.sets import Case, wordless, write_set
from replication.endpointing.shipped import first_steps

from edgespeech.contracts import SAMPLE_RATE, EventKind
from edgespeech.core import places
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.metrics.silence import words_invented_per_minute
from edgespeech.metrics.statistics import bootstrap_ratio, bootstrap_share
from edgespeech.records.records import without_paths
from edgespeech.report.page import run
from edgespeech.steps.store import make

HERE = Path(__file__).parent


def curves(config: Config, seed: int) -> Iterator[Row]:
    """Every scorer on every set: its curve, its result at the rate of the comparison, and against the control."""
    tuned: dict[str, Sweep] = {}
    try:
        tuned = tuned_sweeps(config)
    except EdgeSpeechError as error:  # it is synthesised; the other sets do not need it
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
            row: Row = {"set": set_name, "scorer": name, "n": len(heard), "curve": curve(swept[name])}
            row["settings"] = search_of(config).describe()
            place = tuned[name].at(config["cut_off_rate"]) if name in tuned else None
            if place is not None:
                thresholds = tuned[name].thresholds[place : place + 1]
                again = sweep(
                    [one.of(name) for one in heard], chunk_s=config["chunk_s"], thresholds=thresholds
                )
                row["tuned"] = point(again, 0)
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
    row["at"] = point(found, place)
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


def nothing_said(config: Config, seed: int) -> Iterator[Row]:
    """Words and end-points without speech: silence, every noise, tones."""
    trained, known, tuned = recogniser()[0], known_scorers(config)[0], tuned_sweeps(config)
    sounds = wordless(config["silence_s"], seed)
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
        heard.append(listen(trained, search_of(config), case, known))
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
    """Compute time of the scorers, and the size of the learned ones."""
    networks = learned()
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
        "measured": places.networks_file().stat().st_size,
        "n": 1,
        "provenance": networks.provenance,
    }
    for name, reason in known_scorers(config)[1].items():
        yield {"claim": "endpointing.silence_gain", "detail": name, "skipped": reason}


PAGE = Page(
    folder=HERE,
    records=places.results_dir() / "endpointing",
    checks=(curves, dual, nothing_said, cost),
    blocks={"points": report.points_table, "dual": report.dual_table, "reset": report.example_table},
    plots=lambda view: {f"{name}.svg": svg for name, svg in (report.plots(view) if view else {}).items()},
    first=first_steps,
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    options = parser(__doc__)
    options.add_argument("--train", action="store_true", help="train and ship the networks, and no more")
    options.add_argument(
        "--write", nargs=2, metavar=("SET", "DIR"), help="write a set as a corpus, and no more"
    )
    given = options.parse_args(words)
    config: Config = {
        **load_yaml(HERE / "config.yaml"),
        "profile": "quick",
    }
    if given.write is not None:
        name, folder = given.write
        if name not in config["sets"]:
            raise bad("config.yaml", "set", name, f"one of {', '.join(config['sets'])}")
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        print(write_set(Path(folder), plain, set_cases(config, config["sets"][name])))
        return
    if given.train:
        make(*first_steps("full", "*"))
        return
    run(PAGE, render_only=True)

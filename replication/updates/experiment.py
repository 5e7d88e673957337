"""Measure model updates: their bytes, what they cost in accuracy, how long they take, and that no device is lost.

edgespeech replicate updates                  # seeded subsets, minutes
edgespeech replicate updates --profile full   # train the releases first; every utterance, more states
edgespeech replicate updates --render         # render the newest record only
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from replication.updates import cuts, tables
from replication.updates.baselines import PATCHES, sizes
from replication.updates.models import Pair, pairs, small
from replication.updates.releases import the_arms, trained

from edgespeech.arms.figures import kept
from edgespeech.arms.packed_bench import Bench, say
from edgespeech.cloud.link import load_profiles
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_ratio
from edgespeech.metrics.word_errors import POOLED
from edgespeech.records.records import without_paths
from edgespeech.report.page import run
from edgespeech.updates.download import Fetched, Interruptions, fetched
from edgespeech.updates.make import Made, make_exact, make_within
from edgespeech.updates.update_file import Kind, apply_update

HERE = Path(__file__).parent


def exact(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Bytes of exact updates beside whole files, zstd and bsdiff, and whether both ends have the same file."""
    del seed
    rows = []
    with TemporaryDirectory() as scratch:
        for pair in pairs(config, Path(scratch)):
            update = Path(scratch) / f"{pair.name}.update"
            made = make_exact(pair.old, pair.new, update)
            found, missing = sizes(pair.old, pair.new)
            size = made.header.file_bytes
            rows.append({"pair": pair.name, "about": pair.about, "update": size, "baselines": found})
            detail = f"{pair.about}: {size} bytes, {100 * size / found['whole file']:.1f} % of the file"
            for name, reason in missing.items():
                yield {
                    "claim": "updates.exact",
                    "detail": f"{pair.about}, {name}",
                    "skipped": without_paths(reason),
                }
            if all(name in found for name in PATCHES):
                best = min(PATCHES, key=lambda name: found[name])
                yield {
                    "claim": "updates.exact",
                    "detail": f"{detail}; {best}: {found[best]}",
                    "measured": size / found[best],
                    "n": 1,
                }
            yield _identical(pair, made, update, f"exact, {pair.about}")
    yield {"exact": rows}


def _identical(pair: Pair, made: Made, update: Path, detail: str) -> Row:
    """Apply an update as a device does."""
    out = update.with_suffix(".device.edge")
    apply_update(pair.old, update, out)
    same = sha256_file(out) == made.header.new_sha256
    return {"claim": "updates.identical", "detail": detail, "measured": float(same), "n": 1}


def untrained(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Deltas that were cut to a budget without training: distance of the weights, and WER."""
    asked, profile = config["untrained"], config["profile"]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pair = next(pairs({"pairs": config["pairs"][:1]}, folder))
        bench = Bench(asked["corpora"], folder, seed, asked["utterances"][profile])
        for corpus, reason in bench.missing.items():
            yield {"part": f"untrained deltas on {corpus}", "skipped": reason}
        old, full = (bench.errors(say(file, bench, config["beam"])[0]) for file in (pair.old, pair.new))
        rows = [
            _rated("before", 0, 1.0, old, bench),
            _rated("full update", pair.new.stat().st_size, 0.0, full, bench),
        ]
        for kind in asked["kinds"]:
            for budget in asked[profile]:
                update = folder / f"{kind}-{budget}.update"
                size = int(budget * pair.old.stat().st_size)
                assert pair.target is not None
                made = make_within(pair.old, pair.target, update, Kind[kind.upper()], size)
                detail = f"{kind} at {100 * budget:g} %"
                yield _identical(pair, made, update, f"{detail}, {pair.about}")
                errors = bench.errors(say(update.with_suffix(".device.edge"), bench, config["beam"])[0])
                rows.append(_rated(detail, made.header.file_bytes, made.error, errors, bench))
                yield {
                    "claim": "updates.untrained",
                    "detail": detail,
                    **bench.compare([errors], [full], POOLED).as_row(),
                }
    yield {"untrained": rows}


def _rated(name: str, size: int, error: float, errors: Sequence[int], bench: Bench) -> Row:
    wer = {corpus: bench.rate(errors, corpus)["wer"] for corpus in bench.corpora}
    return {"name": name, "bytes": size, "left": error, "wer": wer}


def network(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Seconds and bytes until an update is on the device, over each network, interrupted or not."""
    profiles, count = load_profiles(), config["simulations"][config["profile"]]
    with TemporaryDirectory() as scratch:
        pair = next(pairs({"pairs": config["pairs"][:1]}, Path(scratch)))
        update = Path(scratch) / "step.update"
        whole, least = pair.new.stat().st_size, make_exact(pair.old, pair.new, update).header.file_bytes
        before = pair.old.stat().st_size
    sent = {"whole file": whole, "exact update": least}
    sent |= {f"{100 * budget:g} % update": int(budget * before) for budget in config["budgets"]}
    cut = Interruptions(**config["interruptions"])
    ways = {
        "uninterrupted": Interruptions(),
        "resumed": cut,
        "from the start": Interruptions(cut.connected_s, cut.away_s, resumes=False),
    }
    rows = []
    for name in config["networks"]:
        for what, size in sent.items():
            found = {
                way: [fetched(profiles[name], size, how, seed + n) for n in range(count)]
                for way, how in ways.items()
            }
            rows.append({"network": name, "what": what, "bytes": size, **_times(found)})
            yield from _network_claims(name, what, found, seed)
    yield {"network": rows, "interruptions": dict(config["interruptions"])}


def _times(found: Mapping[str, Sequence[Fetched]]) -> Row:
    """Median seconds and mean bytes by way; None where most never end."""
    median = {way: statistics.median(one.seconds for one in some) for way, some in found.items()}
    return {
        "seconds": {way: None if math.isinf(value) else value for way, value in median.items()},
        "sent": {
            way: statistics.fmean(one.down_bytes + one.up_bytes for one in some)
            for way, some in found.items()
        },
    }


def _network_claims(name: str, what: str, found: Mapping[str, Sequence[Fetched]], seed: int) -> Iterator[Row]:
    detail, count = f"{what}, {name}", len(found["resumed"])
    alone: list[str | None] = [str(number) for number in range(count)]
    bytes_of = {way: [one.down_bytes + one.up_bytes for one in some] for way, some in found.items()}
    both = bytes_of["resumed"], bytes_of["uninterrupted"]
    yield {
        "claim": "updates.resumed",
        "detail": detail,
        "measured": sum(both[0]) / sum(both[1]),
        **bootstrap_ratio(*both, alone, seed=seed).as_row(),
        "n": count,
        "resampled": ["simulations"],
    }
    seconds = [[one.seconds] for one in found["resumed"]]
    if all(math.isfinite(value) for (value,) in seconds):
        yield {
            "claim": "updates.seconds",
            "detail": f"{detail}, interrupted and resumed",
            "measured": statistics.median(value for (value,) in seconds),
            **bootstrap_quantile(seconds, 0.5, alone, seed=seed).as_row(),
            "n": count,
            "resampled": ["simulations"],
        }


def safe(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Power cuts, kills, and updates that must be refused."""
    profile = config["profile"]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = [small(seed + n, folder / f"small-{n}.edge", config["hidden"]) for n in range(3)]
        little = cuts.case(models[0], models[1], folder / "small")
        pair = next(pairs({"pairs": config["pairs"][:1]}, folder))
        real = cuts.case(pair.old, pair.new, folder / "real")
        for what, some in (("a small model", little), (pair.about, real)):
            every = 1 if some is little else config["every_bytes"][profile]
            yield _state("updates.safe", cuts.torn(some, every), what)
        yield _state("updates.safe", cuts.killed(real, config["kills"][profile]), pair.about)
        for tried in (*cuts.damaged(little), cuts.replayed(little, models[2])):
            yield _state("updates.refused", tried, "a small model")


def _state(claim: str, tried: cuts.Tried, model: str) -> Row:
    return {
        "claim": claim,
        "detail": f"{tried.what}, {model}",
        "measured": tried.right / tried.tried,
        "n": tried.tried,
    }


def block(key: str) -> Any:
    """A block of the page from the value of a key."""
    made = {
        "exact": tables.exact_table,
        "untrained": tables.untrained_table,
        "network": tables.network_table,
    }[key]
    return lambda record: NO_RECORD if (found := kept(record, key)) is None else made(found)


def plots(record: View | None) -> dict[str, str]:
    """Bytes of exact updates beside the baselines, by file name."""
    rows = kept(record, "exact")
    return {} if rows is None else {"bytes.svg": tables.bytes_plot(rows)}


PAGE = Page(
    folder=HERE,
    records=project_root() / "results" / "updates",
    checks=(exact, untrained, network, safe, trained),
    blocks={key: block(key) for key in ("exact", "untrained", "network")},
    plots=plots,
    steps=lambda profile, only: the_arms().steps(profile, only) if profile == "full" else (),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

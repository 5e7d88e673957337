"""Measure branching: two networks, one choice per frame, with the controls at equal cost.

edgespeech replicate branching                                  # measure every arm that is trained or published
edgespeech replicate branching --profile full                   # train what is not trained, measure, publish
edgespeech replicate branching --profile full --only 'cost_*'   # train some arms only, then the same
edgespeech replicate branching --render                         # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from replication.branching import bifocal as pivots
from replication.branching import deployed as packed
from replication.branching.arms import branch_arms
from replication.branching.decided import models_of, noisy, shades, silence, streamed, waits
from replication.branching.hearing import decisions, sounds_of
from replication.branching.listening import (
    FRAME_S,
    Listening,
    Result,
    by_seed,
    comparisons,
    lossless,
    saved,
)
from replication.branching.tables import arms_block, picture_block, plots

from edgespeech.arms.packed_bench import Bench
from edgespeech.core.places import project_root
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.report.page import run

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "branching"


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All arms in all their ways, and what is claimed of their words and costs."""
    own, listening = branch_arms(HERE), Listening(config, seed)
    for corpus, reason in listening.utterances.missing.items():
        yield {"part": f"the arms on {corpus}", "skipped": reason}
    told = list(listening.results(own, RESULTS))
    found = [one for one in told if isinstance(one, Result)]
    yield {"branch_arms": [listening.row(one) if isinstance(one, Result) else one for one in told]}
    name = config["headline"]
    head: Row = {"claim": "branching.macs", "detail": name}
    seeds = by_seed(found, name)
    yield {**head, **(saved(listening, seeds) if seeds else {"skipped": f"not trained: {name}"})}
    best = lossless(listening, found, config["points"], config["all_slow"])
    yield {"claim": "branching.cost", **(best or {"skipped": "no point of the cost weight is trained"})}
    yield from comparisons(listening, found, config["comparisons"])
    if config["profile"] == "full":
        listening.publish(own, found, RESULTS)


def switches(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Where the arbitrator picks the slow branch: in speech, and in noise."""
    models = [*models_of(branch_arms(HERE), config["headline"]).values()]
    macs = models[0].model.transcriber.macs
    share = macs.arbitrator / macs.all_slow
    yield {"claim": "branching.arbitrator", "detail": config["headline"], "measured": share, "n": 1}
    count = config[config["profile"]]["utterances"]
    found = utterances_of(config["corpora"], seed=seed, count=count)
    speakers = [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in found]
    row = silence(models, sounds_of(found, FRAME_S), speakers, seed)
    yield {"claim": "branching.silence", "detail": config["headline"], **row}
    yield from noisy(models, config["noise"], count, seed)


def waiting(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What a slow device has left to do at the end of speech."""
    own, settings = branch_arms(HERE), config["backlog"]
    plain, aware = ([*models_of(own, settings[key]).values()] for key in ("plain", "aware"))
    found = utterances_of(config["corpora"], seed=seed, count=config[config["profile"]]["utterances"])
    speakers = [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in found]
    row = waits(plain, aware, sounds_of(found, FRAME_S), speakers, settings["load"], seed)
    detail = f"{settings['aware']} over {settings['plain']}"
    yield {"claim": "branching.backlog", "detail": detail, **row}


def bifocal(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The wake word's end picks the slow branch."""
    count = config[config["profile"]]["utterances"]
    yield from pivots.bifocal(branch_arms(HERE), config["bifocal"], count, seed)


def streaming(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Frame by frame with the chosen branch alone against all at once; the state's bytes; the picture."""
    trained = next(iter(models_of(branch_arms(HERE), config["headline"]).values()))
    settings = config["streaming"]
    count = config[config["profile"]]["streams"]
    sounds = sounds_of(utterances_of({settings["corpus"]: "basic"}, seed=seed, count=count), FRAME_S)
    same, largest = streamed(trained, sounds)
    row: Row = {"claim": "branching.streaming", "detail": settings["corpus"], "largest_difference": largest}
    yield {**row, "measured": same / len(sounds), "n": len(sounds)}
    state = sum(part.nbytes for part in trained.model.transcriber.start())
    yield {"claim": "branching.state", "detail": "one stream, both branches", "measured": state, "n": 1}
    shown = sounds[settings["picture"]]
    mix = decisions(trained.model, [shown])[0]
    yield {
        "picture": {
            "shades": shades(shown, trained.model.config.stack),
            "slow": [float(frame) for frame in mix.mean(axis=1)],
            "frame_s": FRAME_S,
        }
    }


def deployed(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """What the native engine reads, and how long it takes, with the arm as a packed file."""
    own = branch_arms(HERE)
    trained = [models_of(own, config[key]) for key in ("headline", "all_slow")]
    seeds = sorted(trained[0].keys() & trained[1].keys())
    if not seeds:
        raise EdgeSpeechError(f"{config['headline']} and {config['all_slow']} have no common seed")
    heads, slows = ([one[each] for each in seeds] for one in trained)
    settings = config[config["profile"]]
    with TemporaryDirectory() as scratch:
        bench = Bench(config["corpora"], Path(scratch), seed, settings["utterances"])
        pair = packed.Pair(heads[0], slows[0], packed.BITS, bench.scratch)
        detail = f"{config['headline']} against {config['all_slow']}, {packed.BITS} bits"
        yield {"claim": "branching.traffic", "detail": detail, **packed.traffic(pair, bench)}
        yield {"claim": "branching.deployed", "detail": config["headline"], **packed.same(pair, bench)}
        yield from packed.parts(pair)
        yield from packed.compressed(heads, slows, config["bits"], bench)
        yield from packed.modelled(pair, bench)
        yield from packed.chunks(pair, bench, settings)


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, switches, waiting, bifocal, streaming, deployed),
    blocks={"arms": arms_block, "picture": picture_block},
    plots=plots,
    steps=lambda profile, only: branch_arms(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

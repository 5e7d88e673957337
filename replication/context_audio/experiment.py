"""Measure context audio: what a transcriber gains that hears the wake word before the request.

edgespeech replicate context_audio                               # measure every arm that is trained or published
edgespeech replicate context_audio --profile full                # train what is not trained, measure, publish
edgespeech replicate context_audio --profile full --only context # train one arm only, then the same
edgespeech replicate context_audio --render                      # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from replication.context_audio.gradients import gradient_rows
from replication.context_audio.hearing import Heard, Listening, Sound, StreamSet, stream_set, ways_of
from replication.context_audio.tables import arms_block, gradient_block, plots

from edgespeech.arms.configuration import Arms, arms_of
from edgespeech.core.places import project_root
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.packed.runtime import PackedModel
from edgespeech.report.page import run

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "context_audio"


def words(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every arm in every way, and what is claimed of their words."""
    del seed  # of the configuration, which `Listening` reads
    with TemporaryDirectory() as scratch:
        listening = Listening(config, arms_of(HERE), RESULTS, Path(scratch))
        for name, reason in listening.missing.items():
            yield {"part": f"the streams {name}", "skipped": reason}
        told = list(listening.results())
        yield from (one for one in told if not isinstance(one, Heard))
        found = [one for one in told if isinstance(one, Heard)]
        yield {"heard": list(listening.rows(found))}
        for entry in config["comparisons"]:
            yield listening.compare(found, entry)
        yield from _again(listening, found)
        if config["profile"] == "full":
            for one in found:
                listening.publish(one)


def _again(listening: Listening, found: Sequence[Heard]) -> Iterator[Row]:
    """Whether published transcripts are reproduced."""
    same = total = 0
    for one in found:
        published = listening.published(one.arm)
        for key, texts in published.items():
            pairs = list(zip(texts, one.texts.get(key, ()), strict=False))
            same, total = same + sum(a == b for a, b in pairs), total + len(pairs)
    if total:
        yield {"claim": "context_audio.again", "measured": same / total, "n": total}


def _models(arms: Arms, first: str) -> list[Trained]:
    """The models of an arm that are here, by seed."""
    own = [arm for arm in arms.arms.values() if arm.first == first and arms.has_model(arm)]
    return [load_model(arms.model_folder(arm)) for arm in own]


def _streams(config: dict[str, Any], settings: dict[str, Any], arms: Arms, seed: int) -> StreamSet:
    """Some streams of a set."""
    count = {config["profile"]: settings[config["profile"]]}
    return stream_set({**config["sets"][settings["set"]], **count}, config["profile"], arms.shape.stack, seed)


def streaming(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Behind a lead-in, chunk by chunk against the whole stream at once."""
    settings, arms = config["streaming"], arms_of(HERE)
    (way,) = [one for one in ways_of(config) if one.name == settings["way"]]
    row: Row = {"claim": "context_audio.streaming", "detail": settings["set"]}
    own = [arm for arm in arms.arms.values() if arm.first == way.arm and arms.has_model(arm)]
    if not own:
        yield {**row, "skipped": f"{way.arm} is not trained on this machine"}
        return
    streams = _streams(config, settings, arms, seed)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.edge"
        arms.pack(own[0], file)
        with PackedModel(file) as model:
            frames = round(settings["chunk_s"] / 0.01)
            same = [_alike(model, sound, config["beam"], frames) for sound in streams.sounds]
    yield {**row, "measured": sum(same) / len(same), "n": len(same)}


def _alike(model: PackedModel, sound: Sound, beam: int, frames: int) -> bool:
    """Whether streaming finds the labels, frame by frame, that the whole stream at once gives."""
    encoded = model.transcribe(np.concatenate([sound.before, sound.own]))
    with closing(model.open(beam)) as streamed, closing(model.open(beam)) as whole:
        streamed.lead_in(sound.before)
        for at in range(0, len(sound.own), frames):
            streamed.accept(sound.own[at : at + frames])
        whole.accept_encoded(encoded[len(sound.before) // model.config.stack :])
        a, b = streamed.best, whole.best
    return (a.labels, a.frames) == (b.labels, b.frames)


def gradient(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The gradient of the loss with respect to past frames."""
    settings, arms = config["gradient"], arms_of(HERE)
    by_name = {way.name: way for way in ways_of(config)}
    streams = None
    for name in settings["ways"]:
        models = _models(arms, by_name[name].arm)
        if not models:
            yield {
                "claim": "context_audio.gradient",
                "detail": name,
                "skipped": "not trained on this machine",
            }
            continue
        streams = streams or _streams(config, settings, arms, seed)
        yield {"claim": "context_audio.gradient", **gradient_rows(models, streams, name, settings)}


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(words, streaming, gradient),
    blocks={"arms": arms_block, "gradient": gradient_block},
    plots=plots,
    steps=lambda profile, only: arms_of(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)

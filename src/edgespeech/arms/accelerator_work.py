"""The work of a packed model on real speech, as the engine counted it: what the accelerator model is given."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from edgespeech.arms.accelerator import Workload
from edgespeech.audio.features import Features
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import FRAME_S
from edgespeech.packed.branches import Branch, Decisions, part_of
from edgespeech.packed.pack import EMBEDDING
from edgespeech.packed.runtime import PackedModel


def engine_work(
    file: Path, utterances: Iterable[Features], branch: Branch | None = None
) -> tuple[Workload, list[Decisions]]:
    """Recognise speech by greedy search and count how often each tensor was used.

    Of a model with two branches, every frame counts for the branch that was chosen for it. Predictions that the engine
    remembers from the same labels before cost nothing.

    Args:
        file: a packed model.
        utterances: features of each, with shape `(F, 80)`.
        branch: fixes the branch of every frame, of a model with two; None leaves it to the arbitrator.

    Returns:
        The work, without inputs, so that activations of zero cannot be skipped; and the decisions of each utterance
        that fills a transcriber frame, none for a model with one branch.

    Raises:
        EdgeSpeechError: the file is no packed model, features of another shape, or none that fill a frame.
    """
    frames = 0
    decisions: list[Decisions] = []
    with PackedModel(file) as model:
        stack = model.config.stack
        for features in utterances:
            if len(features) < stack:
                continue
            with closing(model.open(branch=branch)) as stream:
                stream.accept(features)
                if model.branching is not None:
                    decisions.append(stream.decisions)
            frames += len(features) // stack * stack
        reads = model.reads
    if not frames:
        raise EdgeSpeechError("accelerator: no speech that fills a transcriber frame")
    calls = {name: read.vectors for name, read in reads.items() if part_of(name) != "language model"}
    lookups = calls.pop(EMBEDDING)
    return Workload(audio_s=frames * FRAME_S, calls=calls, lookups=lookups, inputs={}), decisions

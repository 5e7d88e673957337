"""The work of a packed model on real speech, as the engine counted it: what the accelerator model is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from edgespeech.arms.accelerator import Processor, Workload, execute
from edgespeech.arms.packed_bench import networks
from edgespeech.audio.features import Features
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import FRAME_S
from edgespeech.packed.branches import Branch, Decisions, part_of, usage_of
from edgespeech.packed.edge_file import read_edge
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


def engine_rows(
    files: Mapping[str, Path], processors: Sequence[Processor], utterances: Sequence[Features]
) -> Iterator[dict[str, Any]]:
    """Packed models on modelled processors, per second of speech, each with its own work: rows for a record.

    Args:
        files: packed models by name.
        processors: see `load_numbers`.
        utterances: features of each, with shape `(F, 80)`.

    Yields:
        `layout`, `Execution.as_row`, `cycles` of the processor's clock, and of a model with two branches `slow`, the
        share of slow decisions, and where its arbitrator never switches `warning`.

    Raises:
        EdgeSpeechError: as `engine_work` and `execute`.
    """
    for name, file in files.items():
        work, decisions = engine_work(file, utterances)
        told: dict[str, Any] = {}
        if decisions:
            usage = usage_of(decisions)
            told = {"slow": usage.share, **({"warning": usage.warning} if usage.warning else {})}
        tensors = networks(read_edge(file).tensors)
        for processor in processors:
            done = execute(tensors, processor, work)
            yield {"layout": name, **done.as_row(), "cycles": done.time_s * processor.clock_hz, **told}

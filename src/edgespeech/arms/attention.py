"""What a transducer with a list of phrases attends to: two shares, and a picture.

The shares are those of F.-J. Chang et al., "Context-aware transformer transducer for speech recognition" (ASRU 2021,
arXiv:2111.03250), section 5, whose attention map is judged by eye: in how many frames of a listed phrase it is the
entry with the largest attention, and in how many others no-bias is. The frames of a phrase are those of training
(`edgespeech.training.biasing`): from its first emitted piece to its last, on the likeliest path of the transducer with
the spoken words and without a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.audio.features import Features
from edgespeech.errors import bad
from edgespeech.harness.checks import Row
from edgespeech.model.alignment import emission_frames
from edgespeech.model.checkpoint import Trained
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.training.biasing import entries_of, frame_targets, words_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

NO_BIAS = "no-bias"


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """The attention of one utterance's frames.

    Attributes:
        shares: of each entry, no-bias first, the mean of the heads, with shape `(T, K + 1)`.
        targets: the entry of each frame: 0 for no-bias, K phrases from 1, with shape `(T,)`.
    """

    shares: NDArray[np.float32]
    targets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AttentionShares:
    """Counts over frames.

    Attributes:
        phrase_frames: of listed phrases.
        right: of those, where their phrase has the largest attention.
        other_frames: all other frames.
        no_bias: of those, where no-bias has the largest attention.
    """

    phrase_frames: int
    right: int
    other_frames: int
    no_bias: int


def attention_map(
    trained: Trained, features: Features, text: str, phrases: Sequence[Sequence[int]]
) -> AttentionMap | None:
    """The attention of an utterance's frames to a list.

    Args:
        trained: a model with attention.
        features: of the utterance, with shape `(F, 80)`.
        text: the spoken words.
        phrases: word pieces of each.

    Returns:
        None if the words have more pieces than the audio has frames.

    Raises:
        EdgeSpeechError: the model has no attention, or the list is none that it can take.
    """
    model = trained.model
    if model.biasing is None:
        raise bad("attention", "model", "one without attention", "one with attention over phrases")
    labels = trained.tokeniser.encode(text)
    with torch.inference_mode():
        encoded, _, _ = model.transcribe(torch.from_numpy(features[None]), torch.tensor([len(features)]))
        predicted = model.predict(torch.tensor([labels], dtype=torch.int64))
        _, scores = model.biasing.audio(encoded, model.biasing.remember(phrases).audio)
    emitted = emission_frames(encoded[0], predicted[0], model.joiner, torch.tensor(labels, dtype=torch.int64))
    if emitted is None:
        return None
    entries = entries_of(words_of(labels, trained.tokeniser.pieces), [tuple(phrase) for phrase in phrases])
    targets = frame_targets(entries, emitted, encoded.shape[1])
    return AttentionMap(scores[0].softmax(dim=-1).mean(dim=1).numpy(), np.array(targets, dtype=np.int64))


def attention_shares(maps: Iterable[AttentionMap]) -> AttentionShares:
    """Counts over the frames of some utterances."""
    counts = np.zeros(4, dtype=np.int64)
    for one in maps:
        hit, inside = one.shares.argmax(axis=1) == one.targets, one.targets > 0
        counts += [inside.sum(), (hit & inside).sum(), (~inside).sum(), (hit & ~inside).sum()]
    return AttentionShares(*counts.tolist())


def picture_of(one: AttentionMap, names: Sequence[str], frame_s: float) -> Row:
    """A map as a record has it.

    Args:
        one: of an utterance.
        names: of the phrases, K of them.
        frame_s: seconds of a frame.

    Raises:
        EdgeSpeechError: another number of names.
    """
    if len(names) != one.shares.shape[1] - 1:
        raise bad("attention", "names", len(names), f"{one.shares.shape[1] - 1}, as phrases")
    return {
        "names": list(names),
        "frame_s": frame_s,
        "shares": [[round(float(share), 3) for share in frame] for frame in one.shares],
        "targets": one.targets.tolist(),
    }


def attention_plot(picture: Row) -> str:
    """A map as SVG: time from left to right, no-bias and the phrases from top to bottom, the right entry underlined.

    Args:
        picture: see `picture_of`.
    """
    rows, step = [NO_BIAS, *picture["names"]], picture["frame_s"]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.imshow(
            np.transpose(picture["shares"]),
            cmap="Greys",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
            extent=(0.0, len(picture["shares"]) * step, len(rows) - 0.5, -0.5),
        )
        for frame, entry in enumerate(picture["targets"]):
            if entry:
                ends = [frame * step, (frame + 1) * step]
                axes.plot(ends, [entry + 0.42] * 2, color=LIGHT["s1"], linewidth=2, solid_capstyle="butt")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("time (s)")

    return svg(draw, 0.7 + 0.2 * len(rows))

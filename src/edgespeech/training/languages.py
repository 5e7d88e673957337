"""An auxiliary task for the transcriber: the language of every frame (`edgespeech.model.languages`).

The loss is the cross-entropy of the language after each frame, a mean over an utterance's frames and over the step's
utterances, added to the transducer's with a small weight: L = L_transducer + weight * L_languages, as in joint training
of recognition and identification (arXiv:2007.03900, with targets of the language on the output side; per frame as in
arXiv:2209.06058). A head that hears little of an utterance cannot know its language, and its first frames add a loss
near that of a guess; the mean over frames is what makes it decide early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgespeech.model.languages import LanguageHead
from edgespeech.training.config import Source


@dataclass(frozen=True, slots=True)
class Spoken:
    """The languages of a step.

    Attributes:
        languages: numbers in `language_names`, of this process's utterances, with shape `(B,)`.
        utterances: number in the whole step, over all processes.
    """

    languages: Tensor
    utterances: int


def language_names(sources: Sequence[Source]) -> tuple[str, ...]:
    """The languages of a run, sorted."""
    return tuple(sorted({source.language for source in sources if source.language is not None}))


def spoken_of(sources: Sequence[Source], corpora: Sequence[int], utterances: int) -> Spoken:
    """The languages of some utterances.

    Args:
        sources: of the run, each with a language.
        corpora: the number of each utterance's source.
        utterances: of the whole step.
    """
    numbers = {name: number for number, name in enumerate(language_names(sources))}
    found = [numbers[str(sources[corpus].language)] for corpus in corpora]
    return Spoken(torch.tensor(found, dtype=torch.int64), utterances)


def language_loss(head: LanguageHead, encoded: Tensor, lengths: Tensor, languages: Tensor) -> Tensor:
    """The cross-entropy of each utterance's language, a mean over its frames, summed over the utterances.

    Args:
        head: of the run.
        encoded: the transcription with shape `(B, T, J)`.
        lengths: valid frames of each, with shape `(B,)`; an utterance without any adds nothing.
        languages: with shape `(B,)`.
    """
    logits = head(encoded.float())
    wanted = languages[:, None].expand(logits.shape[:2])
    each = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    valid = torch.arange(logits.shape[1], device=lengths.device) < lengths[:, None]
    summed = (each.view(valid.shape) * valid).sum(1)
    return (summed / lengths.clamp(min=1)).sum()

"""The losses of a step: on the words, and the auxiliary ones that a run has."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from edgespeech.core.labels import BLANK
from edgespeech.model.languages import LanguageHead
from edgespeech.model.loss import transducer_loss
from edgespeech.model.transducer import Transducer
from edgespeech.training.batches import Batch
from edgespeech.training.biasing import attend, attention_loss
from edgespeech.training.config import TrainConfig
from edgespeech.training.languages import language_loss
from edgespeech.training.lead_in import behind, lead_in_loss
from edgespeech.training.precision import Precision
from edgespeech.training.processes import Processes
from edgespeech.training.sounds import ctc_sum
from edgespeech.training.word_errors import expected_errors

MODEL = "model"
SOUNDS = "sounds"
TEACHER = "teacher"
LANGUAGES = "languages"
"""Names of the parts that are trained together."""


@dataclass(frozen=True, slots=True)
class Losses:
    """A step's losses, each summed over the process's utterances and divided by the number of labels of the step, the
    teacher's by the number of frames, the attention's and the languages' by that of utterances.

    Attributes:
        expected: word errors of the lists, above their means; `heard` is without that, to be told.
    """

    transducer: Tensor
    ctc: Tensor
    sounds: Tensor
    teacher: Tensor
    attention: Tensor
    languages: Tensor
    expected: Tensor
    heard: Tensor

    def total(self, config: TrainConfig, step: int) -> Tensor:
        """The weighted sum, which a step minimises."""
        ctc = config.ctc if step >= config.ctc_only_steps else 1.0
        sounds = 0.0 if config.sounds is None else config.sounds.weight
        transducer = 1.0 if config.word_errors is None else config.word_errors.transducer
        total = transducer * self.transducer + ctc * self.ctc + sounds * self.sounds + self.expected
        if config.biasing is not None:
            total = total + config.biasing.weight * self.attention
        if config.languages is not None:
            total = total + config.languages.weight * self.languages
        return total if config.teacher is None else total + config.teacher.weight * self.teacher

    def told(self) -> Tensor:
        """All of them, in the order of the fields."""
        return torch.stack([getattr(self, field.name) for field in fields(self)]).detach()


def losses_of(
    trained: nn.ModuleDict,
    batch: Batch,
    config: TrainConfig,
    precision: Precision,
    step: int,
    here: Processes,
) -> Losses:
    """The losses of this process's share of a step. An empty share has losses of zero."""
    model = trained[MODEL]
    assert isinstance(model, Transducer)
    # With a gradient of zero for every weight, so that the optimiser counts the step for all weights, as the format of
    # its saved state requires.
    zero = torch.stack([parameter.sum() * 0 for parameter in trained.parameters()]).sum()
    if not batch.ids:
        return Losses(*[zero] * len(fields(Losses)))
    before, stack = batch.before, model.config.stack
    with torch.autocast(here.device.type, torch.bfloat16, enabled=precision == "bf16"):
        heard, heard_lengths, _ = model.transcribe(
            batch.features.to(here.device), batch.lengths.to(here.device)
        )
        whole = heard
        if before is not None:
            heard, heard_lengths = behind(heard, heard_lengths, before, stack)
        worded = batch.worded.to(here.device)
        encoded, lengths = heard[worded], heard_lengths[worded]
        labels = batch.labels.to(here.device)[worded]
        predicted = model.predict(labels)
        listed, attended = batch.listed, None
        if listed is not None and listed.phrases and len(worded):
            attended = attend(model, listed.phrases, encoded, predicted)
    counts = batch.label_lengths.to(here.device)[worded]
    transducer = zero
    if step >= config.ctc_only_steps and len(worded):
        transducer = transducer_loss(
            encoded if attended is None else attended.encoded,
            predicted if attended is None else attended.predicted,
            model.joiner.weight,
            model.joiner.bias,
            labels,
            lengths,
            counts,
            blank=BLANK,
            memory_mib=config.loss_mib,
            fast_emit=config.fast_emit,
        ).sum()
    if before is not None and before.labels.shape[1]:
        transducer = transducer + lead_in_loss(model, whole, before, stack, memory_mib=config.loss_mib)
    # An augmented utterance can be too fast for CTC, and then contributes no loss. With weight 0, CTC only costs time.
    uses_ctc = config.ctc > 0 or step < config.ctc_only_steps
    ctc = ctc_sum(model.ctc(encoded.float()), lengths, labels, counts) if len(worded) and uses_ctc else zero
    sounds = zero.detach()
    if config.sounds is not None:
        said, said_counts = batch.sounds.to(here.device), batch.sound_lengths.to(here.device)
        sounds = trained[SOUNDS](heard_lengths, said, said_counts)
    teacher = zero.detach()
    if batch.taught is not None:
        teacher = trained[TEACHER](batch.taught) / batch.taught.global_frames
    attention = zero  # a step without a list counts for the attention's weights too
    if attended is not None and listed is not None and config.biasing is not None and config.biasing.weight:
        entries = listed.entries.to(here.device)[worded]
        attention = attention_loss(
            attended, encoded, predicted, model.joiner, labels, lengths, counts, entries
        )
        attention = attention / listed.utterances
    languages = zero.detach()
    if batch.spoken is not None:
        told = batch.spoken.languages.to(here.device)
        head = trained[LANGUAGES]
        assert isinstance(head, LanguageHead)
        languages = language_loss(head, heard, heard_lengths, told) / batch.spoken.utterances
    expected = errors = zero.detach()
    if batch.heard is not None:
        expected, errors = expected_errors(model, encoded, lengths, batch.heard, memory_mib=config.loss_mib)
    labels_of_all = max(batch.global_labels, 1)  # a step of speech without words has none
    worded_losses = (transducer / labels_of_all, ctc / labels_of_all, sounds / labels_of_all)
    return Losses(
        *worded_losses, teacher, attention, languages, expected / labels_of_all, errors / labels_of_all
    )

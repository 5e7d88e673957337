"""Training for fewer expected word errors (MWER): lists of hypotheses, and the loss on them.

Source: J. Guo, G. Tiwari, J. Droppo, M. Van Segbroeck, C.-W. Huang, A. Stolcke, R. Maas, "Efficient minimum word error
rate training of RNN-transducer for end-to-end speech recognition", Interspeech 2020, arXiv 2007.13802: a hypothesis has
the probability of all its alignments, by the transducer's forward-backward recursions, normalised over the list; and
the lists of many steps are made at once by the model before them ("semi-on-the-fly").

The search runs over the frames that the loss sees: features with the step's augmentation, transcribed without dropout.

Letters: B batch, T transcriber frames, J joiner width, U labels, N hypotheses of an utterance, M of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor

from edgespeech.core.labels import BLANK
from edgespeech.errors import bad
from edgespeech.metrics.word_errors import errors_against
from edgespeech.model.checkpoint import Trained
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.beam import BeamDecoder
from edgespeech.training.batches import Batch, Heard
from edgespeech.training.config import WordErrors

Labels = tuple[int, ...]


class Expected(NamedTuple):
    """What a batch's lists come to.

    Attributes:
        loss: expected word errors above the list's mean, summed over the utterances; differentiable.
        errors: expected word errors, summed over the utterances.
    """

    loss: Tensor
    errors: Tensor


def with_lists(
    batches: Iterator[Batch], settings: WordErrors, model: Transducer, tokeniser: Tokeniser
) -> Iterator[Batch]:
    """The same batches with lists of hypotheses, made `every` steps ahead by the model of that moment.

    Args:
        batches: from a step on that is a multiple of `settings.every`.
        settings: of the lists.
        model: in training.
        tokeniser: its word pieces.

    Raises:
        EdgeSpeechError: the model's values overflow; the message names the utterance.
    """
    while ahead := list(islice(batches, settings.every)):
        training = model.training
        model.eval()
        found = [*searched(ahead, settings, model, tokeniser)]
        model.train(training)
        yield from found


@torch.no_grad()
def searched(
    batches: Sequence[Batch], settings: WordErrors, model: Transducer, tokeniser: Tokeniser
) -> Iterator[Batch]:
    """Each batch with the likeliest hypotheses of its utterances; see `with_lists`."""
    device = next(model.parameters()).device
    with TemporaryDirectory() as folder:
        search = _search(model, tokeniser, settings, Path(folder))
        for batch in batches:
            if not batch.ids:
                yield replace(batch, heard=heard_of([], [], tokeniser))
                continue
            encoded, lengths, _ = model.transcribe(batch.features.to(device), batch.lengths.to(device))
            lists, references = [], []
            for row in batch.worded.tolist():
                frames = encoded[row, : int(lengths[row])].float().cpu()
                if not bool(torch.isfinite(frames).all()):
                    raise bad(
                        "train", f"transcription of {batch.ids[row]}", "NaN or infinity", "finite numbers"
                    )
                reference = tuple(batch.labels[row, : int(batch.label_lengths[row])].tolist())
                found = search(frames)
                lists.append(listed(found, reference if settings.reference else None, settings.hypotheses))
                references.append(reference)
            yield replace(batch, heard=heard_of(lists, references, tokeniser))


def listed(found: Sequence[Labels], reference: Labels | None, most: int) -> list[Labels]:
    """The first hypotheses; with the reference, where it is given and not among them, in the place of the last one."""
    kept = list(dict.fromkeys(found))[:most]
    if reference is None or reference in kept:
        return kept
    return [*kept[: most - 1], reference]


def heard_of(lists: Sequence[Sequence[Labels]], references: Sequence[Labels], tokeniser: Tokeniser) -> Heard:
    """Lists of hypotheses as tensors, with their word errors.

    Args:
        lists: of each utterance, one hypothesis at least.
        references: of each utterance.
        tokeniser: of their labels.

    Raises:
        EdgeSpeechError: an empty list.
    """
    if any(not one for one in lists):
        raise bad("train", "hypotheses", "an empty list", "one hypothesis at least")
    utterance = [at for at, one in enumerate(lists) for _ in one]
    every = [labels for one in lists for labels in one]
    errors: list[int] = []
    for hypotheses, reference in zip(lists, references, strict=True):
        errors += errors_against(tokeniser.decode(reference), [tokeniser.decode(one) for one in hypotheses])
    labels = torch.full((len(every), max(map(len, every), default=0)), BLANK, dtype=torch.int64)
    for row, own in enumerate(every):
        labels[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
    return Heard(
        utterance=torch.tensor(utterance, dtype=torch.int64),
        labels=labels,
        label_lengths=torch.tensor([len(own) for own in every], dtype=torch.int64),
        errors=torch.tensor(errors, dtype=torch.float32),
    )


def expected_errors(
    model: Transducer, encoded: Tensor, lengths: Tensor, heard: Heard, *, memory_mib: float
) -> Expected:
    """The expected word errors of each list, with the list's mean taken off.

    Args:
        model: whose predictor and joiner give the probabilities.
        encoded: transcriptions of the utterances whose words are learned, with shape `(B, T, J)`.
        lengths: of them, with shape `(B,)`.
        heard: their lists.
        memory_mib: see `transducer_loss`.
    """
    if not len(heard.utterance):
        zero = encoded.sum() * 0
        return Expected(zero, zero)
    device = encoded.device
    rows, labels = heard.utterance.to(device), heard.labels.to(device)
    likelihoods = -transducer_loss(
        encoded[rows],
        model.predict(labels),
        model.joiner.weight,
        model.joiner.bias,
        labels,
        lengths[rows],
        heard.label_lengths.to(device),
        blank=BLANK,
        memory_mib=memory_mib,
    )
    counts = rows.bincount(minlength=len(encoded))
    places = torch.arange(len(rows), device=device) - (counts.cumsum(0) - counts)[rows]
    scores = likelihoods.new_full((len(encoded), int(counts.max())), -torch.inf)
    scores = scores.index_put((rows, places), likelihoods)
    shares = scores.softmax(dim=1)[rows, places]
    errors = heard.errors.to(device)
    means = errors.new_zeros(len(encoded)).index_add(0, rows, errors) / counts.clamp(min=1)
    return Expected((shares * (errors - means[rows])).sum(), (shares * errors).sum().detach())


class _Search:
    """Beam search over one utterance, by the native engine in single precision."""

    def __init__(self, model: PackedModel, beam: int) -> None:
        self._model, self._beam = model, beam

    def __call__(self, frames: Tensor) -> list[Labels]:
        """Label sequences, likeliest first, of frames with shape `(T, J)`."""
        stream = self._model.open(self._beam)
        try:
            stream.accept_encoded(frames.numpy())
            return [one.labels for one in stream.n_best]
        finally:
            stream.close()


class _TorchSearch:
    """The same by torch, which is much slower: what a plain implementation does."""

    def __init__(self, model: Transducer, beam: int) -> None:
        self._model, self._beam = model, beam

    def __call__(self, frames: Tensor) -> list[Labels]:
        """As `_Search`."""
        decoder = BeamDecoder(self._model, self._beam)
        decoder.accept(frames)
        return [one.labels for one in decoder.n_best]


def _search(
    model: Transducer, tokeniser: Tokeniser, settings: WordErrors, folder: Path
) -> _Search | _TorchSearch:
    if settings.search == "torch":
        return _TorchSearch(model, settings.beam)
    file = folder / "model.edge"
    pack(Trained(model, tokeniser, {}), Layout(matrices=Encoding(bits=32)), file)
    return _Search(PackedModel(file), settings.beam)

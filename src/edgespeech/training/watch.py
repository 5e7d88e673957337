"""Monitoring of a run: greedy word error rates of its averaged model on training and tuning speech.

Training speech is measured twice, clean and augmented. Together the three rates show what is missing: errors on
training speech mean underfitting, errors on tuning speech alone mean too little training speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.labels import BLANK
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.metrics.word_errors import WordErrors, word_errors_of
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import LstmState, PredictorState, Transducer
from edgespeech.search.settings import MAX_LABELS
from edgespeech.training.batches import Batches
from edgespeech.training.config import Watch
from edgespeech.training.shards import Shards
from edgespeech.training.speech import Speech, tuning_manifest
from edgespeech.training.store import Store, as_float, decoded

NORMALISER = "basic"
_SEED = 17
_TAIL_FRAMES = 50
"""Silence after an utterance, so that a streaming model emits the last word."""
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """Utterances to measure: their words, the features of each, with shape `(F, 80)`, and speakers."""

    texts: Sequence[str]
    spoken: Sequence[Features]
    speakers: Sequence[str] = ()

    def word_errors(self, seed: int = 0) -> WordErrors:
        """`WordErrors` of transcripts of these utterances by the normaliser `basic`; the seed is for intervals."""
        return word_errors_of(self.texts, NORMALISER, self.speakers or None, seed=seed)


def tuning_sample(
    corpus: str, utterances: int, shards: Shards | None = None, *, tail_s: float = 0.0
) -> Sample:
    """A seeded sample of a tuning corpus.

    Args:
        corpus: a split, or a manifest by its path or in the work folder.
        utterances: maximum number.
        shards: with the corpus; None uses the corpus itself.
        tail_s: silence after each.

    Raises:
        EdgeSpeechError: the corpus is not available, or is for evaluation only.
    """
    if shards is not None:
        return _sample(*shards.corpus(corpus), utterances, tail_s)
    manifest = tuning_manifest(corpus)
    return _sample(manifest, decoded(manifest), utterances, tail_s)


def evaluation_sample(split: str) -> Sample:
    """All utterances of a split, for reporting results and never for choices.

    Raises:
        EdgeSpeechError: the split is not available.
    """
    manifest = manifest_of(split)
    return _sample(manifest, decoded(manifest), len(manifest.utterances))


def _sample(manifest: Manifest, store: Store, utterances: int, tail_s: float = 0.0) -> Sample:
    samples, spans = store.open(), dict(zip((u.id for u in manifest.utterances), store.spans, strict=True))
    chosen = manifest.subset(utterances, _SEED).utterances
    spoken = [as_float(samples[start : start + length]) for start, length in (spans[u.id] for u in chosen)]
    return Sample(
        [u.text for u in chosen],
        [log_mel_at_once(np.pad(one, (0, round(tail_s * SAMPLE_RATE)))) for one in spoken],
        [u.speaker or u.id for u in chosen],
    )


class Watcher:
    """Measures a model at intervals; see `Watch`."""

    def __init__(
        self,
        watch: Watch,
        speech: Speech,
        batches: Batches,
        tokeniser: Tokeniser,
        shards: Shards | None = None,
    ) -> None:
        self.every = watch.every
        self._speech, self._batches, self._tokeniser = speech, batches, tokeniser
        self._places = _spread(speech, watch.utterances)
        self._tuning = {name: tuning_sample(name, watch.utterances, shards) for name in watch.tuning}

    def measure(self, model: Transducer, step: int) -> dict[str, float]:
        """Word error rates, by name: `wer train` (augmented as the step is), `wer train clean`, and each tuning corpus.

        Args:
            model: in evaluation mode, on a processor or a GPU.
            step: the last finished one.
        """
        heard = [self._batches.watched(place, step) for place in self._places]
        texts = [self._speech.items[place].text for place in self._places]
        samples = {
            "train": Sample(texts, [augmented for _, augmented in heard]),
            "train clean": Sample(texts, [clean for clean, _ in heard]),
            **self._tuning,
        }
        return {
            f"wer {name}": word_error_rate(model, self._tokeniser, sample) for name, sample in samples.items()
        }


def _spread(speech: Speech, utterances: int) -> list[int]:
    """Indices of a seeded sample of the utterances whose words are learned, with equal numbers from each corpus."""
    by_corpus: dict[int, list[int]] = {}
    for place, item in enumerate(speech.items):
        if item.learns_words:
            by_corpus.setdefault(item.corpus, []).append(place)
    each = -(-utterances // len(by_corpus))
    random = np.random.default_rng(_SEED)
    return [int(place) for places in by_corpus.values() for place in random.permutation(places)[:each]]


def word_error_rate(model: Transducer, tokeniser: Tokeniser, sample: Sample) -> float:
    """The word error rate of greedy search without a language model, by the normaliser `basic`."""
    return sample.word_errors().wer(transcripts(model, tokeniser, sample.spoken))


def transcripts(model: Transducer, tokeniser: Tokeniser, spoken: Sequence[Features]) -> list[str]:
    """Transcripts by greedy search, in batches of similar length for `greedy`."""
    order = sorted(range(len(spoken)), key=lambda place: len(spoken[place]))
    found = [""] * len(spoken)
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        for place, labels in zip(places, greedy(model, [spoken[p] for p in places]), strict=True):
            found[place] = tokeniser.decode(labels)
    return found


@torch.inference_mode()
def greedy(model: Transducer, spoken: Sequence[Features]) -> list[list[int]]:
    """Batched greedy search, with the same results as `edgespeech.search.greedy`.

    Args:
        model: in evaluation mode.
        spoken: features of each utterance, with shape `(F, 80)`; half a second of their last frame is appended.

    Returns:
        The labels of each.
    """
    device = model.joiner.weight.device
    lengths = torch.tensor([len(features) + _TAIL_FRAMES for features in spoken])
    padded = torch.zeros(len(spoken), int(lengths.max()), spoken[0].shape[1])
    for row, features in enumerate(spoken):
        padded[row, : len(features)] = torch.from_numpy(features)
        padded[row, len(features) :] = padded[row, len(features) - 1]
    encoded, frames, _ = model.transcribe(padded.to(device), lengths.to(device))
    predicted, state = model.start(len(spoken))
    labels: list[list[int]] = [[] for _ in spoken]
    for place in range(encoded.shape[1]):
        going = (place < frames).to(device)
        for _ in range(MAX_LABELS):
            best = model.join(encoded[:, place], predicted).argmax(-1)
            going = going & (best != BLANK)
            rows = going.nonzero()[:, 0]
            if not len(rows):
                break
            for row, label in zip(rows.tolist(), best[rows].tolist(), strict=True):
                labels[row].append(label)
            after, state_after = model.advance(best, state)
            predicted = torch.where(going[:, None], after, predicted)
            state = _chosen(going, state_after, state)
    return labels


def _chosen(going: Tensor, after: PredictorState, before: PredictorState) -> PredictorState:
    """The predictor's state of each utterance: the new one if it emitted a label."""
    if isinstance(after, LstmState):
        assert isinstance(before, LstmState)
        return LstmState(*(torch.where(going[:, None], a, b) for a, b in zip(after, before, strict=True)))
    assert isinstance(before, Tensor)
    return torch.where(going[:, None], after, before)

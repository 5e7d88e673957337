"""Recognition of audio that arrives in pieces of any size: features, transcriber, search, words."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from edgespeech.audio.features import Features, StreamingLogMel, log_mel
from edgespeech.biasing.phrases import PhraseBias
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.model.checkpoint import Trained
from edgespeech.model.contextual import attending, list_bytes
from edgespeech.model.transducer import LstmState, Transducer
from edgespeech.search.beam import BeamDecoder, LabelScores
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Changes, Hypothesis
from edgespeech.search.partials import TAIL_S, PartialsStream
from edgespeech.search.settings import SearchSettings


class StreamingTranscriber:
    """Transcribes one utterance. The result does not depend on the pieces of audio, up to rounding.

    `finish` appends `TAIL_S` of digital silence, which completes the last transcriber frame and lets the model emit its
    remaining labels. Feature frames left over after that are silence.

    Args:
        model: in evaluation mode.
        lead_in: what came before the utterance, 16 kHz, with shape `(N,)`. Its whole transcriber frames are heard, so
            that the utterance's begin with its own first sample, and are not returned. None: the state begins at zero.
    """

    def __init__(self, model: Transducer, lead_in: Samples | None = None) -> None:
        self._model = model
        self._features = StreamingLogMel()
        self._waiting = np.empty((0, model.config.features), np.float32)
        self._state: LstmState | None = None
        if lead_in is not None:
            before = log_mel(lead_in)
            self._transcribe(before[: len(before) - len(before) % model.config.stack])

    def accept(self, samples: Samples) -> Tensor:
        """Take samples and return the transcriber frames that they complete.

        Args:
            samples: 16 kHz, in [-1, 1], with shape `(N,)`, N >= 0.

        Returns:
            The transcription with shape `(T, J)`, T >= 0.

        Raises:
            EdgeSpeechError: samples of another shape, or after `finish`.
        """
        return self._transcribe(self._features.accept(samples))

    def finish(self) -> Tensor:
        """End of the audio: return the last transcriber frames, with shape `(T, J)`."""
        tail = self._features.accept(np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32))
        return self._transcribe(np.concatenate([tail, self._features.finish()]))

    @property
    def state_bytes(self) -> int:
        """Bytes of the transcriber's state and of the buffered feature frames."""
        return self._waiting.nbytes + sum(part.nbytes for part in self._state or ())

    @torch.inference_mode()
    def _transcribe(self, features: Features) -> Tensor:
        """The transcription, with shape `(T, J)`, of the frames that new features `(F, 80)` complete."""
        features = np.concatenate([self._waiting, features])
        whole = len(features) - len(features) % self._model.config.stack
        self._waiting = features[whole:].copy()
        if whole == 0:
            return torch.empty(0, self._model.config.joiner)
        encoded, _, self._state = self._model.transcribe(
            torch.from_numpy(features[None, :whole]), torch.tensor([whole]), self._state
        )
        return encoded[0]


def decoder_of(
    trained: Trained,
    settings: SearchSettings,
    scores: LabelScores | None = None,
    bias: PhraseBias | None = None,
) -> GreedyDecoder | BeamDecoder:
    """The decoder for given settings.

    Args:
        trained: the model, with its language model if it has one.
        settings: how to search.
        scores: used instead of the model's own language model; greedy search uses none.
        bias: phrases that are likely; None: no bias.
    """
    if settings.beam == 1:
        return GreedyDecoder(trained.model, bias=bias)
    own = trained.fusion if settings.language_model else None
    return BeamDecoder(trained.model, settings.beam, fusion=scores or own, bias=bias)


class TransducerStream(PartialsStream):
    """One utterance in progress, by torch.

    Args:
        trained: the model and its word pieces.
        beam: number of hypotheses; 1 is greedy search, which uses no language model.
        final_s: see `PartialsStream`.
        scores: used instead of the model's own language model.
        bias: phrases that are likely, to which a model with attention also attends; None: no bias.
        lead_in: what came before the utterance, see `StreamingTranscriber`.

    Raises:
        EdgeSpeechError: more phrases than the model can attend to (`edgespeech.model.contextual`).
    """

    def __init__(
        self,
        trained: Trained,
        beam: int = 1,
        final_s: float | None = None,
        scores: LabelScores | None = None,
        bias: PhraseBias | None = None,
        lead_in: Samples | None = None,
    ) -> None:
        trained = attending(trained, bias)
        self._list_bytes = list_bytes(trained)
        model = trained.model
        super().__init__(trained.tokeniser.pieces, model.config.frame_s, final_s)
        self._decoded_by = partial(decoder_of, trained, SearchSettings(beam=beam), scores, bias)
        self._transcribed_by = partial(StreamingTranscriber, model)
        self._transcriber, self._decoder = self._transcribed_by(lead_in), self._decoded_by()

    def _restart(self) -> bool:
        self._transcriber, self._decoder = self._transcribed_by(), self._decoded_by()
        return True

    def _hear(self, samples: Samples) -> None:
        self._decoder.accept(self._transcriber.accept(samples))

    def _end(self) -> None:
        self._decoder.accept(self._transcriber.finish())

    def _best(self) -> Hypothesis:
        return self._decoder.best

    def _changes(self) -> Changes:
        return self._decoder.changes() if isinstance(self._decoder, BeamDecoder) else super()._changes()

    def state_bytes(self) -> int:
        """Bytes of state, the encoded list included, except for the feature extractor's last 25 ms of samples."""
        return self._transcriber.state_bytes + self._decoder.state_bytes + self._list_bytes

"""An auxiliary task for the transcriber: recognition of phonetic sounds by CTC on one of its lower layers.

English spelling is far from its sounds, and a few hours of speech are not enough to learn both sounds and spelling. A
lower layer that recognises sounds learns several times faster from those hours, and the layers above it learn the
spelling. Speech in other languages, from many more speakers and microphones, can train the same layer. It is used in
training only.

Sources: K. Rao and H. Sak, "Multi-accent speech recognition with hierarchical grapheme based models", ICASSP 2017
(phonemes on a lower layer, graphemes on top); K. Krishna et al., "Hierarchical multitask learning for CTC-based
speech recognition" (2018), arXiv:1807.06234; S. Tong et al., "An investigation of deep neural networks for
multilingual speech recognition training and adaptation", Interspeech 2017 (one set of sounds for several languages).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.transducer import Transcriber
from edgespeech.synthesis.kokoro import prompt

_ACCENT = "en-us"
_NOT_SOUNDS = " ˈˌː.,?!"
"""Symbols for stress, length and marks, which are ignored."""

Said = tuple[str, str | None]
"""A sentence and its language, as in `Source.sounds_only`; None is English with words to learn."""


class SoundInventory:
    """The sounds of a set of sentences, by espeak-ng, and a number from 1 on for each.

    Args:
        texts: sentences with their languages; in lower case if that is None.

    Raises:
        EdgeSpeechError: the pronunciation rules are not installed or have no such language, or a sentence cannot be
            pronounced.
    """

    def __init__(self, texts: Sequence[Said]) -> None:
        by_language: defaultdict[str | None, set[str]] = defaultdict(set)
        for text, language in texts:
            by_language[language].add(text)
        said = {
            (text, language): sounds
            for language, own in by_language.items()
            for text, sounds in _pronounce(sorted(own), language).items()
        }
        self._symbols = {
            s: i + 1 for i, s in enumerate(sorted(set("".join(said.values())) - set(_NOT_SOUNDS)))
        }
        self._said = {
            key: [self._symbols[s] for s in sounds if s in self._symbols] for key, sounds in said.items()
        }

    def __len__(self) -> int:
        """The number of sounds, without the blank."""
        return len(self._symbols)

    def of(self, text: str, language: str | None = None) -> list[int]:
        """The sounds of one of the sentences, each 1 or more."""
        return self._said[text, language]


class SoundsHead(nn.Module):
    """An output on a layer of the transcriber, outside the model since recognition does not use it.

    Args:
        transcriber: whose layer is used.
        layer: the output is below this layer, counted from 0; with 3 it uses three layers.
        sounds: their number, without the blank.

    Raises:
        EdgeSpeechError: there is no such layer.
    """

    def __init__(self, transcriber: Transcriber, layer: int, sounds: int) -> None:
        super().__init__()
        if not 0 < layer < len(transcriber.norms):
            raise bad("train: sounds", "layer", layer, f"1 to {len(transcriber.norms) - 1}")
        self.out = nn.Linear(transcriber.enter.out_features, sounds + 1)
        self._heard: Tensor | None = None
        transcriber.norms[layer].register_forward_hook(self._hear)

    def _hear(self, _module: nn.Module, _given: Any, normal: Tensor) -> None:
        self._heard = normal

    def forward(self, lengths: Tensor, sounds: Tensor, sound_lengths: Tensor) -> Tensor:
        """The CTC loss, summed over the transcriber's last batch.

        Args:
            lengths: transcriber frames of each, with shape `(B,)`.
            sounds: with shape `(B, S)`, padded.
            sound_lengths: with shape `(B,)`.

        Returns:
            A number; an utterance with too few frames for its sounds adds nothing.
        """
        assert self._heard is not None, "the transcriber runs first"
        heard, self._heard = self._heard, None
        return ctc_sum(self.out(heard.float()), lengths, sounds, sound_lengths)


def ctc_sum(logits: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
    """The CTC loss of a batch, summed; an utterance with fewer frames than CTC needs adds nothing.

    Args:
        logits: with shape `(B, T, V)`.
        lengths: frames of each, with shape `(B,)`.
        labels: with shape `(B, U)`, padded.
        label_lengths: with shape `(B,)`.
    """
    return nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1),
        labels,
        lengths,
        label_lengths,
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def _pronounce(texts: Sequence[str], language: str | None) -> dict[str, str]:
    try:
        # Its construction configures phonemizer's path to espeak-ng.
        import_module("kokoro_onnx.tokenizer").Tokenizer()
        phonemizer: Any = import_module("phonemizer")
    except ImportError as error:
        raise EdgeSpeechError(
            f"train: sounds: {error}; expected the pronunciation rules: pip install 'edgespeech[synth]'"
        ) from error
    # espeak-ng marks foreign words, which have their own rules; the mark is not a sound.
    asked = [prompt(text) for text in texts] if language is None else list(texts)
    try:
        said = phonemizer.phonemize(
            asked, language or _ACCENT, preserve_punctuation=False, language_switch="remove-flags"
        )
    except RuntimeError as error:
        raise bad("train: speech", "sounds_only", language, f"a language of espeak-ng ({error})") from error
    return dict(zip(texts, said, strict=True))

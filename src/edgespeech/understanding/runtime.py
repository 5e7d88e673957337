"""Understanding on the device: a packed network whose products are those of the native engine's int8 kernels.

Word vectors are looked up, each product quantises its vector as in `edgespeech.packed.reference`, and the gates are
computed in single precision. `edgespeech.understanding.packing.load_twin` is its slow twin, with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.closing import Closing
from edgespeech.core.places import shipped_models
from edgespeech.corpora.requests import slots_of
from edgespeech.errors import bad
from edgespeech.packed import loader
from edgespeech.packed.codes import Codes
from edgespeech.text.spoken import plain
from edgespeech.understanding.network import Scheme
from edgespeech.understanding.packing import read_network, values_of, vocabulary_of, word_vectors
from edgespeech.understanding.vocabulary import bucket_numbers

_BATCH = 8
"""Vectors that a kernel takes at once."""
_LOG2_E, _LN_2_HIGH, _LN_2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_ONE, _TWO = np.float32(1), np.float32(2)
_ROUND = np.float32(12582912)
"""1.5 * 2^23: a small float added to it is rounded to a whole number."""
_SERIES = tuple(map(np.float32, (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)))
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Understanding:
    """What a request means.

    Attributes:
        intent: the likeliest one.
        probability: of the intent, by the network.
        slots: name to words; of two slots of one name the first.
        words: of the request, as the network read them.
        tags: one for each word; empty for a scheme without slots.
    """

    intent: str
    probability: float
    slots: Mapping[str, str]
    words: tuple[str, ...]
    tags: tuple[str, ...]


class Understander(Closing):
    """A packed network in memory. Any number of threads may use it at once.

    Args:
        path: of the file.
        isa: the kernel, one of `edgespeech.packed.loader.isas()`; None for this CPU's best.

    Raises:
        EdgeSpeechError: the file is missing, damaged, no understanding network, or one of floats; the engine is not
            built, or this CPU lacks the kernel.
    """

    def __init__(self, path: Path, isa: str | None = None) -> None:
        file, self.config, self.schemes = read_network(path)
        self.path = path
        self._isa = isa
        self._scales: dict[str, Floats] = {}
        self._bias: dict[str, Floats] = {}
        for name, tensor in file.tensors.items():
            if name.endswith(".weight"):
                if not isinstance(tensor, Codes):
                    raise bad(str(path), f"tensor {name}", "floats", "codes, as kernels multiply them")
                self._scales[name] = tensor.scales[:, 0]
            elif name.endswith(".bias"):
                self._bias[name.removesuffix(".bias") + ".weight"] = values_of(tensor)[0]
        self._vocabulary = vocabulary_of(file.tensors)
        self._vectors = word_vectors(file.tensors, self.config)
        self._file = loader.EdgeFile(path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def scheme(self, name: str) -> Scheme:
        """The intents and slots of a scheme.

        Raises:
            EdgeSpeechError: the file does not have it.
        """
        if name not in self.schemes:
            raise bad(str(self.path), "scheme", name, f"one of {', '.join(self.schemes)}")
        return self.schemes[name]

    def understand(self, text: str, scheme: str) -> Understanding:
        """The intent and slots of a request.

        Args:
            text: what was recognised or written, in any spelling.
            scheme: whose intents and slots.

        Raises:
            EdgeSpeechError: there is no such scheme, or the text has no words.
        """
        return self.understand_words(plain(text).split(), scheme)

    def understand_words(self, words: Sequence[str], scheme: str) -> Understanding:
        """The intent and slots of words in spoken form; see `understand`.

        Args:
            words: at least one. `plain` is no function to apply twice: "i'm" gives "i am", and that "i a m".
            scheme: whose intents and slots.

        Raises:
            EdgeSpeechError: there is no such scheme, or no words.
        """
        intents, tags = self.scores(words, scheme)
        known = self.scheme(scheme)
        chosen = int(intents.argmax())
        told = tuple(known.tags[number] for number in tags.argmax(axis=1)) if known.slots else ()
        slots: dict[str, str] = {}
        for name, first, end in slots_of(words, told):
            slots.setdefault(name, " ".join(words[first:end]))
        return Understanding(
            known.intents[chosen], float(probabilities(intents)[chosen]), slots, tuple(words), told
        )

    def scores(self, words: Sequence[str], scheme: str) -> tuple[Floats, Floats]:
        """Scores of intents, with shape `(I,)`, and of tags, `(T, G)`; no columns without slots.

        Args:
            words: in spoken form, at least one.
            scheme: whose.

        Raises:
            EdgeSpeechError: there is no such scheme, or no words.
        """
        known = self.scheme(scheme)
        if not words:
            raise bad("request", "text", "", "at least one word")
        x = self._embedded(words)
        ahead = self._lstm("forward", x)
        back = self._lstm("backward", x[::-1])[::-1]
        outputs = np.concatenate((ahead, back), axis=1)
        intents = self._product(f"intents.{scheme}.weight", outputs.max(axis=0, keepdims=True))[0]
        if not known.slots:
            return intents, np.zeros((len(words), 0), np.float32)
        return intents, self._product(f"slots.{scheme}.weight", outputs)

    def _embedded(self, words: Sequence[str]) -> Floats:
        if self.config.buckets is None:
            return self._vectors[self._vocabulary.numbers(words)]
        rows = bucket_numbers(words, self.config.hashes, self.config.buckets)
        found: Floats = self._vectors[rows].sum(axis=1)
        return found

    def _product(self, name: str, x: Floats) -> Floats:
        """The matrix times each vector and the bias, with shape `(N, rows)`."""
        scales = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
        q = np.rint(x / np.where(scales > 0, scales, np.float32(1))).clip(-127, 127).astype(np.int8)
        y = np.empty((len(x), len(self._scales[name])), np.float32)
        for at in range(0, len(x), _BATCH):
            y[at : at + _BATCH] = self._file.multiply(name, q[at : at + _BATCH], self._isa)[:, :, 0]
        y *= self._scales[name]
        y *= scales
        if name in self._bias:
            y += self._bias[name]
        return y

    def _lstm(self, name: str, x: Floats) -> Floats:
        """Outputs of one direction, with shape `(T, H)`."""
        driven = self._product(f"{name}.input.weight", x)
        size = self.config.hidden
        hidden: Floats = np.zeros((1, size), np.float32)
        cell: Floats = np.zeros(size, np.float32)
        outputs = np.empty((len(x), size), np.float32)
        signs = np.repeat(np.array([-1, -1, 2, -1], np.float32), size)
        for place, gates in enumerate(driven):
            total = gates + self._product(f"{name}.recurrent.weight", hidden)[0]
            # sigmoid(x) = 1 / (1 + exp(-x)), tanh(x) = 1 - 2 / (1 + exp(2 x)): one exponential for all gates
            i, f, g, o = (_ONE / (_ONE + exp(total * signs))).reshape(4, size)
            cell = f * cell + i * (_ONE - _TWO * g)
            hidden = (o * (_ONE - _TWO / (_ONE + exp(_TWO * cell))))[None]
            outputs[place] = hidden
        return outputs


def exp(x: Floats) -> Floats:
    """The exponential, bit for bit that of `edgespeech.packed.simulate.exp`, with |x| clipped to 60."""
    x = x.clip(-60, 60)
    n = (x * _LOG2_E + _ROUND) - _ROUND
    remains = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    series = np.full_like(x, _SERIES[0])
    for factor in _SERIES[1:]:
        series = series * remains + factor
    return series * ((n.astype(np.int32) + 127) << 23).view(np.float32)


def shipped_network() -> Path:
    """The network that ships with the project."""
    return shipped_models() / "understanding" / "model.edge"


def probabilities(scores: Floats) -> Floats:
    """The softmax of scores along the last axis."""
    away = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: Floats = away / away.sum(axis=-1, keepdims=True)
    return found

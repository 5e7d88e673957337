"""The network: word vectors, a bidirectional LSTM, and for each scheme a layer for intents and one for slots.

A scheme is a set of intents and slots, such as those of one corpus. The design is that of D. Hakkani-Tür et al.,
"Multi-domain joint semantic frame parsing using bi-directional RNN-LSTM" (Interspeech 2016), with a layer for each
scheme; the intent is read from the largest outputs over the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgespeech.corpora.requests import OUTSIDE
from edgespeech.understanding.config import NetworkConfig
from edgespeech.understanding.vocabulary import Vocabulary, bucket_numbers


@dataclass(frozen=True, slots=True)
class Scheme:
    """Intents and slots of one kind of request.

    Attributes:
        intents: in the order of the layer's outputs.
        slots: by name; empty where the corpus has none.
        longer: those of the slots that may have several words. The tags are `O`, one of each slot for its beginning and
            one of each longer slot for its other words.
    """

    intents: tuple[str, ...]
    slots: tuple[str, ...]
    longer: tuple[str, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags in the order of the layer's outputs; empty without slots."""
        if not self.slots:
            return ()
        return (OUTSIDE, *(f"B-{slot}" for slot in self.slots), *(f"I-{slot}" for slot in self.longer))

    def to_json(self) -> dict[str, Any]:
        """As metadata have it."""
        return {"intents": list(self.intents), "slots": list(self.slots), "longer": list(self.longer)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Scheme:
        """The reverse of `to_json`."""
        return cls(*(tuple(map(str, told[name])) for name in ("intents", "slots", "longer")))


class Embedding(nn.Module):
    """Vectors of words by their numbers; see `NetworkConfig.embedding`.

    Args:
        config: the shape.
        count: words of the vocabulary and the unknown one.
    """

    def __init__(self, config: NetworkConfig, count: int) -> None:
        super().__init__()
        self.config = config
        coded = config.embedding == "codes"
        rows = config.buckets or count
        self.table = nn.Embedding(
            rows, config.codebooks * config.codewords if coded else config.width, sparse=True
        )
        nn.init.normal_(self.table.weight, std=1.0 if coded else 0.3)
        if coded:
            self.codewords = nn.Parameter(torch.empty(config.codebooks * config.codewords, config.width))
            nn.init.normal_(self.codewords, std=0.3 / config.codebooks**0.5)

    def codes(self) -> Tensor:
        """The codes of every word, with shape `(V + 1, codebooks)`."""
        scores = self.table.weight.detach()
        return scores.view(len(scores), self.config.codebooks, -1).argmax(dim=-1)

    def forward(self, numbers: Tensor) -> Tensor:
        """With shape `(B, T, width)`; from `(B, T)`, or of `hashed` from `(B, T, hashes)`."""
        found: Tensor = self.table(numbers)
        if self.config.embedding == "hashed":
            return found.sum(dim=-2)
        if self.config.embedding == "dense":
            return found
        scores = found.view(*found.shape[:-1], self.config.codebooks, -1)
        soft = scores.softmax(dim=-1)
        hard = torch.zeros_like(soft).scatter_(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
        chosen = hard if not self.training else hard + soft - soft.detach()  # straight through
        return chosen.flatten(-2) @ self.codewords


class Network(nn.Module):
    """The whole network.

    Args:
        config: its shape.
        count: words of the vocabulary and the unknown one.
        schemes: by name.
        dropout: of word vectors and outputs while training.
    """

    def __init__(
        self, config: NetworkConfig, count: int, schemes: Mapping[str, Scheme], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = Embedding(config, count)
        self.dropout = nn.Dropout(dropout)
        self.forward_lstm = nn.LSTM(config.width, config.hidden, batch_first=True)
        self.backward_lstm = nn.LSTM(config.width, config.hidden, batch_first=True)
        width = 2 * config.hidden
        self.intents = nn.ModuleDict(
            {name: nn.Linear(width, len(one.intents)) for name, one in schemes.items()}
        )
        self.slots = nn.ModuleDict(
            {name: nn.Linear(width, len(one.tags)) for name, one in schemes.items() if one.slots}
        )

    def forward(self, numbers: Tensor, scheme: str) -> tuple[Tensor, Tensor | None]:
        """Scores of intents, `(B, I)`, and of tags, `(B, T, G)`, None for a scheme without slots.

        Args:
            numbers: of words, `(B, T)` or `(B, T, hashes)`, all of one length.
            scheme: whose layers to use.
        """
        x = self.dropout(self.embedding(numbers))
        ahead, _ = self.forward_lstm(x)
        back, _ = self.backward_lstm(x.flip(1))
        outputs = self.dropout(torch.cat((ahead, back.flip(1)), dim=-1))
        intents: Tensor = self.intents[scheme](outputs.amax(dim=1))
        return intents, self.slots[scheme](outputs) if scheme in self.slots else None


class Words:
    """The numbers of words as the network takes them.

    Args:
        config: of the network.
        vocabulary: unused by hashed embeddings.
    """

    def __init__(self, config: NetworkConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary

    def numbers(self, words: Sequence[str]) -> Tensor:
        """With shape `(T,)`, or `(T, hashes)`."""
        if self.config.buckets is not None:
            return torch.from_numpy(bucket_numbers(words, self.config.hashes, self.config.buckets))
        return torch.from_numpy(self.vocabulary.numbers(words))

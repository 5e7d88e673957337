"""Attention over a list of phrases: a context encoder, multi-head attention with a no-bias entry, and a combiner.

Sources: F.-J. Chang et al., "Context-aware transformer transducer for speech recognition" (ASRU 2021,
arXiv:2111.03250), section 3: a BLSTM encodes each phrase, audio queries (or audio and label queries) attend to the
phrases. K. M. Sathyendra et al., "Contextual adapters for personalized speech recognition in neural transducers"
(ICASSP 2022, arXiv:2205.13660), section 3: the result is added to the recogniser's own vectors, so that the recogniser
may stay as it is.

The no-bias entry has a learned key and the value zero, and the last projection has no bias: attention to it alone adds
zero. An empty list therefore gives exactly the vectors without attention. That is why the combiner is a sum, and not
the first paper's projection of both normalised vectors, which is never the identity.

Letters: K phrases, P word pieces of the longest, D width, H heads, J joiner width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgespeech.errors import bad
from edgespeech.model.config import BiasingConfig, ModelConfig

MAX_PHRASES = 4096
"""Maximum number of phrases in a list. More take more time for each frame than the recogniser itself; see
`edgespeech.search.shortlist` for how to shorten a list."""
MAX_PIECES = 64
"""Maximum number of word pieces of a phrase."""


class Memory(NamedTuple):
    """What queries attend to: keys (already divided by the root of their width) and values, `(H, K + 1, D / H)` each.

    The first entry is no-bias.
    """

    keys: Tensor
    values: Tensor


class Context(NamedTuple):
    """A list of phrases, encoded by one model: the memory of the audio queries and that of the label queries."""

    audio: Memory
    label: Memory | None


class ContextEncoder(nn.Module):
    """Phrases as vectors: word pieces embedded, then a BLSTM's two last outputs, or the mean of the embeddings."""

    def __init__(self, vocabulary: int, config: BiasingConfig) -> None:
        super().__init__()
        width = config.width
        self.embedding = nn.Embedding(vocabulary, width)
        self.recurrent = config.encoder == "blstm"
        if self.recurrent:  # two modules, since a packed file has unidirectional layers only
            self.ahead = nn.LSTM(width, width, batch_first=True)
            self.back = nn.LSTM(width, width, batch_first=True)
        self.leave = nn.Linear(2 * width if self.recurrent else width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, phrases: Tensor, lengths: Tensor) -> Tensor:
        """Encode phrases.

        Args:
            phrases: word pieces with shape `(K, P)`, padded with any label.
            lengths: 1 to P, with shape `(K,)`.

        Returns:
            With shape `(K, D)`.
        """
        place = torch.arange(phrases.shape[1], device=phrases.device)
        if self.recurrent:
            last = (lengths - 1)[:, None, None].expand(-1, 1, self.embedding.embedding_dim)
            turned = phrases.gather(1, (lengths[:, None] - 1 - place).clamp(min=0))
            ends = [
                lstm(self.embedding(pieces))[0].gather(1, last).squeeze(1)
                for lstm, pieces in ((self.ahead, phrases), (self.back, turned))
            ]
            found = torch.cat(ends, dim=1)
        else:
            inside = (place < lengths[:, None]).float()[..., None]
            parts = self.embedding(phrases) * inside
            found = parts[:, 0]
            for at in range(1, phrases.shape[1]):  # one after the other, as the engine adds them
                found = found + parts[:, at]
            found = found / lengths[:, None]
        encoded: Tensor = self.norm(self.leave(found))
        return encoded


class ContextAttention(nn.Module):
    """Multi-head attention of one kind of query to the phrases, added to the query's own vector."""

    def __init__(self, joiner: int, config: BiasingConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(joiner, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.no_bias = nn.Parameter(torch.randn(config.width))
        self.out = nn.Linear(config.width, joiner, bias=False)
        nn.init.zeros_(self.out.weight)  # training starts from the recogniser as it is

    def remember(self, encoded: Tensor) -> Memory:
        """The memory of encoded phrases, `(K, D)`, K >= 0."""
        keys = torch.cat([self.no_bias[None], self.key(encoded)])
        values = torch.cat([torch.zeros_like(self.no_bias)[None], self.value(encoded)])
        keys, values = (each.view(len(each), self.heads, -1).transpose(0, 1) for each in (keys, values))
        return Memory(keys * keys.shape[2] ** -0.5, values)

    def forward(self, x: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: with shape `(..., J)`.
            memory: of the list.

        Returns:
            The vectors with what was attended to, `(..., J)`, and the logits of the attention, `(..., H, K + 1)`.
        """
        scores = self.scores(self.query(x).view(*x.shape[:-1], self.heads, -1), memory.keys)
        mixed = self.mixed(self.shares(scores), memory.values)
        return x + self.out(mixed.flatten(start_dim=-2)), scores

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Products of queries `(..., H, D / H)` with keys: `(..., H, K + 1)`."""
        return torch.einsum("...hd,hkd->...hk", queries, keys)

    def shares(self, scores: Tensor) -> Tensor:
        """The softmax over the entries."""
        return scores.softmax(dim=-1)

    def mixed(self, shares: Tensor, values: Tensor) -> Tensor:
        """The values by their shares: `(..., H, D / H)`."""
        return torch.einsum("...hk,hkd->...hd", shares, values)


class ContextBiasing(nn.Module):
    """The layers of a transducer that takes a list of phrases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.biasing is not None
        self.vocabulary = config.vocabulary
        self.encoder = ContextEncoder(config.vocabulary, config.biasing)
        self.audio = ContextAttention(config.joiner, config.biasing)
        self.label = (
            ContextAttention(config.joiner, config.biasing)
            if config.biasing.queries == "audio_label"
            else None
        )

    def remember(self, phrases: Sequence[Sequence[int]]) -> Context:
        """Encode a list.

        Args:
            phrases: the word pieces of each, none of them blank.

        Raises:
            EdgeSpeechError: see `check_phrases`.
        """
        check_phrases(phrases, self.vocabulary)
        device, width = self.audio.no_bias.device, self.encoder.embedding.embedding_dim
        if phrases:
            lengths = torch.tensor([len(pieces) for pieces in phrases], device=device)
            rows = [torch.tensor(list(pieces), device=device) for pieces in phrases]
            encoded = self.encoder(nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths)
        else:
            encoded = torch.zeros(0, width, device=device)
        return Context(
            self.audio.remember(encoded), None if self.label is None else self.label.remember(encoded)
        )


def check_phrases(phrases: Sequence[Sequence[int]], vocabulary: int, where: str = "context") -> None:
    """Refuse a list that attention cannot take.

    Raises:
        EdgeSpeechError: above `MAX_PHRASES`; a phrase without word pieces or above `MAX_PIECES`; a label that is blank
            or outside of the vocabulary. The message has the phrase's number, from 1.
    """
    if len(phrases) > MAX_PHRASES:
        raise bad(where, "phrases", len(phrases), f"at most {MAX_PHRASES} (shorten the list first)")
    for number, pieces in enumerate(phrases, 1):
        if not 1 <= len(pieces) <= MAX_PIECES:
            raise bad(where, f"word pieces of phrase {number}", len(pieces), f"1 to {MAX_PIECES}")
        for label in pieces:
            if not 1 <= label < vocabulary:
                raise bad(where, f"label in phrase {number}", label, f"1 to {vocabulary - 1}")

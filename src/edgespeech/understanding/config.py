"""Shape and training of an understanding network, as a configuration file has them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgespeech.core.config import Strict

Positive = Annotated[int, Field(gt=0)]


class NetworkConfig(Strict):
    """Shape of the network.

    Attributes:
        embedding: how a word becomes a vector. `dense`: a row of a table. `codes`: the sum of one codeword of each
            codebook, chosen by the word's codes (R. Shu and H. Nakayama, "Compressing word embeddings via deep
            compositional code learning", ICLR 2018), which are learned with the loss of the task (arXiv 2012.00124).
            `hashed`: the sum of the rows that several hashes of the word name, without a vocabulary (the hashing trick:
            K. Weinberger et al., ICML 2009; several hashes: D. Svenstrup et al., "Hash embeddings", NIPS 2017).
        width: values of a word's vector.
        hidden: cells of the LSTM in each direction.
        least: occurrences in the training material that a word of the vocabulary has.
        words: size of the vocabulary: the most frequent words; None for all.
        codebooks: of `codes`.
        codewords: of each codebook, a power of 2, 4 to 256.
        buckets: rows of the table of `hashed`.
        hashes: of a word, of `hashed`.
    """

    embedding: Literal["dense", "codes", "hashed"]
    width: Positive
    hidden: Positive
    least: Positive = 1
    words: Positive | None = None
    codebooks: Positive = 8
    codewords: Literal[4, 8, 16, 32, 64, 128, 256] = 16
    buckets: Positive | None = None
    hashes: Positive = 2

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.embedding == "hashed") != (self.buckets is not None):
            raise ValueError("buckets with embedding: hashed, and only with it")
        return self

    @property
    def code_bits(self) -> int:
        """Bits of one code."""
        return self.codewords.bit_length() - 1


class TrainingConfig(Strict):
    """How it is trained.

    Attributes:
        epochs: passes over all requests; 0 leaves a network as it starts.
        batch: requests of one scheme and one length that make a step, at most.
        rate: the highest learning rate; it falls to 0 as half a cosine.
        dropout: of values of word vectors and outputs.
        forget: probability that a word is taken for an unknown one.
        slots: weight of the loss of slots beside that of intents.
        learn_table: whether the table of word vectors, or of the scores of their codes, is trained.
    """

    epochs: Annotated[int, Field(ge=0)]
    batch: Positive = 64
    rate: Annotated[float, Field(gt=0)] = 0.003
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    forget: Annotated[float, Field(ge=0, lt=1)] = 0.05
    slots: Annotated[float, Field(ge=0)] = 1.0
    learn_table: bool = True

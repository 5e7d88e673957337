"""What a compressed network starts with: the weights of a reference network, and its word vectors made smaller.

Each way is the usual one after training ("post hoc"): additive codes by k-means of residuals (Y. Chen, T. Guan and
C. Wang, "Approximate nearest neighbor search by residual vector quantization", Sensors 10, 2010), fewer dimensions by
the singular value decomposition, fewer words by leaving the others out, and shared rows as the mean of their words.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.understanding.network import Network
from edgespeech.understanding.training import Start, Trained
from edgespeech.understanding.vocabulary import UNKNOWN, Vocabulary, bucket_numbers

Floats = NDArray[np.float32]
_ROUNDS = 12
_SHARPNESS = 4.0
"""How much the scores of codes favour the nearest codewords at the start, in units of the mean squared distance."""


def start_from(reference: Trained, texts_counts: dict[str, int], seed: int) -> Start:
    """The start of a network of the same layers and any embedding.

    Args:
        reference: a dense network.
        texts_counts: occurrences of each word of the training material, for words that share a row.
        seed: of k-means.

    Raises:
        EdgeSpeechError: the reference is not dense, or has other layers.
    """
    if reference.config.embedding != "dense":
        raise bad("understanding", "start: embedding", reference.config.embedding, "dense")

    def start(network: Network, vocabulary: Vocabulary) -> None:
        config = network.embedding.config
        if config.hidden != reference.config.hidden:
            raise bad("understanding", "start: hidden", config.hidden, str(reference.config.hidden))
        state = {
            name: values.clone()
            for name, values in reference.network.state_dict().items()
            if not name.startswith("embedding.")
        }
        vectors = _vectors(reference, vocabulary)
        if config.width != reference.config.width:
            vectors, back = narrowed(vectors, config.width)
            for name in ("forward", "backward"):
                state[f"{name}_lstm.weight_ih_l0"] @= torch.from_numpy(back)
        with torch.no_grad():
            network.load_state_dict(state, strict=False)
            table = network.embedding.table.weight
            if config.embedding == "codes":
                codewords, distances = residual_codes(vectors, config.codebooks, config.codewords, seed)
                network.embedding.codewords.copy_(torch.from_numpy(codewords))
                scores = -_SHARPNESS * distances / distances.mean()
                table.copy_(torch.from_numpy(scores.reshape(len(vectors), -1)))
            elif config.embedding == "hashed":
                table.copy_(torch.from_numpy(_shared(reference, network, texts_counts)))
            else:
                table.copy_(torch.from_numpy(vectors))

    return start


def _vectors(reference: Trained, vocabulary: Vocabulary) -> Floats:
    """The reference's vectors of a smaller vocabulary, the unknown word first."""
    known = reference.vocabulary.prints
    rows = np.searchsorted(known, vocabulary.prints)
    if len(known) < len(vocabulary) or (known[rows.clip(max=len(known) - 1)] != vocabulary.prints).any():
        raise bad("understanding", "start: words", len(vocabulary), "words that the reference has")
    table = reference.network.embedding.table.weight.detach().numpy()
    return np.concatenate((table[[UNKNOWN]], table[rows + 1]))


def narrowed(vectors: Floats, width: int) -> tuple[Floats, Floats]:
    """Vectors of fewer values, `(V, width)`, and what turns them back, `(D, width)`, with the least squared error."""
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    back = np.ascontiguousarray(axes[:width].T)
    return vectors @ back, back


def residual_codes(vectors: Floats, codebooks: int, codewords: int, seed: int) -> tuple[Floats, Floats]:
    """Additive codes: each codebook quantises by k-means what those before it have left.

    Args:
        vectors: with shape `(V, D)`.
        codebooks: how many.
        codewords: of each.
        seed: of the first codewords.

    Returns:
        Codewords, with shape `(codebooks * codewords, D)`, and squared distances of what is left of each word to the
        codewords of each codebook, `(V, codebooks, codewords)`: the nearest ones are the word's codes.
    """
    rng = np.random.default_rng(seed)
    left = vectors.copy()
    books, distances = [], []
    for _ in range(codebooks):
        book = left[rng.choice(len(left), codewords, replace=len(left) < codewords)].copy()
        for _ in range(_ROUNDS):
            nearest = _squares(left, book).argmin(axis=1)
            sums = np.zeros_like(book)
            np.add.at(sums, nearest, left)
            counts = np.bincount(nearest, minlength=codewords)[:, None]
            book = np.where(counts > 0, sums / np.maximum(counts, 1), book).astype(np.float32)
        away = _squares(left, book)
        left = left - book[away.argmin(axis=1)]
        books.append(book)
        distances.append(away)
    return np.concatenate(books), np.stack(distances, axis=1)


def _squares(vectors: Floats, book: Floats) -> Floats:
    found: Floats = (vectors**2).sum(axis=1)[:, None] - 2 * vectors @ book.T + (book**2).sum(axis=1)
    return found.clip(min=0)


def _shared(reference: Trained, network: Network, counts: dict[str, int]) -> Floats:
    """Rows of a hashed table: the mean vector of the words that share it, by how often they occur, over the hashes."""
    config = network.embedding.config
    assert config.buckets is not None
    words = sorted(counts)
    table = reference.network.embedding.table.weight.detach().numpy()
    vectors = table[reference.vocabulary.numbers(words)]
    weights = np.array([counts[word] for word in words], np.float32)
    rows = bucket_numbers(words, config.hashes, config.buckets)
    sums = np.zeros((config.buckets, vectors.shape[1]), np.float32)
    total = np.zeros((config.buckets, 1), np.float32)
    for which in range(config.hashes):
        np.add.at(sums, rows[:, which], vectors * weights[:, None])
        np.add.at(total, rows[:, which], weights[:, None])
    return (sums / np.maximum(total, 1) / config.hashes).astype(np.float32)

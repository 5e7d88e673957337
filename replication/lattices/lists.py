"""Baselines of the second pass: n-best lists, at equal bytes or of fixed length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgespeech.lattice.codec import Precision, Vocabulary, encode, rounded
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import Scales, best_path, n_best, prune
from edgespeech.secondpass.compose import composed, tree
from edgespeech.secondpass.scoring import InternalScorer, WordScorer
from edgespeech.secondpass.service import BEAM, HISTORY

LONGEST = 200
"""Maximum number of paths in a list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A way of rescoring.

    Attributes:
        name: as in tables.
        paths: to send: the whole lattice, as many of its best paths as take no more bytes, or a fixed number.
        internal: whether the device's internal language model is subtracted.
    """

    name: str
    paths: int | Literal["lattice", "equal bytes"] = "lattice"
    internal: bool = False


ARMS = (
    Arm(name="lattice"),
    Arm(name="lattice, internal language model taken away", internal=True),
    Arm(name="n-best of the lattice's bytes", paths="equal bytes"),
    Arm(name="4-best", paths=4),
    Arm(name="16-best", paths=16),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatticeCodec:
    """The encoding of lattices.

    Attributes:
        width: pruning beam, in nats.
        vocabulary: of messages.
        precision: of their scores.
    """

    width: float
    vocabulary: Vocabulary
    precision: Precision

    def size(self, lattice: Lattice) -> int:
        """Bytes of a lattice's message."""
        return len(encode(lattice, self.vocabulary, self.precision))


def sent(lattice: Lattice, arm: Arm, codec: LatticeCodec) -> tuple[Lattice, int]:
    """The received part of a lattice, and the bytes of its message.

    Args:
        lattice: from the search. Lists are of its paths, not only of those in the pruned one.
        arm: the part to send.
        codec: the encoding.
    """
    if arm.paths == "lattice":
        told = prune(lattice, codec.width)
    elif arm.paths == "equal bytes":
        told = same_bytes(lattice, codec.size(prune(lattice, codec.width)), codec)
    else:
        told = listed(lattice, arm.paths)
    return rounded(told, codec.precision), codec.size(told)


def listed(lattice: Lattice, count: int) -> Lattice:
    """A lattice's n-best list as a prefix tree."""
    return tree(lattice, n_best(lattice, count))


def same_bytes(lattice: Lattice, budget: int, codec: LatticeCodec, longest: int = LONGEST) -> Lattice:
    """The longest n-best list whose message fits a budget; at least the best path.

    Args:
        lattice: whose paths are listed.
        budget: bytes.
        codec: the encoding; its width is not used.
        longest: maximum number of paths.
    """
    best = n_best(lattice, longest)
    low, high = 1, len(best)
    while low < high:
        middle = (low + high + 1) // 2
        if codec.size(tree(lattice, best[:middle])) <= budget:
            low = middle
        else:
            high = middle - 1
    return tree(lattice, best[:low])


def expanded(lattice: Lattice, scorer: WordScorer, internal: InternalScorer, scales: Scales) -> Lattice:
    """The lattice with the scores of both language models, as on the server."""
    return composed(lattice, scorer, scales, internal=internal, history=HISTORY, beam=BEAM)


def rescored(lattice: Lattice, scorer: WordScorer, internal: InternalScorer, scales: Scales) -> str:
    """The likeliest words of the received lattice."""
    return best_path(expanded(lattice, scorer, internal, scales), scales).text

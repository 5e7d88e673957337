"""What the second pass is compared with: lists of the best paths, at equal bytes or of fixed length."""

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
"""Paths of a list at the most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A way of rescoring.

    Attributes:
        name: as in tables.
        paths: what is sent: the whole lattice, so many of its best paths as take no more bytes, or so many.
        internal: whether the device's internal language model is taken away.
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
    """How lattices are sent.

    Attributes:
        width: how much less than the best a path may be worth, in nats.
        vocabulary: that messages are written with.
        precision: of their scores.
    """

    width: float
    vocabulary: Vocabulary
    precision: Precision

    def size(self, lattice: Lattice) -> int:
        """Bytes of a lattice's message."""
        return len(encode(lattice, self.vocabulary, self.precision))


def sent(lattice: Lattice, arm: Arm, codec: LatticeCodec) -> tuple[Lattice, int]:
    """What of a lattice arrives at the server, and the bytes of its message.

    Args:
        lattice: as the search made it. Lists are of its paths, not of those alone that are in the pruned one.
        arm: how much of it is sent.
        codec: how.
    """
    if arm.paths == "lattice":
        told = prune(lattice, codec.width)
    elif arm.paths == "equal bytes":
        told = same_bytes(lattice, codec.size(prune(lattice, codec.width)), codec)
    else:
        told = listed(lattice, arm.paths)
    return rounded(told, codec.precision), codec.size(told)


def listed(lattice: Lattice, count: int) -> Lattice:
    """A lattice's n-best list, its common beginnings told once."""
    return tree(lattice, n_best(lattice, count))


def same_bytes(lattice: Lattice, budget: int, codec: LatticeCodec, longest: int = LONGEST) -> Lattice:
    """The longest n-best list whose message takes no more bytes; the best path alone if even that does.

    Args:
        lattice: whose paths are listed.
        budget: bytes.
        codec: how the list is sent; its width is not used.
        longest: most paths of the list.
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
    """The lattice as a server scores it, with both language models' scores."""
    return composed(lattice, scorer, scales, internal=internal, history=HISTORY, beam=BEAM)


def rescored(lattice: Lattice, scorer: WordScorer, internal: InternalScorer, scales: Scales) -> str:
    """The likeliest words of what arrived."""
    return best_path(expanded(lattice, scorer, internal, scales), scales).text

"""Deltas within a budget of bytes: which changes are sent, by what each takes off the squared error of the weights.

* sparse: codes that change, those first that take off most;
* low rank: components of the singular values of each matrix's change, those first that take off most a byte;
* hashed: the mean change of each bucket (least squares), with as many buckets a weight in every matrix.

A delta that was trained under one of these constraints, and is within the budget, is found again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.packed.codes import Codes, encode
from edgespeech.packed.edge_file import Tensor
from edgespeech.updates.deltas import (
    MAX_RANK,
    Delta,
    Hashed,
    LowRank,
    Sparse,
    buckets,
)
from edgespeech.updates.exact import symbols_of, values_of
from edgespeech.updates.update_file import Kind

Pairs = Mapping[str, tuple[Tensor, NDArray[np.float32]]]
"""By tensor the old one and the wanted weights, both with shape `(rows, cols)`."""
Wide = NDArray[np.float64]
_FLOAT_STEPS = 2.0
"""Steps of a float's change per root mean square of all changes of its tensor."""
_MOST_STEPS = 255
_HASH_POINTS = 400
_HASH_FINEST = 4.0
"""Hashed deltas have from one bucket a matrix to one for this many weights, in `_HASH_POINTS` geometric steps."""
SEED = 1
"""Of the hash, for every update."""


class Candidates(ABC):
    """Deltas of all matrices, ordered from nothing to as much as there is."""

    most: int
    """The last place in that order; 0 is none."""

    @abstractmethod
    def at(self, place: int) -> dict[str, Delta]:
        """The deltas at a place of the order, without empty ones."""


def candidates_of(kind: Kind, pairs: Pairs) -> Candidates:
    """The candidates of a kind.

    Raises:
        EdgeSpeechError: the kind is `EXACT`, which no budget bounds; or a matrix has a codebook, of which only codes
            can be changed.
    """
    made: dict[Kind, Callable[[Pairs], Candidates]] = {
        Kind.SPARSE: SparseCandidates,
        Kind.LOW_RANK: LowRankCandidates,
        Kind.HASHED: HashedCandidates,
    }
    if kind not in made:
        raise bad("update", "kind", kind.name.lower(), "sparse, low_rank or hashed, with a budget")
    if kind is not Kind.SPARSE:
        for name, (old, _) in pairs.items():
            if isinstance(old, Codes) and old.codebook is not None:
                raise bad(f"update: tensor {name!r}", "kind", kind.name.lower(), "sparse, for learned levels")
    return made[kind](pairs)


def within(
    candidates: Candidates, size: Callable[[Mapping[str, Delta]], int], budget: int, where: str
) -> dict[str, Delta]:
    """The last candidates whose update has at most `budget` bytes.

    Args:
        candidates: of one kind.
        size: bytes of the update, but for header and checksum.
        budget: bytes of the whole update.
        where: what errors begin with.

    Raises:
        EdgeSpeechError: what is not approximated takes more than that alone.
    """
    room = budget - _FRAME
    if (least := size({})) > room:
        raise bad(
            where, "budget", budget, f"at least {least + _FRAME} bytes: metadata, vectors, language models"
        )
    low, high = 0, candidates.most
    best = candidates.at(high)
    if (most := size(best)) <= room:
        return best
    best = {}
    for turn in range(_TURNS):
        if high - low <= 1 or room - least <= room * _NEAR:
            break
        # Bytes grow about in proportion; every other turn halves, which ends where they do not.
        part = 0.5 if turn % 2 else (room - least) / (most - least)
        place = min(max(low + 1, low + int(part * (high - low))), high - 1)
        some = candidates.at(place)
        if (found := size(some)) <= room:
            low, least, best = place, found, some
        else:
            high, most = place, found
    return best


_FRAME = 112
"""Bytes of header and checksum, rounded up."""
_TURNS = 24
_NEAR = 0.005
"""The search ends within this share of the budget."""


def vector_delta(old: Tensor, wanted: NDArray[np.float32]) -> Sparse | None:
    """The change of a vector, in steps of half its root mean square; None if there is none."""
    change = wanted.astype(np.float64) - values_of(old)
    steps, unit = _in_steps(change)
    return Sparse(steps, unit) if steps.any() else None


class SparseCandidates(Candidates):
    """Codes that change, ordered by what each takes off the squared error."""

    def __init__(self, pairs: Pairs) -> None:
        self._steps: dict[str, NDArray[np.int64]] = {}
        self._units: dict[str, float] = {}
        self._gains: dict[str, Wide] = {}
        for name, (old, wanted) in pairs.items():
            steps, unit, gain = _code_steps(old, wanted)
            self._steps[name], self._units[name], self._gains[name] = steps, unit, gain
        gains = np.concatenate([gain[self._steps[name] != 0] for name, gain in self._gains.items()])
        self._order = np.sort(gains)[::-1]
        self.most = int((self._order > 0).sum())

    def at(self, place: int) -> dict[str, Delta]:
        """See `Candidates.at`."""
        if not place:
            return {}
        least = self._order[place - 1]
        found: dict[str, Delta] = {}
        for name, steps in self._steps.items():
            some = np.where(self._gains[name] >= least, steps, 0)
            if some.any():
                found[name] = Sparse(some, self._units[name])
        return found


class LowRankCandidates(Candidates):
    """Components of each matrix's change, ordered by what each takes off the squared error per byte."""

    def __init__(self, pairs: Pairs) -> None:
        self._parts: dict[str, tuple[Wide, Wide, Wide]] = {}
        ranked: list[tuple[float, str, int]] = []
        for name, (old, wanted) in pairs.items():
            change = _change(old, wanted)
            if not change.any():
                continue
            left, sizes, right = np.linalg.svd(change, full_matrices=False)
            self._parts[name] = left, sizes, right
            cost = sum(change.shape)
            ranked += [(float(s) ** 2 / cost, name, k) for k, s in enumerate(sizes[:MAX_RANK]) if s > 0]
        self._ranked = sorted(ranked, reverse=True)
        self.most = len(self._ranked)

    def at(self, place: int) -> dict[str, Delta]:
        """See `Candidates.at`."""
        ranks: dict[str, int] = {}
        for _, name, _ in self._ranked[:place]:
            ranks[name] = ranks.get(name, 0) + 1
        return {name: low_rank(*self._parts[name], rank) for name, rank in ranks.items()}


class HashedCandidates(Candidates):
    """Means of each matrix's change over buckets, with more and more buckets."""

    def __init__(self, pairs: Pairs) -> None:
        self._changes = {name: _change(old, wanted) for name, (old, wanted) in pairs.items()}
        self._stored = {
            name: old.mask
            if isinstance(old, Codes) and old.mask is not None
            else np.ones(wanted.shape, np.bool_)
            for name, (old, wanted) in pairs.items()
        }
        self.most = _HASH_POINTS

    def at(self, place: int) -> dict[str, Delta]:
        """See `Candidates.at`."""
        if not place:
            return {}
        found: dict[str, Delta] = {}
        for name, change in self._changes.items():
            finest = change.size / _HASH_FINEST
            count = max(1, round(finest ** (place / _HASH_POINTS)))
            delta = hashed(change, self._stored[name], count)
            if delta.values.any():
                found[name] = delta
        return found


def low_rank(left: Wide, sizes: Wide, right: Wide, rank: int) -> LowRank:
    """The first components of a decomposition in whole numbers; see `LowRank`."""
    u, v = left[:, :rank], right[:rank]
    tops = np.abs(u).max(axis=0), np.abs(v).max(axis=1)
    wanted = sizes[:rank] * tops[0] * tops[1] / 127**2
    unit = np.float32(wanted.max() / (1 << 12))
    shifts = np.clip(np.ceil(np.log2(wanted / np.float64(unit))), 0, 15).astype(np.int64)
    part = wanted / (np.float64(unit) * 2.0**shifts)  # at most 1: the rest is in the left factor
    return LowRank(
        np.rint(127 * u / tops[0] * part).astype(np.int64),
        np.rint(127 * v / tops[1][:, None]).astype(np.int64),
        shifts,
        float(unit),
    )


def hashed(change: Wide, stored: NDArray[np.bool_], count: int) -> Hashed:
    """The least-squares hashed delta with this many buckets, of the weights that are stored."""
    bucket, sign = buckets(change.shape[0], change.shape[1], count, SEED)
    chosen = bucket[stored]
    sums = np.bincount(chosen, (sign * change)[stored], count)
    means = sums / np.maximum(np.bincount(chosen, minlength=count), 1)
    unit = np.float32(np.abs(means).max() / 127)
    if not unit > 0:
        return Hashed(np.zeros(count, np.int64), 1.0, SEED)
    return Hashed(np.rint(means / np.float64(unit)).clip(-127, 127).astype(np.int64), float(unit), SEED)


def _change(old: Tensor, wanted: NDArray[np.float32]) -> Wide:
    """Wanted less old weights; 0 where the old model stores none."""
    change = wanted.astype(np.float64) - values_of(old)
    return change if not isinstance(old, Codes) or old.mask is None else np.where(old.mask, change, 0.0)


def _code_steps(old: Tensor, wanted: NDArray[np.float32]) -> tuple[NDArray[np.int64], float, Wide]:
    """Steps from the old to the nearest codes, their unit, and the squared error that each takes off."""
    before = values_of(old).astype(np.float64)
    error = wanted.astype(np.float64) - before
    if not isinstance(old, Codes):
        steps, unit = _in_steps(error)
        return steps, unit, error**2 - (error - steps * unit) ** 2
    stored = None if old.mask is None else (wanted != 0 if old.codebook is None else old.mask)
    new = encode(
        wanted, scales=old.scales, bits=old.bits, group=old.group, mask=stored, codebook=old.codebook
    )
    after = values_of(new).astype(np.float64)
    uniform = old.codebook is None
    steps = new.int8().astype(np.int64) - old.int8() if uniform else symbols_of(new) - symbols_of(old)
    return steps, 1.0, error**2 - (wanted - after) ** 2


def _in_steps(change: Wide) -> tuple[NDArray[np.int64], float]:
    """A change of floats in whole steps, and the step."""
    unit = np.float32(np.sqrt((change**2).mean()) / _FLOAT_STEPS)
    if not unit > 0:
        return np.zeros(change.shape, np.int64), 1.0
    return np.rint(change / np.float64(unit)).clip(-_MOST_STEPS, _MOST_STEPS).astype(np.int64), float(unit)

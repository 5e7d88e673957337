"""Labels of the hypotheses of a search: those that begin alike share their beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload


class History(Sequence[int]):
    """Labels so far, and the frame in which each was emitted. It never changes.

    To go on by a label, to compare and to hash take a time that does not grow with the length, for the histories of one
    search. Equal are those of the same labels, whatever their frames.

    Args:
        before: the labels before the last one; None: there are none at all.
        label: the last one.
        frame: in which it was emitted.
    """

    __slots__ = ("_hash", "_length", "before", "frame", "label")

    def __init__(self, before: History | None = None, label: int = -1, frame: int = -1) -> None:
        self.before = before
        self.label = label
        self.frame = frame
        self._length: int = 0 if before is None else before._length + 1
        self._hash: int = 0 if before is None else hash((before._hash, label))

    @classmethod
    def of(cls, labels: Sequence[int]) -> History:
        """Any labels, without frames; a history as it is."""
        if isinstance(labels, History):
            return labels
        found = cls()
        for label in labels:
            found = cls(found, label)
        return found

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return (label for label, _ in self.since(0))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        if self._hash != other._hash or self._length != other._length:
            return False
        one: History | None = self
        another: History | None = other
        while one is not another:  # what is shared from here on is equal
            if one is None or another is None or one.label != another.label:
                return False
            one, another = one.before, another.before
        return True

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[int, ...]: ...
    def __getitem__(self, at: int | slice) -> int | tuple[int, ...]:
        """A label, or some as a tuple; the last ones are found soonest."""
        if isinstance(at, slice):
            start, stop, step = at.indices(self._length)
            if step != 1:
                return tuple(self)[at]
            return tuple(label for label, _ in self.since(start)[: max(stop - start, 0)])
        at = at + self._length if at < 0 else at
        if not 0 <= at < self._length:
            raise IndexError(at)
        return self.since(at)[0][0]

    def since(self, start: int) -> list[tuple[int, int]]:
        """The labels from number `start` on, each with its frame."""
        found: list[tuple[int, int]] = []
        one = self
        for _ in range(self._length - start):
            found.append((one.label, one.frame))
            assert one.before is not None
            one = one.before
        found.reverse()
        return found

    def shared(self, other: History) -> int:
        """How many first labels, with their frames, are those of another history of the same search."""
        one, another = self, other
        while one is not another:
            if one._length >= another._length:
                assert one.before is not None
                one = one.before
            else:
                assert another.before is not None
                another = another.before
        return one._length

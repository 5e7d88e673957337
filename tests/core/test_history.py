"""Histories against tuples."""

from __future__ import annotations

from random import Random

import pytest

from edgespeech.core.history import History

SLICES = (
    slice(-3, None),
    slice(0, 2),
    slice(None),
    slice(1, -1),
    slice(None, None, 2),
    slice(5, 2),
    slice(-1, 0, -1),
)


def grown(seed: int) -> list[tuple[History, tuple[int, ...], tuple[int, ...]]]:
    """A tree of histories, and the labels and frames of each."""
    random = Random(seed)
    found: list[tuple[History, tuple[int, ...], tuple[int, ...]]] = [(History(), (), ())]
    for _ in range(200):
        before, labels, frames = random.choice(found[-8:])
        label, frame = random.randrange(3), random.randrange(4)
        found.append((History(before, label, frame), (*labels, label), (*frames, frame)))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_they_are_the_tuples(seed: int) -> None:
    for history, labels, frames in grown(seed):
        assert list(history) == list(labels)
        assert len(history) == len(labels)
        assert history.since(0) == list(zip(labels, frames, strict=True))
        assert history == History.of(labels)
        assert hash(history) == hash(History.of(labels))
        assert History.of(history) is history
        for part in SLICES:
            assert history[part] == labels[part]
        for at in range(-len(labels), len(labels)):
            assert history[at] == labels[at]
        with pytest.raises(IndexError):
            history[len(labels)]


@pytest.mark.parametrize("seed", range(3))
def test_those_of_the_same_labels_are_equal_and_share_what_has_the_same_frames_too(seed: int) -> None:
    found = grown(seed)
    for one, labels, frames in found[::7]:
        for other, its_labels, its_frames in found[::5]:
            assert (one == other) == (labels == its_labels)
            ours, theirs = zip(labels, frames, strict=True), zip(its_labels, its_frames, strict=True)
            same = [a == b for a, b in zip(ours, theirs, strict=False)]
            shared = one.shared(other)
            assert all(same[:shared])
            assert one.since(shared) == list(zip(labels, frames, strict=True))[shared:]
    assert found[3][0] != (1, 2)


def test_a_long_one_is_let_go_of() -> None:
    history = History()
    for label in range(200_000):
        history = History(history, label)
    assert history[-2:] == (199_998, 199_999)
    del history

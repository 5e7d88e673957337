"""Each matrix alone, and what fits a number of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespeech.arms.sensitivity import Option, Tried, fit, layout_of, matrices_of, thinned, try_each
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import weights_of
from helpers_packed import tiny

ways = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=4)


def test_each_matrix_is_tried_alone(tmp_path: Path) -> None:
    trained = tiny()
    widths: list[list[int]] = []

    def loss(file: Path) -> float:
        tensors = read_edge(file).tensors
        widths.append([getattr(tensors[name], "bits", 32) for name in matrices_of(trained.model)])
        return float(len(widths))

    tried = list(try_each(trained, [Option(4), Option(8, 0.5)], loss, tmp_path))
    names = matrices_of(trained.model)
    assert [one.matrix for one in tried] == [name for name in names for _ in range(2)]
    assert [one.loss for one in tried] == list(range(1, 2 * len(names) + 1))
    for row, one in zip(widths, tried, strict=True):
        assert [width for width in row if width != 32] == [one.option.bits]
    joiner = {one.option: one.n_bytes for one in tried if one.matrix == "joiner.weight"}
    assert joiner[Option(4)] == 40 * 66 // 2 + 4 * 40


def test_thinning_takes_the_smallest_and_leaves_the_model() -> None:
    trained = tiny()
    before = weights_of(trained.model)["joiner.weight"].copy()
    found = weights_of(thinned(trained, {"joiner.weight": 0.5}).model)["joiner.weight"]
    assert (weights_of(trained.model)["joiner.weight"] == before).all()
    assert (found == 0).sum() == before.size // 2
    assert abs(before[found == 0]).max() <= abs(before[found != 0]).min()
    for shares, message in (({"joiner.weight": 1.0}, "share"), ({"joiner.bias": 0.5}, "matrix")):
        with pytest.raises(EdgeSpeechError, match=message):
            thinned(trained, shares)


def test_layouts_store_zeros_sparsely_but_for_the_embedding() -> None:
    layout = layout_of({"joiner.weight": Option(4, 0.5), "predictor.embedding.weight": Option(4, 0.5)})
    assert [one.store for one in layout.others.values()] == ["sparse", "dense"]
    assert layout.matrices.bits == 32


@settings(deadline=None)
@given(st.lists(ways, min_size=1, max_size=4), st.floats(0, 1))
def test_what_is_chosen_fits(matrices: list[list[tuple[int, float]]], place: float) -> None:
    tried = [
        Tried(f"m{number}", Option(index), size, loss)
        for number, own in enumerate(matrices)
        for index, (size, loss) in enumerate(own)
    ]
    least = sum(min(size for size, _ in own) for own in matrices)
    most = sum(max(size for size, _ in own) for own in matrices)
    budget = least + round(place * (most - least))
    chosen = fit(tried, budget)
    sizes = {(one.matrix, one.option): one.n_bytes for one in tried}
    assert sum(sizes[item] for item in chosen.items()) <= budget
    assert len(chosen) == len(matrices)
    with pytest.raises(EdgeSpeechError, match="at least"):
        fit(tried, least - 1)


def test_the_cheapest_loss_goes_first() -> None:
    tried = [
        Tried("a", Option(8), 100, 1.0), Tried("a", Option(4), 50, 1.1),
        Tried("b", Option(8), 100, 1.0), Tried("b", Option(4), 50, 1.5),
    ]  # fmt: skip
    assert fit(tried, 200) == {"a": Option(8), "b": Option(8)}
    assert fit(tried, 150) == {"a": Option(4), "b": Option(8)}
    assert fit(tried, 100) == {"a": Option(4), "b": Option(4)}

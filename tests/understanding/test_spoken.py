"""Understanding what was recognised: values of slots, and the expected intent over a lattice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from edgespeech.metrics.acceptance import accepted
from edgespeech.understanding.packing import pack_network
from edgespeech.understanding.runtime import Understander, Understanding
from edgespeech.understanding.spoken import as_parse, described, expected_intents, values_of
from understanding.helpers_understanding import DENSE, learned


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Understander]:
    """A network that knows to paint and to clean."""
    folder = tmp_path_factory.mktemp("native")
    pack_network(learned(folder, DENSE), folder / "small.edge")
    with Understander(folder / "small.edge") as network:
        yield network


def lattice(scores: dict[str, float]) -> Lattice:
    """One path for each text, with its logarithmic probability."""
    arcs: list[Arc] = []
    ends: list[Final] = []
    nodes = 1
    for text, score in scores.items():
        at = 0
        for word in text.split():
            arcs.append(Arc(at, nodes, word, 0.0))
            at, nodes = nodes, nodes + 1
        ends.append(Final(at, score))
    return arranged(arcs, ends)


def test_the_expected_intent_weighs_paths_by_their_probability(native: Understander) -> None:
    intents = native.scheme("orders").intents
    found, share = expected_intents(
        native, lattice({"clean the hall": np.log(0.4), "paint the hall red": np.log(0.6)}), "orders", 10
    )

    assert share == pytest.approx(0.6)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[intents.index("clean")] == pytest.approx(0.4, abs=0.05)
    alone, _ = expected_intents(native, lattice({"clean the hall": -3.0}), "orders", 1)
    assert alone[intents.index("clean")] > 0.9


def test_values_are_the_most_frequent_and_unknown_words_stay() -> None:
    values = values_of([("size", "big", "large"), ("size", "big", "large"), ("size", "big", "huge")])
    found = Understanding(
        "order", 0.9, {"size": "big", "drink": "tea"}, ("big", "tea"), ("B-size", "B-drink")
    )
    parse = as_parse(found, values)

    assert parse.slots == {"size": "large", "drink": "tea"}
    assert accepted(parse, "order", {"size": "large"})
    assert not accepted(parse, "order", {"size": "small"})
    assert described(found) == {
        "intent": "order",
        "probability": 0.9,
        "slots": {"size": "big", "drink": "tea"},
        "words": "big tea",
    }

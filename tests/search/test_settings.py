"""Search settings: what differs from those that ship is named, and only that."""

from __future__ import annotations

import pytest

from edgespeech.search.settings import GREEDY, SHIPPED, SearchSettings


@pytest.mark.parametrize(
    ("settings", "differences", "words"),
    [
        (SearchSettings(), {}, "as it ships"),
        (GREEDY, {"beam": 1, "language_model": False}, "greedy search, no language model"),
        (
            SearchSettings(beam=1),
            {"beam": 1, "language_model": False},
            "greedy search, no language model",
        ),
        (
            SearchSettings(beam=4, language_model=False),
            {"beam": 4, "language_model": False},
            "beam 4 (ships: 16), no language model",
        ),
        (
            SearchSettings(final_s=None, chunk_s=None),
            {"final_s": None, "chunk_s": None},
            "no end-point, whole utterances at once",
        ),
        (
            SearchSettings(final_s=1.0, chunk_s=0.24),
            {"final_s": 1.0, "chunk_s": 0.24},
            "end-point after 1 s (ships: 0.8 s), chunks of 0.24 s (ships: 0.12 s)",
        ),
    ],
)
def test_differences_are_named(settings: SearchSettings, differences: dict[str, object], words: str) -> None:
    assert settings.differences() == differences
    assert settings.describe() == words


def test_what_ships_may_be_another() -> None:
    hybrid = SearchSettings(beam=8)
    assert hybrid.describe(hybrid) == "as it ships"
    assert SearchSettings(beam=4).describe(hybrid) == "beam 4 (ships: 8)"
    assert GREEDY.differences(GREEDY) == {}


def test_the_recognisers_take_the_settings_that_ship() -> None:
    import inspect

    from edgespeech.systems.edge_fp32 import EdgeFp32

    parameters = inspect.signature(EdgeFp32).parameters
    assert parameters["beam"].default == SHIPPED.beam
    assert parameters["final_s"].default == SHIPPED.final_s

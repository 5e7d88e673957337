import json
from pathlib import Path

import pytest

from edgespeech.data.files import mirror_root
from edgespeech.data.grammar import Parse, load_grammar
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.metrics.acceptance import Acceptance, accepted, command_acceptance

LABEL = {"coffeeDrink": "latte", "size": "large"}


@pytest.mark.parametrize(
    ("parse", "wanted"),
    [
        (Parse("orderDrink", LABEL), True),
        (Parse("orderDrink", {**LABEL, "roast": "dark roast"}), True),
        (Parse("orderTea", LABEL), False),
        (Parse("orderDrink", {"coffeeDrink": "latte"}), False),
        (Parse("orderDrink", {**LABEL, "size": "small"}), False),
        (None, False),
    ],
)
def test_every_labelled_slot_must_be_right(parse: Parse | None, wanted: bool) -> None:
    assert accepted(parse, "orderDrink", LABEL) is wanted


def test_a_command_without_slots_is_its_intent() -> None:
    assert accepted(Parse("stop", {}), "stop", {})
    assert not accepted(Parse("go", {}), "stop", {})


def test_rate_over_a_manifest_shows_extra_slots() -> None:
    parses = [Parse("orderDrink", LABEL), None, Parse("orderDrink", {**LABEL, "roast": "dark roast"})]
    result = command_acceptance(parses, [("orderDrink", LABEL)] * 3)
    assert result == Acceptance(n=3, accepted=2, with_extra_slots=1)
    assert result.rate == 2 / 3


@pytest.mark.parametrize("n_labels", [0, 2])
def test_parses_must_match_the_labels(n_labels: int) -> None:
    with pytest.raises(EdgeSpeechError, match="one for each"):
        command_acceptance([None] * 1 if n_labels else [], [("x", {})] * n_labels)


@pytest.mark.mirror
def test_parser_ceiling_on_coffee_dev() -> None:
    """A measurement, not a target: how many true transcripts the grammar understands as labelled."""
    root = mirror_root()
    if root is None or not (path := root / "coffee" / "coffee_dev.jsonl").is_file():
        pytest.skip("no mirror")
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    coffee = load_grammar("coffee")
    result = command_acceptance(
        [coffee.parse(line["text"]) for line in lines], [(line["intent"], line["slots"]) for line in lines]
    )
    assert result.rate > 0.95

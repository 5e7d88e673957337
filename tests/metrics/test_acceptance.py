import pytest

from edgespeech.core.places import mirror_root
from edgespeech.corpora.fetch import manifest_of
from edgespeech.metrics.acceptance import accepted
from edgespeech.text.grammar import Parse, load_grammar

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


@pytest.mark.mirror
@pytest.mark.skipif(mirror_root() is None, reason="no mirror here")
def test_the_parser_understands_every_reference_of_coffee_dev_as_labelled() -> None:
    """The parser is no part of what is measured: with the right words, every command is accepted."""
    coffee = load_grammar("coffee")
    utterances = manifest_of("coffee_dev").utterances
    assert len(utterances) == 300
    for item in utterances:
        assert item.intent is not None
        assert item.slots
        assert accepted(coffee.parse(item.text), item.intent, item.slots), item

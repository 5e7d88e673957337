"""The lists of context biasing, how their errors are counted, and how the bonus is chosen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from replication.context_biasing import costs, tables, tune
from replication.context_biasing.lists import KINDS, Case, Set, names
from replication.context_biasing.lists import set_of as set_of_corpora
from replication.context_biasing.peers import published, slot_parser
from replication.context_biasing.search import (
    count_texts,
    counted,
    difference,
    gain,
    gain_over_seeds,
    increase,
    invented,
    shortened,
)

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD
from edgespeech.model.checkpoint import save_model
from edgespeech.records.records import Record
from edgespeech.steps.step import Resources
from edgespeech.steps.store import Job, SkippedError
from edgespeech.text.grammar import load_grammar
from edgespeech.text.normalise import normalisers
from helpers_packed import tiny
from helpers_replication import describe_few

POOL = ("marta quill", "marda squill", "bobo", "kestrel", "calm harbour", "ibex", "ann")


def case(text: str, *right: str, name: str = "u") -> Case:
    item = Utterance(id=name, audio_filepath="a.wav", duration=2.0, text=text, speaker=name)
    return Case(Spoken(corpus="c", item=item, audio=Path("a.wav")), text, right)


def set_of(*cases: Case) -> Set:
    return Set("c", cases, POOL, 0)


def test_lists_have_what_their_kind_says() -> None:
    one = case("call ann now", "ann")
    given = set_of(one)
    lists = {kind: given.phrases(one, 4, kind) for kind in KINDS}
    assert lists["oracle"] == ("ann",)
    assert len(lists["full"]) == len(lists["absent"]) == 4
    assert "ann" in lists["full"]
    assert "ann" not in lists["absent"]
    assert "ann" not in lists["anti"]
    assert lists["full"] == given.phrases(one, 4)  # drawn once and for all
    assert given.phrases(one, 0) == ()


def test_no_distractor_has_a_word_of_the_reference() -> None:
    one = case("the harbour was calm", "harbour")
    assert not {"calm harbour"} & set(set_of(one).phrases(one, 7, "absent"))


def test_anti_lists_begin_with_what_sounds_alike() -> None:
    one = case("ring martha quell")
    assert set_of(one).phrases(one, 2, "anti") == ("marta quill", "marda squill")


def test_names_are_many_and_different() -> None:
    assert len(names()) == len(set(names())) > 2_000


def test_the_parts_of_the_names_share_none() -> None:
    slots = ("contact", "song", "artist", "place", "device", "room", "skill")
    parts = [
        {value for slot in slots for value in load_grammar(f"names_{part}").values(slot)}
        for part in ("train", "dev", "test")
    ]
    assert all(len(part) > 40 for part in parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_errors_are_those_of_the_list_and_of_the_others() -> None:
    given = set_of(case("call ann now", "ann"), case("ring bobo", "bobo", name="v"))
    texts = {"u": "call an now kestrel", "v": "ring the bobo"}
    asked: list[tuple[str, ...]] = []

    def transcribe(one: Case, phrases: tuple[str, ...]) -> str:
        asked.append(phrases)
        return texts[one.spoken.id]

    found = counted(given, "basic", 6, "full", transcribe, told=True)
    assert [len(phrases) for phrases in asked] == [6, 6]
    assert (found.biased, found.biased_words) == ([2, 0], [1, 1])  # ann, and kestrel that nobody said
    assert (found.unbiased, found.unbiased_words) == ([0, 1], [2, 1])
    assert found.errors == [2, 1]
    assert found.invented == [1, 0]
    counted(given, "basic", 6, "full", transcribe, told=False)
    assert asked[2:] == [(), ()]


def test_a_gain_is_relative() -> None:
    given = set_of(case("ann", "ann"), case("bobo", "bobo", name="v"))
    normalise = normalisers()["basic"]
    before, after = (count_texts(given, normalise, [(), ()], texts) for texts in (["x", "y"], ["ann", "y"]))
    assert gain(before, after, "biased", 0)["measured"] == 0.5
    assert gain(after, before, "biased", 0)["measured"] == -1


def test_a_set_of_names_alone_has_no_other_words() -> None:
    given = set_of(case("ann", "ann"), case("bobo", "bobo", name="v"))
    found = count_texts(given, normalisers()["basic"], [(), ()], ["ann", "y"])
    assert difference(found, found, 0) == {"skipped": "the references have no word outside of the lists"}
    assert found.rates(0).keys() == {"wer", "b_wer", "invented_per_hour"}


def test_a_phrase_counts_as_invented_where_the_reference_has_it_less_often() -> None:
    assert invented("ann calls ann lee", "ann calls", ["ann", "lee", "bo"]) == 2
    assert invented("anna", "", ["ann"]) == 0


def rows_of(errors: dict[float, tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [
        {"boost": boost, "head": 0, "list": kind, "errors": count}
        for boost, counts in errors.items()
        for kind, count in zip(tune.KINDS, counts, strict=True)
    ]


def rule(harm: float, other: float, close: float = 0.0) -> dict[str, float]:
    return {"harm": harm, "harm_other": other, "close": close}


def test_the_bonus_is_the_best_of_those_that_do_no_harm() -> None:
    rows = rows_of({0: (100, 100, 100), 1: (80, 101, 100), 2: (60, 102, 100), 3: (50, 100, 104)})
    assert tune.chosen(rows, rule(0.01, 0.01)) == (1, 0)
    assert tune.chosen(rows, rule(0.02, 0.01)) == (2, 0)
    assert tune.chosen(rows, rule(0.01, 0.05)) == (3, 0)
    assert tune.chosen(rows_of({0: (100, 100, 100), 1: (120, 100, 100)}), rule(0.01, 0.01)) == (0, 0)


def test_of_bonuses_that_are_about_as_good_the_smallest_is_chosen() -> None:
    rows = rows_of({0: (100, 100, 100), 1: (61, 100, 100), 2: (60, 100, 100)})
    assert tune.chosen(rows, rule(0.01, 0.01, 0.02)) == (1, 0)
    assert tune.chosen(rows, rule(0.01, 0.01, 0.01)) == (2, 0)
    with pytest.raises(EdgeSpeechError, match=r"tuning: boosts is .*, expected 0 among them"):
        tune.chosen(rows_of({1: (1, 1, 1)}), rule(0.01, 0.01))


def test_nothing_is_tuned_on_evaluation_speech() -> None:
    config = {"tuning": {"corpora": {"coffee_dev": {"normaliser": "basic", "right": "slots"}}}}
    with pytest.raises(
        EdgeSpeechError, match=r"corpus is .coffee_dev., expected one that is not for evaluation"
    ):
        tune.tuned(config, 0)


def test_an_increase_is_relative_and_needs_errors() -> None:
    given = set_of(case("ann", "ann"), case("bobo", "bobo", name="v"))
    normalise = normalisers()["basic"]
    wrong, half, right = (
        count_texts(given, normalise, [(), ()], texts)
        for texts in (["x", "y"], ["ann", "y"], ["ann", "bobo"])
    )
    assert increase(half, wrong, "errors", 0)["measured"] == 1
    assert increase(right, wrong, "errors", 0) == {"skipped": "no errors without it, 2 with it"}
    twice = gain_over_seeds([wrong, wrong], [half, right], "biased", 0)
    assert twice["measured"] == 0.75
    assert twice["seeds"] == 2
    assert "seeds" in twice["resampled"]
    assert twice["low"] < 0.75 < twice["high"]


def test_several_corpora_are_one_set(few: None) -> None:
    del few
    how = {"corpora": ["few", "nowhere.jsonl"], "normaliser": "basic", "right": "whole"}
    one, missing = set_of_corpora("both", how, seed=0, count=None)
    assert (one.name, len(one.cases)) == ("both", 3)
    assert set(missing) == {"nowhere"}
    with pytest.raises(EdgeSpeechError, match=r"lists of both: utterances that say a phrase is 0, expected"):
        set_of_corpora("both", {**how, "right": "spelled"}, seed=0, count=None)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))


def test_a_short_list_has_what_the_posteriors_say() -> None:
    trained = tiny()
    one = case("turn on")
    one.__dict__["samples"] = np.zeros(SAMPLE_RATE, np.float32)
    listed = ("turn on", "música", "the light", "play", "stop")
    left = shortened(trained, one, listed, 2)
    assert len(left) == 2
    assert set(left) < set(listed) - {"música"}
    assert shortened(trained, one, ("play", "música"), 5) == ("play",)


def order(name: str, **slots: str) -> Utterance:
    return Utterance(
        id=name, audio_filepath="a.wav", duration=2.0, text=name, intent="orderDrink", slots=slots
    )


ORDERS = (order("a", drink="coffee", roast="medium roast"), order("b", drink="iced coffee", size="medium"))


def test_slots_are_found_by_their_longest_words() -> None:
    parse = slot_parser(ORDERS)
    found = parse("so an iced coffee in medium roast")
    assert found is not None
    assert (found.intent, found.slots) == ("orderDrink", {"drink": "iced coffee", "roast": "medium roast"})
    both = parse("a coffee no an iced coffee medium")
    assert both is not None
    assert both.slots == {"size": "medium"}
    nothing = parse("")
    assert nothing is not None
    assert nothing.slots == {}


def test_slots_alone_tell_no_intents_apart() -> None:
    with pytest.raises(EdgeSpeechError, match="expected requests of one intent"):
        slot_parser([*ORDERS, Utterance(id="c", audio_filepath="a.wav", duration=1.0, text="c")])


def record(created: str, **changes: Any) -> Record:
    return cast(
        "Record",
        SimpleNamespace(
            created=created,
            status=changes.get("status", "passed"),
            system=SimpleNamespace(name="null", model_sha256={}),
            corpus=SimpleNamespace(name="coffee_dev", subset=changes.get("subset")),
            condition=SimpleNamespace(clean=True, context=changes.get("context", False)),
        ),
    )


def test_the_newest_record_of_all_requests_is_taken() -> None:
    old, new = record("2026-01-01"), record("2026-02-01")
    others = [
        record("2026-03-01", subset="20"),
        record("2026-03-01", status="failed"),
        record("2026-03-01", context=True),
    ]
    assert published([old, new, *others], "null", "coffee_dev", told=False) is new
    assert published([old, new, *others], "null", "coffee_dev", told=True) is others[2]
    assert published(others, "null", "coffee_dev", told=False) == "no published record"


def test_a_record_of_another_model_is_refused() -> None:
    found = record("2026-02-01")
    found.system.name = "edge-fp32"  # type: ignore[misc]  # a stand-in
    assert published([found], "edge-fp32", "coffee_dev", told=False) == (
        "its newest record, of 2026-02-01, is of another model"
    )


def test_blocks_say_what_a_record_has() -> None:
    for block in (tables.arms_block, tables.kinds_block, tables.peers_block, tables.attention_block):
        assert block(None) == NO_RECORD
    rates = {"wer": [0.5, 0.4, 0.6], "b_wer": [0.25, 0.1, 0.4], "invented_per_hour": 1234.0}
    rows: list[dict[str, Any]] = [
        {"table": {"corpus": "c", "arm": arm, "count": count, "list": "full"} | rates}
        for arm, count in (("none", 0), ("fusion", 10), ("fusion", 100), ("lattice, x", 100))
    ]
    acceptance = {
        "claim": "context_biasing.acceptance",
        "detail": "a, parsed by grammar",
        "interval": [0.8, 1.0],
    }
    against = {
        "claim": "context_biasing.against_cloud",
        "detail": "a, parsed by grammar",
        "interval": [-0.1, 0.1],
    }
    rows += [acceptance | {"measured": 0.9}, against | {"measured": 0.05}]
    rows += [{"claim": "context_biasing.acceptance", "detail": "vosk", "skipped": "no vosk"}]
    rows += [{"claim": "context_biasing.attends", "detail": "x", "skipped": "it waits"}]
    view = {"config": {"headline": 100}, "rows": rows}
    assert tables.arms_block(view).count("\n| c |") == 4
    assert tables.kinds_block(view).count("\n| c |") == 2
    assert "25.0 [10.0, 40.0]" in tables.kinds_block(view)
    assert "| a | grammar | 90.0 [80.0, 100.0] | +5.0 [-10.0, +10.0] |" in tables.peers_block(view)
    assert "not run: no vosk" in tables.peers_block(view)
    assert "it waits" in tables.attention_block(view)
    assert list(tables.plots(view)) == [tables.LENGTHS]
    assert tables.plots(view) == tables.plots(view)
    assert tables.plots(None) == {}


def test_times_are_taken_on_an_idle_machine_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(costs, "others_use", lambda: 1.5)
    job = Job(name="x", given={}, folder=tmp_path, resources=Resources(), outcomes={}, folders={})
    with pytest.raises(SkippedError, match=r"the machine is busy: others use 1\.5 cores, expected at most"):
        costs.take(job)
    assert not list(tmp_path.iterdir())


def test_every_cost_has_its_row(few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del few
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    monkeypatch.setenv("EDGESPEECH_EDGE_MODEL", str(tmp_path / "model"))
    how = {
        "corpus": "few",
        "utterances": 2,
        "repeats": 1,
        "counts": [20, 40],
        "built": 50,
        "builds": 2,
        "attended": 5,
    }
    rows = list(costs.measured({"costs": how, "beam": 2, "seed": 0}))
    found = Counter(row["claim"].partition(".")[2] for row in rows)
    assert found == {"chunk": 1, "chunk_long": 1, "build": 2, "attention_chunk": 2}
    assert all(row["low"] <= row["measured"] <= row["high"] for row in rows)
    assert [row["measured"] for row in costs.sizes({"costs": how})] == sorted(
        row["measured"] for row in costs.sizes({"costs": how})
    )

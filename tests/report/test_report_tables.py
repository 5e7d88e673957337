from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.contracts import Kind
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import Record, Subset, SystemRow
from edgespeech.report.reference import Reference, load_references
from edgespeech.report.table import Table
from edgespeech.report.tables import all_tables, latest, one_line
from edgespeech.report.text import NONE
from helpers_demo import NOTE, publish_demo
from helpers_records import publish, record, rows

LEX = Reference(
    schema_version=1,
    corpus="coffee_dev",
    metric="acceptance",
    noise="kitchen",
    snr_rule="peak-frame",
    source="https://example.org/bench at abc",
    note="on the whole set",
    values={"Lex": {6.0: 0.8, 24.0: 0.88}},
)
THEIRS = Reference(
    schema_version=1,
    corpus="an4_test",
    metric="wer",
    source="https://example.org/an4",
    note="under their own scoring",
    values={"ESPnet": {"clean": 0.074}},
)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Table]:
    return {table.name: table for table in all_tables(publish_demo(tmp_path), [LEX, THEIRS])}


def cells(table: Table, *words: str) -> list[str]:
    """The one row whose cells hold all the words."""
    found = [[cell.text for cell in row] for row in table.rows if {*words} <= {cell.text for cell in row}]
    assert len(found) == 1, found
    return found[0]


def test_every_row_of_the_headline_prints_n_and_links_its_record(tables: dict[str, Table]) -> None:
    table = tables["headline"]
    assert table.head[3] == "n"
    for row in table.rows:
        assert row[0].record is not None
        assert row[3].text == str(row[0].record.corpus.n_utterances)
    text = table.markdown(lambda record: f"r/{record.stem}.json")
    assert text.count("](r/") == len(table.rows)
    assert "](" not in table.markdown()


def test_the_headline_shows_accuracy_latency_size_and_bytes(tables: dict[str, Table]) -> None:
    row = dict(
        zip(tables["headline"].head, cells(tables["headline"], "cloud-whisper-base", "an4_test"), strict=True)
    )
    assert row["WER whisper-en"].endswith("]")
    assert row["UPL P50 / P90 / P99 (lte)"] == "0.80 s / 0.90 s / ∞"
    assert row["Model"] == "74.0 MB"
    assert row["Peak RSS"] == "250.0 MB + 300.0 MB"
    assert row["Uplink / utterance"] == "6.2 kB"
    caption = " ".join(tables["headline"].caption)
    assert "divided by 10 (cloud_speedup)" in caption
    assert "an4_test by speaker" in caption
    assert "the end of the file ends the utterance" in caption


def test_skipped_and_failed_appear_as_such_with_their_reason(tables: dict[str, Table]) -> None:
    assert "skipped: no weights here" in cells(tables["headline"], "sherpa")
    assert cells(tables["failures"], "sherpa")[3:] == ["skipped", "0 of 0", "no weights here"]
    assert cells(tables["failures"], "fragile")[4] == "1 of 20"


def test_notes_become_footnotes(tables: dict[str, Table]) -> None:
    marked = [row for row in tables["headline"].rows if row[0].marks]
    assert [row[2].text for row in marked] == ["clean + context"]
    assert f"1. {NOTE}\n" in tables["headline"].markdown()


def test_the_noise_table_stands_beside_published_values(tables: dict[str, Table]) -> None:
    table = tables["noise"]
    assert table.head[4:] == ("clean", "24 dB", "12 dB", "6 dB")
    assert cells(table, "Lex (published)")[3:] == ["accepted", NONE, "88.0 %", NONE, "80.0 %"]
    assert all("(n = 20)" in text for text in cells(table, "pocketsphinx", "accepted")[4:])
    assert "on the whole set" in table.markdown()


def test_values_of_others_never_look_like_ours(tables: dict[str, Table]) -> None:
    assert cells(tables["published"], "ESPnet (published)")[2:] == ["WER, their scoring", "7.4 %"]
    assert "whisper-tiny-local" in {row[0].text for row in tables["published"].rows}


def test_the_null_recogniser_has_a_table_of_its_own(tables: dict[str, Table]) -> None:
    assert "null" not in {row[0].text for row in tables["headline"].rows}
    assert [row[0].text for row in tables["overhead"].rows] == ["null"]


def test_a_system_that_sends_nothing_has_one_row_for_all_networks(tables: dict[str, Table]) -> None:
    rows = [row for row in tables["networks"].rows if row[1].text == "an4_test"]
    networks = {name: [r[4].text for r in rows if r[0].text == name] for name in (r[0].text for r in rows)}
    assert networks["pocketsphinx"] == ["any: sends nothing"]
    assert networks["cloud-whisper-base"] == ["wifi", "lte"]


def test_memory_has_one_row_a_system(tables: dict[str, Table]) -> None:
    names = [row[0].text for row in tables["memory"].rows]
    assert len(names) == len(set(names))
    assert all(row[2].text == "clean" for row in tables["memory"].rows)


def test_the_newest_record_of_a_kind_is_shown(tmp_path: Path) -> None:
    old = publish(tmp_path, created="2026-01-01T00:00:00Z")
    new = publish(tmp_path, created="2026-02-01T00:00:00Z")
    other = publish(tmp_path, corpus="other_test", created="2025-01-01T00:00:00Z")
    assert latest([new, other, old]) == [other, new]


def test_of_two_sizes_the_larger_is_shown(tmp_path: Path) -> None:
    whole = publish(tmp_path, n=40, created="2026-01-01T00:00:00Z")
    part = publish(tmp_path, n=10, created="2026-02-01T00:00:00Z", subset=Subset(n=10, seed=0))
    assert latest([whole, part]) == [whole]


def test_a_row_of_an_earlier_model_is_not_shown(tmp_path: Path) -> None:
    def weights(record: Record, digit: str, system: str = "x") -> Record:
        row = record.system.model_copy(update={"name": system, "model_sha256": {"model.edge": digit * 64}})
        return record.model_copy(update={"system": row})

    earlier = weights(publish(tmp_path, created="2026-01-01T00:00:00Z", corpus="forgotten_test"), "a")
    new = weights(publish(tmp_path, created="2026-02-01T00:00:00Z"), "b")
    other = weights(publish(tmp_path, created="2026-01-01T00:00:00Z"), "a", system="y")
    skipped = earlier.model_copy(
        update={"system": SystemRow(name="x", kind=Kind.DEVICE), "status": "skipped", "reason": "not here"}
    )
    assert latest([earlier, new, other]) == [new, other]
    assert latest([skipped, new, other]) == [skipped, new, other]


def test_tables_do_not_depend_on_the_order_of_the_records(tmp_path: Path) -> None:
    records: list[Record] = publish_demo(tmp_path)
    forth = [table.markdown() for table in all_tables(records, [LEX])]
    assert forth == [table.markdown() for table in all_tables(records[::-1], [LEX])]


def test_no_record_is_no_error() -> None:
    assert {table.markdown() for table in all_tables([])} == {"No record yet.\n"}


def test_one_line() -> None:
    said = rows(cloud=False, failed=[1])
    line = one_line(record(said=said))
    assert line.startswith("tiny-engine on toy_test, clean: WER ")
    assert "1 failed" in line
    assert one_line(record(status="skipped", reason="no data")).endswith("clean: skipped: no data")


def test_references_are_validated(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "schema_version: 1\ncorpus: c\nmetric: wer\nsource: s\nnote: n\nvalues: {X: {clean: 7.4}}\n"
    )
    with pytest.raises(
        EdgeSpeechError, match=r"a\.yaml: values\.X\.clean is 7\.4, expected less than or equal to 1"
    ):
        load_references(tmp_path)
    (tmp_path / "a.yaml").write_text("speed: 1\n")
    with pytest.raises(EdgeSpeechError, match=r"a\.yaml"):
        load_references(tmp_path)
    (tmp_path / "a.yaml").write_text("{")
    with pytest.raises(EdgeSpeechError, match="not YAML"):
        load_references(tmp_path)


def test_the_committed_references_load() -> None:
    folder = Path(__file__).parents[2] / "results" / "reference"
    found = {reference.corpus: reference for reference in load_references(folder)}
    assert found["an4_test"].values["ESPnet (offline)"]["clean"] == 0.074
    assert len(found["coffee_dev"].values) == 5
    assert found["coffee_dev"].values["Amazon Lex"][6.0] == 0.80

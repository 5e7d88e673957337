from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from edgespeech.records.records import Record
from edgespeech.report.front import (
    CLOUD,
    CORPUS,
    DEVICE,
    MOST_ROWS,
    OPEN_CORPUS,
    findings,
    findings_markdown,
    front_records,
    front_table,
)
from edgespeech.report.text import NONE
from helpers_demo import publish_demo
from helpers_records import provenance, publish


def both(folder: Path, corpus: str, *, device: float, cloud: float, seed: int = 1) -> list[Record]:
    """The two systems of the findings with these word error rates."""
    return [
        publish(folder, system=DEVICE, corpus=corpus, error=device, n=60),
        publish(folder, system=CLOUD, corpus=corpus, error=cloud, cloud=True, n=60, seed=seed),
    ]


def test_the_findings_hold_the_records_numbers(tmp_path: Path) -> None:
    home = both(tmp_path, CORPUS, device=0.1, cloud=0.02)
    abroad = both(tmp_path, OPEN_CORPUS, device=0.9, cloud=0.1)
    domain, cost, fails = findings(tmp_path, [*home, *abroad])
    wer = home[0].accuracy["whisper-en"].wer.value
    assert f"{100 * wer:.1f} %" in domain
    assert "9.0 MB" in domain
    assert "sends 6.2 kB a request" in cost
    assert "8 times as large" in cost
    difference = 100 * (wer - home[1].accuracy["whisper-en"].wer.value)
    found = re.search(r"([\d.]+) points \[([\d.-]+), ([\d.-]+)\] more on the device", cost)
    assert found is not None
    assert float(found[1]) == pytest.approx(difference, abs=0.3)  # whisper-en joins a few words
    assert float(found[2]) <= float(found[1]) <= float(found[3])
    assert fails.startswith("**Where the small model fails.**")


def test_the_words_follow_the_verdict(tmp_path: Path) -> None:
    records = both(tmp_path, CORPUS, device=0.8, cloud=0.1)
    records += both(tmp_path, OPEN_CORPUS, device=0.02, cloud=0.6)
    domain, _, abroad = findings(tmp_path, records)
    assert domain.startswith("**The small model is not useful in its domain.**")
    assert abroad.startswith("**On open speech.**")
    assert "] fewer on the device" in abroad
    tie = findings(tmp_path / "tie", both(tmp_path / "tie", CORPUS, device=0.1, cloud=0.1, seed=0))[1]
    assert "no difference is shown" in tie


def test_without_records_there_is_no_finding(tmp_path: Path) -> None:
    assert findings_markdown(tmp_path, []) == "No record yet.\n"
    one = [publish(tmp_path, system=DEVICE, corpus=CORPUS)]
    assert len(findings(tmp_path, one)) == 1


def test_the_table_has_few_rows_and_columns_the_best_first(tmp_path: Path) -> None:
    records = publish_demo(tmp_path)
    records += [publish(tmp_path, system=f"more-{i}", corpus=CORPUS, error=0.2 + i / 50) for i in range(6)]
    table = front_table(records)
    assert len(table.rows) == MOST_ROWS
    assert len(table.head) <= 7
    values = [record.accuracy["whisper-en"].wer.value for record in front_records(records)]
    assert values == sorted(values)
    assert all(row[0].record is not None for row in table.rows)
    assert "n = " not in table.markdown()
    assert "20 utterances" in table.markdown()


def test_a_result_that_is_mostly_wrong_has_no_latency(tmp_path: Path) -> None:
    records = [
        publish(tmp_path, system="wrong", corpus=CORPUS, error=0.9),
        publish(tmp_path, system="right", corpus=CORPUS, error=0.1),
    ]
    waits = {row[0].text: row[3].text for row in front_table(records).rows}
    assert waits["wrong"] == NONE
    assert waits["right"] == "0.60 s / 0.70 s"


def test_times_of_two_machines_are_named_as_such(tmp_path: Path) -> None:
    one = publish(tmp_path, system="a", corpus=CORPUS)
    assert "between machines" not in front_table([one]).markdown()
    other = publish(tmp_path, system="b", corpus=CORPUS, machine=provenance(cpu_model="Another CPU"))
    text = front_table([one, other]).markdown()
    assert "a on Imaginary CPU @ 2.00GHz; b on Another CPU" in text or "b on Another CPU; a on" in text


def test_the_readme_is_short_and_starts_with_numbers() -> None:
    lines = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert any(re.search(r"\d %", line) for line in lines[:25])
    heads = [above for above, line in pairwise(lines) if re.match(r"\|[-:|]+\|$", line)]
    assert len(heads) <= 2
    assert all(head.count("|") - 1 <= 7 for head in heads)

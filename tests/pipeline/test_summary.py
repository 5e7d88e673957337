from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.core import places
from edgespeech.pipeline import summary
from helpers_records import publish


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "project_root", lambda: tmp_path)
    monkeypatch.setattr(summary, "project_root", lambda: tmp_path)
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    (tmp_path / "README.md").write_text("<!-- table:headline -->\n<!-- /table -->\n")
    return tmp_path


def test_a_summary_sets_what_was_measured_beside_what_is_published(tmp_path: Path) -> None:
    publish(tmp_path / "published", n=40)
    made = [
        publish(tmp_path / "here"),
        publish(tmp_path / "here", system="b", status="skipped", reason="gone"),
    ]
    paths = [tmp_path / "here" / f"{record.stem}.json" for record in made]
    text = summary.summarise(paths, tmp_path / "published")
    assert "| tiny-engine | toy_test | clean | 20 |" in text
    assert "skipped: gone" in text
    assert "| reproduced |" in text
    assert text.startswith("| System |")
    assert "1 rows reproduced, 0 not, 1 not run" in text.partition(summary.DETAILS)[0]
    assert "| reproduced |" not in summary.summarise(paths, None)


def test_render_all_writes_tables_plots_and_the_page(root: Path) -> None:
    publish(root / "results" / "records")
    assert "results/headline.md" in summary.render_all(check=True, html=None)
    assert not (root / "work").exists()
    changed = summary.render_all(check=False, html=root / "page.html")
    assert changed[-1] == str(root / "page.html")
    assert "tiny-engine" in (root / "page.html").read_text()
    assert summary.render_all(check=True, html=None) == []


def test_claims_are_what_others_report_beside_ours(root: Path) -> None:
    publish(root / "results" / "records", corpus="an4_test")
    (root / "results" / "reference").mkdir()
    (root / "results" / "reference" / "an4.yaml").write_text(
        "schema_version: 1\ncorpus: an4_test\nmetric: wer\nsource: s\nnote: n\n"
        "values: {ESPnet: {clean: 0.074}}\n"
    )
    text = summary.claims_table()
    assert "| ESPnet (published) <sup>1</sup> | an4_test | WER, their scoring | 7.4 % |" in text
    assert "| tiny-engine | an4_test |" in text

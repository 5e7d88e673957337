"""The published table of long audio against its records, and the measurement itself on a recogniser of tests."""

from __future__ import annotations

from harness import long_audio


def test_the_page_shows_the_records() -> None:
    records = long_audio.published()
    assert records
    page = long_audio.PAGE.read_text(encoding="utf-8")
    assert page == long_audio.rendered(page, records)
    assert long_audio.table(records) in page


def test_minutes_of_the_null_recogniser() -> None:
    found = long_audio.measure("null", 2, {})
    assert found["failure"] is None
    assert len(found["minute_compute_s"]) == len(found["rss_bytes"]) == 2
    assert found["audio_bytes"] == 120 * 16_000 * 4
    row = {**found, "commit": "x"}
    assert "| null | 2 |" in long_audio.table([{"systems": [row], "commit": "x" * 40}])

"""The attack on a server in its tiny profile, and the published table against its record."""

from __future__ import annotations

import pytest

from cloud import hostile
from cloud.hostile_clients import HOLDERS, STRANGERS


def test_honest_requests_are_answered_under_attack() -> None:
    record = hostile.run(hostile.PROFILES["tiny"])
    asked = [one for found in record["rounds"] for one in found["asked"]]
    assert len(asked) >= 2
    assert [one for one in asked if one["problem"] is not None] == []
    assert record["sigterm_s"] < 60  # it ended by itself
    assert "every kind" in hostile.table(record)


def test_each_kind_attacks() -> None:
    together = hostile.rounds(together=False)
    assert [holder for holder, _ in together] == list(HOLDERS)
    assert {stranger for _, stranger in together} == set(STRANGERS)
    assert hostile.rounds(together=True) == [(*HOLDERS, *STRANGERS)]


def test_the_page_shows_the_newest_record() -> None:
    if not hostile.published():
        pytest.skip("no record yet")
    page = hostile.PAGE.read_text(encoding="utf-8")
    assert page == hostile.rendered(page, hostile.newest())
    assert hostile.table(hostile.newest()) in page

"""Every replication's page says what its newest record says."""

from __future__ import annotations

import pytest

from edgespeech.pipeline.replicate import techniques
from edgespeech.report.page import render
from helpers_replication import load_replication

PAGES = sorted(techniques())


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_rendered_from_its_newest_record(name: str) -> None:
    page = load_replication(name).PAGE
    assert render(page, page.newest()) == page.readme.read_text(encoding="utf-8")

"""Every technique's page: rendered from its newest record, in one order, with the answer before the data."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgespeech.core.places import project_root
from edgespeech.harness.checks import Page
from edgespeech.pipeline.pages import rows_of_claims
from edgespeech.pipeline.replicate import load_experiment, techniques
from edgespeech.records.claims import Kind
from edgespeech.report.page import MOST, files

PAGES = sorted(techniques())


def page_of(name: str) -> Page:
    page: Page = load_experiment(name).PAGE
    return page


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_rendered_from_its_newest_record(name: str) -> None:
    page = page_of(name)
    for path, text in files(page, page.newest()).items():
        assert path.read_text(encoding="utf-8") == text, path.name
    assert page.config()


@pytest.mark.parametrize("name", PAGES)
def test_the_answer_comes_before_the_data(name: str) -> None:
    text = page_of(name).readme.read_text(encoding="utf-8")
    marks = [
        "# ",
        "<!-- table:finding -->",
        f"<!-- table:{name} -->",
        "## How to run it",
        "## How it was made",
    ]
    marks += [*(["## Deviations"] if "## Deviations" in text else []), "## Details", "<!-- table:rows -->"]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    lead = text.split("\n\n")[1]
    assert "\n" not in lead  # the claim in one sentence
    assert lead.endswith(".")
    first = text.partition(f"<!-- table:{name} -->")[2].partition("<!-- /table -->")[0]
    assert sum(line.startswith("| ") for line in first.splitlines()) <= MOST + 1
    open_tables = re.sub(r"<details>.*?</details>", "", text.partition("## Details")[2], flags=re.DOTALL)
    assert "|---" not in open_tables


def test_every_claim_has_its_rows() -> None:
    ids = {line.split(" | ")[0].removeprefix("| ") for line in rows_of_claims().splitlines()[2:]}
    wanted = {one.id for name in PAGES for one in page_of(name).claims() if one.kind is not Kind.OBSERVATION}
    assert ids == wanted


TAKEN_BACK = {f"results/sparsification/20261128T15{rest}Z.json" for rest in ("4612", "4822")}
"""A trial without the arms and without the corpora wrote them, a commit took them in, and one of the same day took them
back before anything had quoted them."""


@pytest.mark.parametrize("name", PAGES)
def test_no_committed_record_was_ever_changed_or_removed(name: str) -> None:
    root = project_root()
    found = subprocess.run(
        ["git", "-C", str(root), "log", "--no-renames", "--diff-filter=MD", "--name-only", "--format=", "--",
         f"results/{name}/*.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        pytest.skip("not a checkout")
    # What arms said when they were published is replaced when they are trained again; only records are kept for ever.
    records = {line for line in found.stdout.splitlines() if Path(line).parent.name == name}
    assert not records - TAKEN_BACK

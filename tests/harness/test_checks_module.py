"""A technique's measurement: its checks run, what is skipped, and what the record names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Page, measure, parser
from edgespeech.records.claims import Measured
from edgespeech.records.pages import NotRun, PageRow
from edgespeech.records.used import note_manifest, note_model, note_subset

CLAIMS = """\
- {id: demo.both, short: both, text: Both ends., kind: target, unit: ratio,
   bar: {direction: between, value: [0.9, 1.1]}}
- {id: demo.open, short: open, text: As it is., kind: observation, unit: ratio}
"""


def good(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    note_manifest("corpus", "1" * 64, 9)
    note_subset("corpus", 3)
    note_model("model", lambda: "2" * 64)
    yield {"claim": "demo.both", "detail": config["profile"], "measured": float(seed), "n": 3}


def half(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    del config, seed
    yield {"claim": "demo.open", "detail": "first", "measured": 0.5, "n": 2, "picture": [1]}
    raise EdgeSpeechError("/some/folder/model: is\n  not here | at all")


@pytest.fixture
def page(tmp_path: Path) -> Page:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "claim.yaml").write_text(CLAIMS)
    (folder / "config.yaml").write_text("seed: 1\n")
    return Page(folder=folder, records=tmp_path / "records" / "demo", checks=(good, half))


def test_rows_before_an_error_are_recorded(page: Page) -> None:
    record = measure(page, "full")
    assert record.config == {"seed": 1, "profile": "full"}
    assert record.rows == (
        PageRow(claim="demo.both", measured=Measured(condition="full", value=1.0, n=3)),
        PageRow(
            claim="demo.open", measured=Measured(condition="first", value=0.5, n=2), data={"picture": [1]}
        ),
    )
    assert record.not_run == (NotRun(part="half", reason="model: is\n  not here | at all"),)


def test_a_record_names_what_it_was_made_of(page: Page) -> None:
    record = measure(page)
    assert (record.technique, record.profile) == ("demo", "quick")
    assert record.utterances == {"corpus": 3}
    assert record.manifests == {"corpus": "1" * 64}
    assert record.models == {"model": "2" * 64}
    assert record.code_sha256 == page.code_sha256()
    assert record.code == {name: found[:12] for name, found in page.code().items()}
    assert "demo/claim.yaml" not in record.code
    (page.folder / "replicate.py").write_text("MORE = 1\n")
    assert record.code_sha256 != page.code_sha256()


def test_a_check_of_an_unknown_claim_is_an_error_and_no_skipped_row(page: Page) -> None:
    def mispelt(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
        del config
        yield {"claim": "demo.bth", "measured": 1.0, "n": seed}

    other = Page(folder=page.folder, records=page.records, checks=(mispelt,))
    with pytest.raises(
        EdgeSpeechError, match=r"demo/claim\.yaml: claim is 'demo\.bth', expected one of demo\.both"
    ):
        measure(other)


def test_a_configuration_of_an_unknown_claim_is_an_error_before_anything_runs(page: Page) -> None:
    ran = []

    def never(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
        ran.append(config)
        yield {"part": "never", "skipped": str(seed)}

    (page.folder / "config.yaml").write_text("seed: 1\ncomparisons: [{claim: demo.bth}]\n")
    with pytest.raises(EdgeSpeechError, match=r"demo/config\.yaml: claim is 'demo\.bth'"):
        measure(Page(folder=page.folder, records=page.records, checks=(never,)))
    assert not ran


def test_a_bug_is_no_skipped_check(page: Page) -> None:
    def broken(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
        yield {"claim": config["nothing"], "n": seed}

    with pytest.raises(KeyError):
        measure(Page(folder=page.folder, records=page.records, checks=(broken,)))


def test_the_options() -> None:
    made = parser("About.\n\nMore.")
    assert made.description == "About."
    assert made.parse_args(["--render"]).render is True
    assert made.parse_args([]).render is False
    with pytest.raises(SystemExit):
        made.parse_args(["--profile", "full"])  # which the pipeline takes

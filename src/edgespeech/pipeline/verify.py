"""Everything published, read again: are a run's figures those of its rows, and is a page's record of its schema?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgespeech.core.files import visible
from edgespeech.core.places import project_root, records_dir, results_dir
from edgespeech.harness.rescore import verify_record
from edgespeech.records.claims import load_claims
from edgespeech.records.pages import load_page


@dataclass(frozen=True, slots=True)
class Found:
    """The result for a record.

    Attributes:
        good: in words, where nothing is wrong.
        wrong: each in words.
        remarks: what could not be checked, and why.
    """

    good: str
    wrong: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def _claims_file(technique: str) -> Path:
    return project_root() / "replication" / technique / "claim.yaml"


def published() -> list[Path]:
    """All published records: of runs, then of the pages of techniques."""
    pages = (
        path
        for folder in sorted(results_dir().iterdir())
        if folder.is_dir() and _claims_file(folder.name).is_file()
        for path in visible(folder, "*.json")
    )
    return [*visible(records_dir(), "*.json"), *pages]


def verified(path: Path) -> Found:
    """Check a record: a page's, where it lies in the folder of a technique's results, else a run's.

    Raises:
        EdgeSpeechError: it cannot be read, or is of no schema.
    """
    if path.resolve().parent.parent == results_dir() and _claims_file(path.resolve().parent.name).is_file():
        record = load_page(path, load_claims(_claims_file(path.resolve().parent.name)))
        return Found(
            f"a record of {record.technique}, version {record.schema_version}, {len(record.rows)} rows"
        )
    run = verify_record(path)
    return Found("its figures are its rows'", run.wrong, run.remarks)

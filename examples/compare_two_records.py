"""Compare two published records: paired differences with intervals and verdicts.

    python examples/compare_two_records.py [A.json B.json]

Without arguments: the newest records of the compressed model and of the cloud baseline on coffee orders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgespeech.core.places import records_dir
from edgespeech.records.records import load_records
from edgespeech.report.compare import compare_records
from edgespeech.report.front import CLOUD, CORPUS, DEVICE, front_records


def main(a: str | None = None, b: str | None = None) -> None:
    """Print the comparison."""
    if a is None or b is None:
        shown = {record.system.name: record for record in front_records(load_records(records_dir()), CORPUS)}
        if missing := {DEVICE, CLOUD} - shown.keys():
            raise SystemExit(f"no published record of {', '.join(sorted(missing))} on {CORPUS}")
        a, b = (str(records_dir() / f"{shown[name].stem}.json") for name in (DEVICE, CLOUD))
    comparison = compare_records(Path(a), Path(b))
    print(comparison.to_text())
    for row in comparison.rows:
        print(f"{row.metric}: {comparison.a.system.name} is {row.verdict.value}")


if __name__ == "__main__":
    main(*sys.argv[1:])

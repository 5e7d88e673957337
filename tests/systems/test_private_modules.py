"""Private modules of the recognisers stay private."""

from __future__ import annotations

import re

from edgespeech.core.places import project_root

_PRIVATE = re.compile(r"^\s*(from|import) edgespeech\.systems\.?(_\w+| import .*\b_\w+)", re.MULTILINE)


def test_nothing_outside_imports_them() -> None:
    root = project_root()
    files = [*(root / "src").rglob("*.py"), *(root / "replication").rglob("*.py")]
    outside = [file for file in files if "systems" not in file.parts]
    assert len(outside) > 100
    assert [file.name for file in outside if _PRIVATE.search(file.read_text(encoding="utf-8"))] == []

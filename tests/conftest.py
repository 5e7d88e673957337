"""Shared by every test: no mirror unless a test asks for it; which tests are slow, and which files come first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_MIRROR = os.environ.get("EDGESPEECH_MIRROR")
_SLOW = (
    "arms/",
    "cli/test_cli.py",
    "cloud/test_access.py",
    "cloud/test_client.py",
    "cloud/test_hostile.py",
    "cloud/test_server.py",
    "cloud/test_server_shares.py",
    "contract/",
    "corpora/test_written.py",
    "docs/test_site.py",
    "engine/test_fuzz.py",
    "engine/test_kernels.py",
    "harness/test_boundary.py",
    "harness/test_evaluate_safe.py",
    "harness/test_live.py",
    "house/test_adding.py",
    "kills/",
    "packed/test_simulated_is_deployed.py",
    "pipeline/",
    "replication/",
    "report/test_page.py",
    "report/test_render.py",
    "secondpass/test_hybrid_stream.py",
    "synthesis/",
    "systems/test_hybrid.py",
    "text/test_grammar.py",
    "training/",
)
"""Files and folders that `make test-fast` leaves out: they train, start servers or browsers, or render everything."""


_LONGEST = (
    "replication/test_contract.py",
    "contract/",
    "training/test_loop.py",
    "engine/",
    "pipeline/",
    "synthesis/",
    "cli/test_cli.py",
    "training/",
    "cloud/",
)
"""Files and folders that take longest: they start first, so that at the end no process works on one alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by the file that it is in, and put the longest files first."""
    here = Path(__file__).parent
    files = [item.path.relative_to(here).as_posix() for item in items]
    for item, file in zip(items, files, strict=True):
        if file.startswith(_SLOW):
            item.add_marker("slow")
    rank = {file: next((i for i, name in enumerate(_LONGEST) if file.startswith(name)), 99) for file in files}
    items.sort(key=lambda item: rank[item.path.relative_to(here).as_posix()])


@pytest.fixture(autouse=True)
def _own_mirror(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("mirror") is None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    elif _MIRROR is not None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", _MIRROR)

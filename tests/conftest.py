"""Shared by every test: no mirror unless a test asks for it, and a work folder of its own."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by the file that it is in."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(_SLOW):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _own_folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("mirror") is None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    elif _MIRROR is not None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", _MIRROR)

"""Shared by every test: no mirror unless a test asks for it, and a work folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_MIRROR = os.environ.get("EDGESPEECH_MIRROR")


@pytest.fixture(autouse=True)
def _own_folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("mirror") is None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    elif _MIRROR is not None:
        monkeypatch.setenv("EDGESPEECH_MIRROR", _MIRROR)

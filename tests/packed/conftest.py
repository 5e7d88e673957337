from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.packed.edge_file import write_edge
from helpers_edge import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edge")


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    write_edge(folder / "small.edge", small(), {"name": "small"})
    return (folder / "small.edge").read_bytes()

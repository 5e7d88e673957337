from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.model.config import PredictorKind
from edgespeech.packed.edge_file import write_edge
from edgespeech.packed.pack import Layout, pack
from helpers_edge import small
from helpers_packed import ENCODINGS, Make, prune, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edge")


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    write_edge(folder / "small.edge", small(), {"name": "small"})
    return (folder / "small.edge").read_bytes()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("packed")
    made: dict[tuple[str, str], Path] = {}

    def path_of(encoding: str, kind: PredictorKind) -> Path:
        if (encoding, kind) not in made:
            trained = tiny(kind)
            prune(trained.model, 0.4)
            made[encoding, kind] = folder / f"{len(made)}.edge"
            pack(trained, Layout(matrices=ENCODINGS[encoding]), made[encoding, kind])
        return made[encoding, kind]

    return path_of


@pytest.fixture
def path(make: Make) -> Path:
    return make("4 bits with zeros", "stateless")

"""A clock of the test's own for the server's limits."""

from __future__ import annotations

import pytest

from cloud.fakes import Clock
from edgespeech.cloud import limits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that the limits see."""
    made = Clock()
    monkeypatch.setattr(limits, "time", made)
    return made

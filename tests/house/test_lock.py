"""The packages that `make env` installs are those of the constraints, each with a hash."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"(?P<pin>[A-Za-z0-9_.-]+==\S+)(?: --hash=sha256:[0-9a-f]{64})+")


def test_every_pin_has_a_hash() -> None:
    pins = set((ROOT / "constraints.txt").read_text().lower().split())
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
    locked = [LINE.fullmatch(line) for line in lines]
    assert None not in locked
    found = {match["pin"].lower().replace("-", "_") for match in locked if match is not None}
    wanted = {pin.replace("-", "_") for pin in pins if not pin.startswith("torch==")}
    assert found == wanted, "after a change of constraints.txt: make lock"

"""A package of somebody else's: a folder on the path with a recogniser and an entry point, and nothing of ours."""

from __future__ import annotations

from pathlib import Path

RECOGNISER = """
import time
from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Stream, SystemInfo

class Said(Stream):
    def __init__(self, delay_s):
        self.delay_s = delay_s
    def accept(self, samples):
        time.sleep(self.delay_s)
        return []
    def finish(self):
        return [Event(kind=EventKind.FINAL, text="hello world")]

class Stranger(Recogniser):
    name = "stranger"
    kind = Kind.DEVICE
    summary = "always says hello world"
    def __init__(self, *, delay_s=0.0):
        self.delay_s = delay_s
    def load(self):
        return SystemInfo(name=self.name, kind=self.kind, model_bytes=0, parameters=0, chunk_s=0.1, citation="test",
                          config={"delay_s": self.delay_s})
    def open(self, request):
        return Said(self.delay_s)
"""


def make_package(folder: Path) -> Path:
    """Write the package; putting `folder` on PYTHONPATH installs it."""
    (folder / "strangers_package.py").write_text(RECOGNISER)
    info = folder / "strangers_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgespeech.recognisers]\nstranger = strangers_package:Stranger\n"
    )
    return folder

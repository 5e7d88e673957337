"""Files that a step makes and the project publishes: which copy there is, the step's or the published one."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.files import write_atomic
from edgespeech.steps.step import Step
from edgespeech.steps.store import folder_of, is_made


def newest_copy(step: Step, file: str, published: Path, *, publish: bool) -> Path | None:
    """The file that a step made, else the published one, else None.

    Args:
        step: that makes it.
        file: its name in the step's folder.
        published: where it is published.
        publish: whether to publish what the step made.

    Raises:
        EdgeSpeechError: it cannot be published.
    """
    made = folder_of(step) / file if is_made(step) else None
    if made is not None and publish:
        write_atomic(published, made.read_bytes())
    found = made or published
    return found if found.is_file() else None

"""The folder of the second pass; needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

from edgespeech.core.places import shipped_models

LM, SCALES, VOCABULARY = "lm.edge", "scales.yaml", "words.txt"
"""The files of a second pass's folder."""
FOLDER_VARIABLE = "EDGESPEECH_SECOND_PASS"
"""Environment variable that names a folder with the second pass to use instead of the published one."""


def shipped_second_pass() -> Path:
    """The folder with the published second pass."""
    return shipped_models() / "second-pass"


def second_pass_folder() -> Path:
    """The folder that the environment names, else that of the published second pass."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else shipped_second_pass()

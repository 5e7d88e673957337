"""Values that others published, each with its source, to stand beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edgespeech.core.config import explain
from edgespeech.core.files import visible
from edgespeech.core.yaml_files import load_yaml
from edgespeech.records.records import Share, Strict

CLEAN = "clean"
"""The condition without noise."""


class Reference(Strict):
    """One source's values of one metric on one corpus.

    Attributes:
        values: system to condition to value; a condition is `clean` or a signal-to-noise ratio in dB.
        source: where the values stand, with a revision where there is one.
        note: on what and how they were measured, and by whom; printed with every value.
        noise: name of the noise, and `snr_rule` how its ratio is defined; None when there is none.
    """

    schema_version: Literal[1]
    corpus: str
    metric: Literal["acceptance", "wer"]
    source: str
    note: str
    noise: str | None = None
    snr_rule: str | None = None
    values: Annotated[Mapping[str, Mapping[float | Literal["clean"], Share]], Field(min_length=1)]


def load_references(folder: Path) -> list[Reference]:
    """Every `*.yaml` of a folder, by file name. A missing folder holds none.

    Raises:
        EdgeSpeechError: not YAML, an unknown key, a wrong type, a share that is none.
    """
    found = []
    for path in visible(folder, "*.yaml"):
        try:
            found.append(Reference.model_validate(load_yaml(path)))
        except ValidationError as error:
            raise explain(str(path), error, tuple(Reference.model_fields)) from error
    return found

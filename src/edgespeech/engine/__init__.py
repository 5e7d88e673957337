"""The native engine: `_native` (C++), its numpy twin `reference`, and `native()` that loads the former."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgespeech.errors import EdgeSpeechError


def native() -> Any:
    """The compiled module.

    Raises:
        EdgeSpeechError: it was not built for this interpreter.
    """
    try:
        return import_module("edgespeech.engine._native")
    except ImportError as error:
        raise EdgeSpeechError(f"the native engine is not built ({error}): run `make env`") from error

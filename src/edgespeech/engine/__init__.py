"""The native engine: `_native` (C++), and `native()` that loads it. `edgespeech.packed` has its numpy twin."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgespeech.errors import EdgeSpeechError

_NEWEST = "PHRASES_KEEP_BLANK"
"""What was added to the module last."""


def native() -> Any:
    """The compiled module.

    Raises:
        EdgeSpeechError: it was not built for this interpreter, or from older sources.
    """
    try:
        module = import_module("edgespeech.engine._native")
    except ImportError as error:
        raise EdgeSpeechError(f"the native engine is not built ({error}): run `make env`") from error
    if not hasattr(module, _NEWEST):
        raise EdgeSpeechError("the native engine is older than this checkout: run `make env`")
    return module

"""The files of an exported model (`edgespeech export`), by the names that sherpa-onnx's models have."""

from __future__ import annotations

from pathlib import Path

PARTS = ("encoder", "decoder", "joiner")
"""Our transcriber, predictor and joiner."""
TOKENS = "tokens.txt"


def onnx_file(folder: Path, part: str, *, int8: bool = False) -> Path:
    """Where one of the `PARTS` is."""
    return folder / (f"{part}.int8.onnx" if int8 else f"{part}.onnx")

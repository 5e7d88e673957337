"""File names of an exported model (`edgespeech export`), which follow sherpa-onnx."""

from __future__ import annotations

from pathlib import Path

PARTS = ("encoder", "decoder", "joiner")
"""Transcriber, predictor and joiner."""
TOKENS = "tokens.txt"


def onnx_file(folder: Path, part: str, *, int8: bool = False) -> Path:
    """The path of one of the `PARTS`."""
    return folder / (f"{part}.int8.onnx" if int8 else f"{part}.onnx")

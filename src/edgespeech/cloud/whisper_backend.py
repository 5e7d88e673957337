"""The real recogniser behind the server: faster-whisper on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.cloud.session import Pause, without_pause
from edgespeech.contracts import Samples
from edgespeech.corpora.weights import Weights, count_parameters

COMPUTE_TYPE = "int8"
OPTIONS: dict[str, Any] = {
    "beam_size": 5,
    "temperature": 0.0,
    "condition_on_previous_text": False,
    "without_timestamps": True,
}
"""Decoding options, the same wherever this repository runs Whisper."""
LANGUAGES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id "
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si "
    "sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh"
)
"""Codes of the languages that the multilingual models know (Radford et al., 2022), separated by spaces."""


class WhisperBackend:
    """faster-whisper with the options above; one call at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def transcribe(
        self, samples: Samples, context: Sequence[str], language: str, pause: Pause = without_pause
    ) -> str:
        """The words in a stretch of audio; empty where Whisper itself hears no speech.

        Args:
            samples: with shape `(N,)`, 16 kHz, in [-1, 1].
            context: likely phrases, which become the prompt; empty: no prompt.
            language: ISO 639-1 code that Whisper knows.
            pause: called after each window of 30 s.
        """
        segments, _ = self._model.transcribe(
            samples.astype(np.float32), language=language, initial_prompt=prompt(context), **OPTIONS
        )
        texts: list[str] = []
        for segment in segments:  # each window is recognised when its first segment is asked for
            texts.append(segment.text)
            pause()
        return "".join(texts).strip()


def prompt(context: Sequence[str]) -> str | None:
    """The prompt that tells Whisper the likely phrases; None when there are none.

    Whisper keeps at most its last 223 tokens.
    """
    return f"Vocabulary: {', '.join(context)}." if context else None


def build_whisper(folder: str | Path, threads: int = 1) -> WhisperBackend:
    """Load a faster-whisper model (CTranslate2 files), computing in int8 on the CPU.

    Args:
        folder: holds `model.bin`, `config.json`, `tokenizer.json` and the vocabulary.
        threads: of the CPU.
    """
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(folder), device="cpu", compute_type=COMPUTE_TYPE, cpu_threads=threads, local_files_only=True
    )
    return WhisperBackend(model)


def facts(weights: Weights) -> dict[str, Any]:
    """What every system that runs these weights says about them, by the names of `SystemInfo`."""
    return {
        "model_bytes": weights.n_bytes,
        "parameters": count_parameters(weights.folder / "model.bin"),
        "citation": f"{weights.citation}; by faster-whisper {version('faster-whisper')}, MIT",
        "model_sha256": weights.files,
    }


def settings(weights: Weights, threads: int) -> dict[str, Any]:
    """What decides the output of `build_whisper`, for `SystemInfo.config`."""
    return {"weights": weights.source, "compute_type": COMPUTE_TYPE, "cpu_threads": threads, **OPTIONS}

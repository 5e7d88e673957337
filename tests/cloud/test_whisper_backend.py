from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cloud.fakes import tone
from edgespeech.cloud.whisper_backend import OPTIONS, WhisperBackend, prompt


class FakeModel:
    """Records how it was called; two segments, as Whisper gives them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Any], None]:
        self.calls.append(options)
        return [SimpleNamespace(text=" Two lattes,"), SimpleNamespace(text=" please.")], None


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ((), None),
        (("latte",), "Vocabulary: latte."),
        (("latte", "flat white"), "Vocabulary: latte, flat white."),
    ],
)
def test_context_becomes_the_prompt(context: tuple[str, ...], expected: str | None) -> None:
    model = FakeModel()
    assert prompt(context) == expected
    assert WhisperBackend(model).transcribe(tone(0.1), context, "en") == "Two lattes, please."
    assert model.calls == [{"language": "en", "initial_prompt": expected, **OPTIONS}]


def test_options_leave_nothing_to_chance() -> None:
    assert OPTIONS["temperature"] == 0.0
    assert OPTIONS["beam_size"] == 5
    assert not OPTIONS["condition_on_previous_text"]
    assert OPTIONS["without_timestamps"]

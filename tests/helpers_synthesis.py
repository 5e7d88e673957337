"""A made vocoder, and recipes and plans of a trial corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from edgespeech.contracts import Samples
from edgespeech.core.files import sha256_file
from edgespeech.synthesis.kokoro import RATE, Speaker, load_voices, voices_file
from edgespeech.synthesis.plan import Plan, plan
from edgespeech.synthesis.recipe import Recipe
from edgespeech.text.grammar import load_grammar

MODEL = "0" * 64


class Beeper:
    """Says every sentence as a tone, as long as the sentence, between digital silence."""

    model_sha256 = MODEL

    def __init__(self, vocoder: str = "onnx") -> None:
        self.said: list[str] = []

    def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
        self.said.append(text)
        return tone(len(text) / 100 / speed)

    def key(self, text: str, speaker: Speaker, speed: float) -> str:
        return hashlib.sha256(repr((text, speaker.name, speed)).encode()).hexdigest()


def tone(seconds: float, silence_s: float = 0.25) -> Samples:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    return np.pad(wave, round(silence_s * RATE)).astype(np.float32)


def recipe_with(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "name": "trial",
        "about": "A trial.",
        "split": "test",
        "seed": 3,
        "speakers": 12,
        "grammars": {
            "coffee": {"sentences": 6, "sha256": load_grammar("coffee").sha256},
            "calls": {"sentences": 6, "sha256": load_grammar("calls").sha256},
        },
        "context": {"contact": 5},
        "model_sha256": MODEL,
        "voices_sha256": sha256_file(voices_file()),
        "speed": [0.9, 1.1],
        "level_db": [-30, -20],
        "silence_s": [0.3, 0.6],
        "noise_db": [-78, -60],
    }
    return values | changes


def plans(sentences: Mapping[str, Sequence[str]] | None = None, /, **changes: object) -> list[Plan]:
    recipe = Recipe.model_validate(recipe_with(**changes))
    voices = [name for name, voice in load_voices().items() if voice.split == "test" and name[0] in "ab"]
    return plan(recipe, {name: load_grammar(name) for name in recipe.grammars}, voices, sentences)

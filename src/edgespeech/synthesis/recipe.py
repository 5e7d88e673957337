"""Recipes of synthetic corpora. One YAML file describes one corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from edgespeech.core.config import Strict, explain
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import bad
from edgespeech.synthesis.kokoro import SpanishVariety, VocoderName
from edgespeech.text.grammar import Split

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Between = tuple[float, float]


class GrammarUse(Strict):
    """How many sentences of a grammar, and which version of it (`Grammar.sha256`)."""

    sentences: Annotated[int, Field(gt=0)]
    sha256: Sha256


class Recipe(Strict):
    """A recipe. Ranges are sampled uniformly.

    Attributes:
        name: of the corpus and its manifest.
        about: one line for readers.
        split: which sentences (by `split_of`) and which voices may be used.
        seed: of all random draws.
        speakers: how many; each of the split's voices, then blends.
        blend: maximum number of voices in a blend.
        beyond: how far a speaker may be outside the blends of its voices: each weight's distance from the even
            blend is stretched by up to this share of itself.
        accents: `english` for English voices alone, `all` for those of other languages too.
        habits: how many habits of pronunciation a speaker has (`edgespeech.synthesis.habits`), from and to.
        spanish: varieties of Spanish, which speakers speak in turn; empty: English.
        switched: slots whose words are pronounced as in the other language, such as names.
        grammars: by name.
        texts: sentences from written corpora: the name of a text split to the number of sentences.
        words: maximum number in a sentence of a written corpus.
        held_out: splits of text or speech whose sentences are not used.
        take: use only this many of the drawn utterances, the first ones; None takes all.
        context: slot to the number of context phrases from its vocabulary for an utterance with this slot, including
            the spoken one.
        vocoder: what computes the last part of the model (`edgespeech.synthesis.kokoro.VocoderName`).
        model_sha256: of Kokoro's `model.onnx`.
        voices_sha256: of `data_manifests/voices/kokoro.yaml`, which holds each voice's hash.
        speed: of speech; 1 is the voice's own.
        level_db: root mean square of the speech, dB of full scale.
        silence_s: before and after the speech.
        noise_db: root mean square of the background noise, dB of full scale.
        audio: file format; `flac` is lossless.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    about: str
    split: Split
    seed: Annotated[int, Field(ge=0)]
    speakers: Annotated[int, Field(gt=0)]
    blend: Annotated[int, Field(ge=2, le=5)] = 2
    beyond: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    accents: Literal["english", "all"] = "english"
    habits: tuple[Annotated[int, Field(ge=0)], int] = (0, 0)
    spanish: tuple[SpanishVariety, ...] = ()
    switched: tuple[str, ...] = ()
    grammars: Annotated[dict[str, GrammarUse], Field(min_length=1)]
    texts: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    words: Annotated[int, Field(gt=0, le=40)] = 16
    held_out: tuple[str, ...] = ()
    take: Annotated[int, Field(gt=0)] | None = None
    context: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    vocoder: VocoderName = "onnx"
    model_sha256: Sha256
    voices_sha256: Sha256
    speed: Between
    level_db: Between
    silence_s: Between
    noise_db: Between
    audio: Literal["opus", "flac"] = "opus"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("habits", "speed", "level_db", "silence_s", "noise_db"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name}: {low} must not be above {high}")
        if self.spanish and (self.habits != (0, 0) or self.texts):
            raise ValueError("spanish: expects neither habits nor texts, which are of English")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key or a value out of range.
    """
    try:
        return Recipe.model_validate(load_yaml(path))
    except OSError as error:
        raise bad("synthesis", "recipe", path.name, "a recipe that exists") from error
    except ValidationError as error:
        raise explain(str(path), error) from error

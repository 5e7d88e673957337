"""Makes what a transducer's beam search adds to the scores of labels: two n-gram models of text, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.data.files import explain
from edgespeech.decoding.fusion import Fusion, FusionWeights
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.rescoring.config import TextSource
from edgespeech.rescoring.text import load_text
from edgespeech.training.ngram import estimate


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NGramConfig(_Strict):
    """One model.

    Attributes:
        order: labels of its longest sequences.
        prune: see `edgespeech.training.ngram.estimate`.
    """

    order: Annotated[int, Field(ge=2, le=9)]
    prune: Annotated[float, Field(ge=0)]


class WeightsConfig(_Strict):
    """See `edgespeech.decoding.fusion.FusionWeights`."""

    high: float
    low: float
    label: float


class FusionConfig(_Strict):
    """How it is made.

    Attributes:
        seed: of the draws from grammars.
        text: where the sentences come from.
        held_out: splits whose sentences are left out.
        high: the language model.
        low: the one whose scores are taken away; of the order that the transducer's predictor sees.
        weights: of both, and of every label.
    """

    seed: Annotated[int, Field(ge=0)]
    text: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    held_out: tuple[str, ...]
    high: NGramConfig
    low: NGramConfig
    weights: WeightsConfig


def load_fusion_config(path: Path) -> FusionConfig:
    """Read the file.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        return FusionConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise bad("fusion", "config", str(path), "a file that exists") from error
    except yaml.YAMLError as error:
        raise EdgeSpeechError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        raise explain(str(path), error) from error


def make_fusion(config: FusionConfig, tokeniser: Tokeniser) -> Fusion:
    """Read the text and estimate both models.

    Raises:
        EdgeSpeechError: what `load_text` refuses.
    """
    text = load_text(config.text, config.held_out, config.seed)
    labels = [tokeniser.encode(sentence) for sentence in text.sentences]
    high, low = (
        estimate(labels, len(tokeniser), each.order, each.prune) for each in (config.high, config.low)
    )
    return Fusion(high, low, FusionWeights(**config.weights.model_dump()))

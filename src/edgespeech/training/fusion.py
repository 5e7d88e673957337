"""Training of the language-model fusion of a beam search: two n-gram models of text, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.core.config import explain
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import bad
from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import Fusion, FusionWeights
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.text import TextSource, load_text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NGramConfig(_Strict):
    """One model.

    Attributes:
        order: labels of its longest sequences.
        prune: see `edgespeech.lm.estimate.estimate`.
    """

    order: Annotated[int, Field(ge=2, le=9)]
    prune: Annotated[float, Field(ge=0)]


class WeightsConfig(_Strict):
    """See `edgespeech.lm.fusion.FusionWeights`."""

    high: float
    low: float
    label: float


class DomainConfig(_Strict):
    """The language model of a single domain, for biasing a device to it.

    Attributes:
        text: sources of its sentences.
        high: the language model; the low-order one and the weights are the general ones.
    """

    text: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    high: NGramConfig


class FusionConfig(_Strict):
    """Configuration of the fusion.

    Attributes:
        seed: of the draws from grammars.
        text: sources of its sentences.
        held_out: splits whose sentences are left out.
        high: the language model.
        low: the model whose scores are subtracted; its order is that of the transducer's predictor.
        weights: of both, and of every label.
        domains: by name.
    """

    seed: Annotated[int, Field(ge=0)]
    text: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    held_out: tuple[str, ...]
    high: NGramConfig
    low: NGramConfig
    weights: WeightsConfig
    domains: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], DomainConfig] = {}


def load_fusion_config(path: Path) -> FusionConfig:
    """Read the file.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        return FusionConfig.model_validate(load_yaml(path))
    except OSError as error:
        raise bad("fusion", "config", str(path), "a file that exists") from error
    except ValidationError as error:
        raise explain(str(path), error) from error


def make_fusion(config: FusionConfig, tokeniser: Tokeniser) -> Fusion:
    """Read the text and estimate both models.

    Raises:
        EdgeSpeechError: as `load_text`.
    """
    labels = _labels(config, config.text, tokeniser)
    high, low = (
        estimate(labels, len(tokeniser), each.order, each.prune) for each in (config.high, config.low)
    )
    return Fusion(high, low, FusionWeights(**config.weights.model_dump()))


def make_domain(config: FusionConfig, name: str, tokeniser: Tokeniser, fusion: Fusion) -> Fusion:
    """The fusion of a single domain.

    Args:
        config: of the fusion.
        name: of the domain.
        tokeniser: of the model.
        fusion: the general one, whose low-order model and weights are reused.

    Raises:
        EdgeSpeechError: there is no such domain, or as `load_text`.
    """
    if name not in config.domains:
        raise bad("fusion", "domain", name, "one of " + ", ".join(config.domains))
    domain = config.domains[name]
    labels = _labels(config, domain.text, tokeniser)
    high = estimate(labels, len(tokeniser), domain.high.order, domain.high.prune)
    return Fusion(high, fusion.low, fusion.weights)


def _labels(config: FusionConfig, text: tuple[TextSource, ...], tokeniser: Tokeniser) -> list[list[int]]:
    return [tokeniser.encode(said) for said in load_text(text, config.held_out, config.seed).sentences]

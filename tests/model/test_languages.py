"""The head that names the language: pooling in a stream, decisions, files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.languages import (
    HEAD,
    IDENTIFIER,
    Identifier,
    LanguageHead,
    decide,
    load_head,
    load_identifier,
    save_head,
    save_identifier,
)

CONFIG = ModelConfig(vocabulary=8, layers=1, hidden=6, joiner=5)


def head(memory_s: float | None = 0.5) -> LanguageHead:
    torch.manual_seed(3)
    return LanguageHead(5, ("en", "es"), 0.04, memory_s).eval().requires_grad_(False)


def by_hand(own: LanguageHead, encoded: Tensor) -> Tensor:
    """The slow obvious way: each frame by a loop over all frames before it."""
    rows = []
    for t in range(encoded.shape[1]):
        weights = torch.tensor([own.decay ** (t - i) for i in range(t + 1)])
        heard = encoded[0, : t + 1]
        mean = (weights[:, None] * heard).sum(0) / weights.sum()
        variance = (weights[:, None] * (heard - mean).square()).sum(0) / weights.sum()
        rows.append(own.out(torch.cat([mean, variance.clamp(min=1e-5).sqrt()])))
    return torch.stack(rows)


@pytest.mark.parametrize("memory_s", [None, 0.04, 0.5, 30.0])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_pooling_is_that_of_the_slow_way(memory_s: float | None, steps: int) -> None:
    own, encoded = head(memory_s), torch.randn(1, steps, 5)
    torch.testing.assert_close(own(encoded)[0], by_hand(own, encoded), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("pieces", [(17,), (1,) * 17, (0, 3, 0, 14), (16, 1)])
def test_a_stream_gives_what_the_whole_gives(pieces: tuple[int, ...]) -> None:
    own, encoded = head(), torch.randn(2, 17, 5)
    pooled, found = own.start(2), []
    for piece in torch.split(encoded, list(pieces), dim=1):
        logits, pooled = own.accept(piece, pooled)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, dim=1), own(encoded), atol=2e-5, rtol=1e-4)


def test_no_frame_hears_a_later_one() -> None:
    own, encoded = head(), torch.randn(1, 10, 5)
    changed = encoded.clone()
    changed[:, 6:] += 5
    assert torch.equal(own(encoded)[:, :6], own(changed)[:, :6])
    assert not torch.allclose(own(encoded)[:, 6:], own(changed)[:, 6:])


def test_it_forgets_and_without_memory_does_not() -> None:
    before, after = torch.randn(1, 50, 5) + 4, torch.randn(1, 200, 5)
    for memory_s, alike in ((0.2, True), (None, False)):
        own = head(memory_s)
        late = own(torch.cat([before, after], dim=1))[:, -1]
        assert torch.allclose(late, own(after)[:, -1], atol=1e-3) is alike


def test_decisions() -> None:
    own = head()
    sure = decide(own, torch.tensor([0.0, 3.0]))
    assert sure.language == "es"
    assert sure.probability == pytest.approx(1 / (1 + math.exp(-3)))
    assert decide(own, torch.tensor([0.0, 0.1]), least=0.6).language is None
    assert decide(own, torch.tensor([0.1, 0.0]), least=0.5).language == "en"


def test_a_head_is_what_was_saved(tmp_path: Path) -> None:
    own = head()
    save_head(tmp_path, own)
    again = load_head(tmp_path, CONFIG)
    assert (again.names, again.memory_s, again.frame_s) == (own.names, own.memory_s, own.frame_s)
    encoded = torch.randn(1, 6, 5)
    assert torch.equal(again(encoded), own(encoded))


def test_an_identifier_is_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Identifier(CONFIG, ("de", "en", "es"), None).eval()
    save_identifier(tmp_path, model)
    again = load_identifier(tmp_path)
    features, lengths = torch.randn(2, 20, 80), torch.tensor([20, 13])
    logits, steps = again(features, lengths)
    assert logits.shape == (2, 5, 3)
    assert steps.tolist() == [5, 3]
    assert torch.equal(logits, model(features, lengths)[0])


@pytest.mark.parametrize("names", [("en",), ("es", "en"), ("en", "en")])
def test_languages_that_are_none(names: tuple[str, ...]) -> None:
    with pytest.raises(EdgeSpeechError, match="at least two different ones, sorted"):
        LanguageHead(5, names, 0.04, None)


@pytest.mark.parametrize("memory_s", [0.0, -1.0, math.inf, math.nan])
def test_a_memory_that_is_none(memory_s: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"memory_s is .*above 0"):
        LanguageHead(5, ("en", "es"), 0.04, memory_s)


def test_files_that_are_not_a_head(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=rf"{HEAD}: not readable"):
        load_head(tmp_path, CONFIG)
    save_head(tmp_path, head())
    with pytest.raises(EdgeSpeechError, match=r"out\.weight is \(2, 10\), expected \(2, 12\)"):
        load_head(tmp_path, ModelConfig(vocabulary=8, joiner=6))
    whole = (tmp_path / HEAD).read_bytes()
    (tmp_path / HEAD).write_bytes(whole[:-1])
    with pytest.raises(EdgeSpeechError, match="not readable"):
        load_head(tmp_path, CONFIG)
    (tmp_path / HEAD).write_bytes(whole)
    (tmp_path / IDENTIFIER).write_bytes(whole)
    with pytest.raises(EdgeSpeechError, match=r"format is .*edgespeech-identifier-1"):
        load_identifier(tmp_path)
    tensors = load_file(tmp_path / HEAD)
    tensors["out.bias"][0] = math.nan
    about = '{"format": "edgespeech-languages-1", "memory_s": null, "names": ["en", "es"]}'
    (tmp_path / HEAD).write_bytes(save(tensors, {"edgespeech": about}))
    with pytest.raises(EdgeSpeechError, match="not finite"):
        load_head(tmp_path, CONFIG)
    (tmp_path / HEAD).write_bytes(save(tensors, {"edgespeech": about.replace('["en", "es"]', '"en"')}))
    with pytest.raises(EdgeSpeechError, match="names is 'en', expected a list"):
        load_head(tmp_path, CONFIG)

"""What a model says of tuning speech, by the native engine and by torch."""

import numpy as np
import torch

from edgespeech.audio.features import log_mel_at_once
from edgespeech.core.labels import BLANK
from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import Fusion, FusionWeights
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training.tuning import led, said

TOKENISER = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)


def fusion_of(text: str, weight: float) -> Fusion:
    model = estimate([TOKENISER.encode(text)], len(TOKENISER), 3, 0)
    return Fusion(model, model, FusionWeights(high=weight, low=0.1, label=weight))


def test_torch_and_native_decoding_of_the_tuning_set_agree() -> None:
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16)).eval()
    with torch.no_grad():
        model.joiner.weight *= 10
        model.joiner.bias[BLANK] += 3
    trained = Trained(model, TOKENISER, {}, fusion=fusion_of("light", 0.5))
    rng = np.random.default_rng(0)
    spoken = [log_mel_at_once((0.1 * rng.standard_normal(n)).astype(np.float32)) for n in (16_000, 24_000)]
    assert trained.fusion is not None
    texts = said(trained, spoken, 4)
    assert any(texts)
    assert led(trained, spoken, 4, trained.fusion) == texts
    assert led(trained, spoken, 4, fusion_of("music", 4.0)) != texts

"""The model: shapes, streaming, parameter counts."""

from dataclasses import replace

import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer

CONFIG = ModelConfig(vocabulary=11, layers=2, hidden=16, joiner=12, context=2)


def make(config: ModelConfig = CONFIG) -> Transducer:
    torch.manual_seed(0)
    return Transducer(config).eval()


def test_shapes() -> None:
    model = make()
    encoded, lengths, state = model.transcribe(torch.randn(3, 42, 80), torch.tensor([42, 41, 8]))
    assert encoded.shape == (3, 10, 12)
    assert lengths.tolist() == [10, 10, 2]
    assert state.hidden.shape == state.cell.shape == (2, 3, 16)
    predicted = model.predict(torch.ones(3, 5, dtype=torch.int64))
    assert predicted.shape == (3, 6, 12)
    assert model.join(encoded[:, :, None], predicted[:, None]).shape == (3, 10, 6, 11)


@pytest.mark.parametrize("pieces", [[4] * 12, [8, 4, 36], [48], [20, 28]])
def test_a_stream_gives_what_the_whole_gives(pieces: list[int]) -> None:
    model = make()
    model.transcriber.set_statistics(torch.randn(80), torch.rand(80) + 0.5)
    features = torch.randn(1, 48, 80)
    whole, _, last = model.transcribe(features, torch.tensor([48]))
    state, parts, start = None, [], 0
    for size in pieces:
        part, _, state = model.transcribe(features[:, start : start + size], torch.tensor([size]), state)
        parts.append(part)
        start += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6)
    assert state is not None
    torch.testing.assert_close(state.cell, last.cell, rtol=1e-5, atol=1e-6)


def test_the_transcriber_never_looks_ahead() -> None:
    model = make()
    features = torch.randn(1, 40, 80)
    changed = features.clone()
    changed[:, 20:] += 1.0
    one, _, _ = model.transcribe(features, torch.tensor([40]))
    two, _, _ = model.transcribe(changed, torch.tensor([40]))
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_normalisation_takes_mean_and_deviation_away() -> None:
    model = make()
    features = 3.0 + 2.0 * torch.randn(1, 40, 80)
    plain, _, _ = model.transcribe((features - 3.0) / 2.0, torch.tensor([40]))
    model.transcriber.set_statistics(torch.full((80,), 3.0), torch.full((80,), 2.0))
    normal, _, _ = model.transcribe(features, torch.tensor([40]))
    torch.testing.assert_close(normal, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["stateless", "lstm"])
def test_prediction_step_by_step_equals_all_at_once(kind: str) -> None:
    model = make(ModelConfig(**{**CONFIG.to_mapping(), "predictor": kind}))
    labels = torch.randint(1, 11, (2, 7))
    at_once = model.predict(labels)
    predicted, state = model.start(2)
    steps = [predicted]
    for u in range(7):
        predicted, state = model.advance(labels[:, u], state)
        steps.append(predicted)
    torch.testing.assert_close(torch.stack(steps, 1), at_once, rtol=1e-5, atol=1e-6)


def test_the_stateless_predictor_forgets_what_is_beyond_its_context() -> None:
    model = make()
    one, two = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[9, 8, 3, 4]])
    assert torch.equal(model.predict(one)[:, 4], model.predict(two)[:, 4])
    assert not torch.equal(model.predict(one)[:, 3], model.predict(two)[:, 3])


def test_known_parameter_count() -> None:
    """By hand, for the shape that is trained: 4,724,384 numbers that recognition needs, below 5 million."""
    config = ModelConfig(vocabulary=192, layers=5, hidden=320, joiner=256, context=4)
    model = Transducer(config)
    lstm = 4 * (320 * 320 + 320 * 320 + 2 * 320)
    transcriber = 2 * 80 + (320 * 320 + 320) + 5 * (lstm + 2 * 320) + 2 * 320 + 320 * 256 + 256
    predictor = 192 * 256 + (256 * 256 * 4 + 256) + (256 * 256 + 256)
    joiner = 192 * 256 + 192
    assert model.parameters_deployed == transcriber + predictor + joiner == 4_724_384
    assert model.parameters_deployed < 5_000_000


def test_forget_gates_start_open() -> None:
    lstm = make().transcriber.lstms[0]
    bias = dict(lstm.named_parameters())["bias_ih_l0"]
    assert torch.equal(bias[16:32], torch.ones(16))
    assert torch.equal(bias[:16], torch.zeros(16))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"vocabulary": 1}, "vocabulary is 1"),
        ({"predictor": "gru"}, "predictor is 'gru'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_shapes_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(EdgeSpeechError, match=said):
        replace(CONFIG, **change)  # type: ignore[arg-type]  # what is wrong is the point


def test_unknown_and_missing_keys_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="layer_count"):
        ModelConfig.from_mapping({"vocabulary": 5, "layer_count": 3})
    with pytest.raises(EdgeSpeechError, match="vocabulary"):
        ModelConfig.from_mapping({"layers": 3})


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="shape of the features"):
        make().transcribe(torch.randn(1, 40, 40), torch.tensor([40]))

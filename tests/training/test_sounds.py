"""The auxiliary task on sounds: their inventory, the layer that names them, and its loss."""

import sys

import pytest
import torch
from torch import nn

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transcriber
from edgespeech.training.sounds import SoundInventory, SoundsHead, ctc_sum


def transcriber() -> Transcriber:
    torch.manual_seed(0)
    return Transcriber(ModelConfig(vocabulary=8, layers=3, hidden=12, joiner=10, dropout=0.0))


def test_each_sound_has_one_number() -> None:
    inventory = SoundInventory([(text, None) for text in ("two tea", "too tee", "set a timer")])
    assert inventory.of("two tea") == inventory.of("too tee")
    assert len(set(inventory.of("two tea"))) == 3
    every = {sound for text in ("two tea", "set a timer") for sound in inventory.of(text)}
    assert every == set(range(1, len(inventory) + 1))


def test_spelled_letters_are_pronounced_as_letters() -> None:
    inventory = SoundInventory([(text, None) for text in ("b c", "bee see", "bc")])
    assert inventory.of("b c") == inventory.of("bee see")


def test_a_sentence_without_pronunciation_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="3 cups"):
        SoundInventory([("3 cups", None)])


def test_each_language_has_its_own_rules_in_one_set_of_sounds() -> None:
    inventory = SoundInventory([("die kanne", "de"), ("die kanne", None), ("Eine Tasse, bitte!", "de")])
    assert inventory.of("die kanne", "de") != inventory.of("die kanne")
    shared = set(inventory.of("die kanne", "de")) & set(inventory.of("die kanne"))
    assert shared, "the n of both languages is one sound"
    assert max(inventory.of("Eine Tasse, bitte!", "de")) <= len(inventory)


def test_a_foreign_word_s_mark_is_no_sound() -> None:
    alone = SoundInventory([("das wetter", "de")])
    switched = SoundInventory([("das wetter", "de"), ("das weekend", "de")])
    assert len(switched) - len(alone) <= 4  # of "weekend" itself, not "(", "e", "n", ")", "d"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="sounds_only is 'xx', expected a language of espeak-ng"):
        SoundInventory([("eins", "xx")])


def test_missing_pronunciation_rules_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonemizer", None)
    with pytest.raises(EdgeSpeechError, match=r"pip install 'edgespeech\[synth\]'"):
        SoundInventory([("a", None)])


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(EdgeSpeechError, match="1 to 2"):
        SoundsHead(transcriber(), layer, 5)


def test_the_head_uses_only_the_layers_below_it() -> None:
    model = transcriber()
    head = SoundsHead(model, 2, 5)
    lengths, sounds, counts = (
        torch.tensor([10, 8]),
        torch.tensor([[1, 2, 3], [4, 0, 0]]),
        torch.tensor([3, 1]),
    )
    encoded, frames, _ = model(torch.randn(2, 40, 80), lengths * 4)
    loss = head(frames, sounds, counts)
    loss.backward()
    heard = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert any(name.startswith("lstms.1") for name in heard)
    assert not any(name.startswith(("lstms.2", "leave")) for name in heard)
    assert encoded.shape == (2, 10, 10)


def test_the_loss_is_ctc_and_skips_what_is_too_fast() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 6)
    labels, counts, lengths = torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2]), torch.tensor([4, 2])
    first = nn.functional.ctc_loss(
        logits[:1].log_softmax(-1).transpose(0, 1), labels[:1], lengths[:1], counts[:1], reduction="sum"
    )
    # The second one says a label twice in two frames, which leaves no frame for the blank between.
    torch.testing.assert_close(ctc_sum(logits, lengths, labels, counts), first)

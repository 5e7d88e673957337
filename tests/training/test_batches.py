"""Which utterances a step takes, and what it hears of them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.batches import Batches, Plan, loader
from edgespeech.training.config import Source, TrainConfig
from edgespeech.training.speech import encode_items, load_speech


def make(config: TrainConfig, rank: int = 0, world: int = 1) -> Batches:
    speech = load_speech(config.speech, longest_s=5)
    pieces = Tokeniser.train(["on off red blue"], 32)
    labels = [pieces.encode(item.text) for item in speech.items]
    return Batches(config, speech, labels, {}, rank=rank, world=world)


@pytest.mark.parametrize("repeat", [1.0, 2.0, 2.5, 0.5])
def test_an_epoch_holds_every_utterance_as_often_as_asked(
    settings: Callable[..., TrainConfig], corpus: Path, repeat: float
) -> None:
    settings()
    speech = load_speech([Source(corpus=str(corpus), repeat=repeat)], longest_s=5)
    plan = Plan(speech, batch_s=3.0, seed=1)
    taken: Counter[int] = Counter()
    step = 0
    while (found := plan.at(step))[0] == 0:
        taken.update(found[1])
        step += 1
    assert sum(taken.values()) == 16 * repeat
    assert max(taken.values()) - min(taken[i] for i in range(16)) <= 1


def test_batches_keep_to_their_size_with_padding(settings: Callable[..., TrainConfig], corpus: Path) -> None:
    settings()
    speech = load_speech([Source(corpus=str(corpus))], longest_s=5)
    plan = Plan(speech, batch_s=3.0, seed=1)
    for step in range(20):
        places = plan.at(step)[1]
        assert len(places) * max(speech.items[i].seconds for i in places) <= 3.0


def test_a_step_depends_on_nothing_before_it(settings: Callable[..., TrainConfig]) -> None:
    one, two = make(settings()), make(settings())
    for step in (0, 1, 2, 3):
        one[step]
    again, fresh = one[2], two[2]
    assert again.ids == fresh.ids
    assert torch.equal(again.features, fresh.features)
    assert torch.equal(again.labels, fresh.labels)


def test_processes_share_a_step(settings: Callable[..., TrainConfig]) -> None:
    whole = make(settings())[1]
    halves = [make(settings(), rank, 2)[1] for rank in (0, 1)]
    assert sorted(halves[0].ids + halves[1].ids) == sorted(whole.ids)
    assert halves[0].global_labels == halves[1].global_labels == whole.global_labels
    assert whole.global_labels == int(whole.label_lengths.sum())
    for half in halves:
        for row, name in enumerate(half.ids):
            place = whole.ids.index(name)
            frames = int(half.lengths[row])
            assert torch.equal(half.features[row, :frames], whole.features[place, :frames])


def test_more_processes_than_utterances_gives_an_empty_share(settings: Callable[..., TrainConfig]) -> None:
    batch = make(settings(), 50, 51)[0]
    assert batch.features.shape[0] == len(batch.ids) == 0
    assert batch.global_labels > 0


def test_loader_processes_give_the_same_batches(settings: Callable[..., TrainConfig]) -> None:
    batches = make(settings())
    for step, batch in zip(range(2, 5), loader(batches, range(2, 5), workers=1), strict=True):
        assert torch.equal(batch.features, batches[step].features)


def test_labels_are_those_of_the_words(settings: Callable[..., TrainConfig]) -> None:
    config = settings()
    speech = load_speech(config.speech, longest_s=5)
    pieces = Tokeniser.train(["on off red blue"], 32)
    from edgespeech.model.config import ModelConfig

    labels = encode_items(speech.items, pieces, ModelConfig(vocabulary=32))
    text = {item.id: item.text for item in speech.items}
    batch = Batches(config, speech, labels, {})[0]
    for row, name in enumerate(batch.ids):
        assert pieces.decode(batch.labels[row, : batch.label_lengths[row]].tolist()) == text[name]

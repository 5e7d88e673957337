from __future__ import annotations

import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.secondpass import scoring
from edgespeech.secondpass.model import MARK
from edgespeech.secondpass.scoring import RememberingScorer, WordScorer
from secondpass.lm_helpers import WORDS, tiny_lm


def test_a_sentence_is_the_sum_of_its_pieces() -> None:
    lm = tiny_lm()
    words = ["turn", "off", "xylophones"]  # the last one by single letters
    labels = torch.tensor([[MARK, *lm.tokeniser.encode(" ".join(words))]])
    told = lm.model(labels)[0].log_softmax(-1)
    wanted = sum(float(told[n, label]) for n, label in enumerate([*labels[0, 1:].tolist(), MARK]))
    assert WordScorer(lm).sentence(words) == pytest.approx(wanted, abs=1e-4)


def test_words_of_many_states_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH", 3)
    scorer = WordScorer(tiny_lm())
    (_, after), (_, later) = scorer.follow([scorer.start] * 2, ["turn", "the"])
    states = [scorer.start, after, later, after, scorer.start]
    words = ["on", "lights", "q", "off", "zebra"]
    together = scorer.follow(states, words)
    for state, word, (value, end) in zip(states, words, together, strict=True):
        ((alone, its),) = scorer.follow([state], [word])
        assert value == pytest.approx(alone, abs=1e-5)
        assert torch.allclose(end.log_probs, its.log_probs, atol=1e-5)


def test_states_are_not_changed() -> None:
    scorer = WordScorer(tiny_lm())
    before = scorer.start.hidden.clone()
    scorer.follow([scorer.start, scorer.start], ["on", "off"])
    assert torch.equal(scorer.start.hidden, before)


def test_what_was_asked_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    scorer, plain = RememberingScorer(lm), WordScorer(lm)
    calls: list[int] = []
    advance = lm.model.advance

    def counted(labels: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> object:
        calls.append(len(labels))
        return advance(labels, state)

    monkeypatch.setattr(lm.model, "advance", counted)
    first = scorer.follow([scorer.start] * 3, ["on", "off", "on"])
    assert first[0] == first[2]
    assert first[0][0] == pytest.approx(plain.follow([plain.start], ["on"])[0][0], abs=1e-5)
    calls.clear()
    assert scorer.follow([scorer.start], ["off"]) == [first[1]]
    assert calls == []
    ((_, after),) = scorer.follow([first[0][1]], ["lights"])
    assert scorer.follow([first[2][1]], ["lights"])[0][1] is after
    scorer.forget()
    calls.clear()
    scorer.follow([scorer.start], ["off"])
    assert calls


def test_nothing_to_score() -> None:
    assert WordScorer(tiny_lm()).follow([], []) == []


def test_the_next_piece_has_a_distribution() -> None:
    scorer = WordScorer(tiny_lm())
    ((_, state),) = scorer.follow([scorer.start], [WORDS[0]])
    assert float(state.log_probs.exp().sum()) == pytest.approx(1)
    assert scorer.finish(state) == float(state.log_probs[MARK])


@pytest.mark.parametrize("word", ["", "two words"])
def test_not_one_word(word: str) -> None:
    scorer = WordScorer(tiny_lm())
    with pytest.raises(EdgeSpeechError, match="rescoring: word is"):
        scorer.follow([scorer.start], [word])

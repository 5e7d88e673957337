"""The file that says how a language model for the search is made, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.ngram import START
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.fusion import load_fusion_config, make_domain, make_fusion

CONFIG = """
seed: 1
text:
  - {grammar: volume, sentences: 60}
held_out: [assistant_mini]
high: {order: 4, prune: 0.0001}
low: {order: 2, prune: 0}
weights: {high: 0.5, low: 0.2, label: 0.3}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "fusion.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def test_it_expects_what_the_grammar_says(path: Path) -> None:
    tokeniser = Tokeniser.train(["turn it up", "set the volume to ten", "mute"] * 3, 40)
    fusion = make_fusion(load_fusion_config(path), tokeniser)
    assert (fusion.high.order, fusion.low.order) == (4, 2)
    assert fusion.weights.high == 0.5

    def likely(sentence: str) -> float:
        history: tuple[int, ...] = (START,)
        total = 0.0
        for label in tokeniser.encode(sentence):
            total += float(fusion.high.log_probs(history)[label])
            history = (*history, label)
        return total

    assert likely("turn the volume up") > likely("volume the up turn") + 3


def test_a_domain_has_its_own_text_and_the_rest_of_all_text(path: Path) -> None:
    path.write_text(
        CONFIG + "domains: {lamps: {text: [{grammar: lights, sentences: 40}], high: {order: 3, prune: 0}}}\n"
    )
    config = load_fusion_config(path)
    tokeniser = Tokeniser.train(["turn it up", "set the volume to ten", "turn off the lamp"] * 3, 40)
    fusion = make_fusion(config, tokeniser)
    domain = make_domain(config, "lamps", tokeniser, fusion)
    assert domain.high.order == 3
    assert domain.weights == fusion.weights
    assert domain.low is fusion.low
    assert domain.high.table.tobytes() != fusion.high.table.tobytes()
    with pytest.raises(EdgeSpeechError, match="domain is 'boats', expected one of lamps"):
        make_domain(config, "boats", tokeniser, fusion)


def test_the_same_file_makes_the_same(path: Path) -> None:
    tokeniser = Tokeniser.train(["turn it up", "set the volume to ten", "mute"] * 3, 40)
    one, other = (make_fusion(load_fusion_config(path), tokeniser) for _ in range(2))
    assert one.high.table.tobytes() == other.high.table.tobytes()


def test_the_shipped_file_is_one() -> None:
    config = load_fusion_config(project_root() / "replication" / "rnnt" / "fusion.yaml")
    assert {"coffee_dev", "an4_test", "assistant_mini"} <= set(config.held_out)
    second = load_yaml(project_root() / "replication" / "lattices" / "lm.yaml")
    assert config.held_out == tuple(second["held_out"])  # both passes keep away from the same sentences


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("order: 4", "order: 1", "order"),
        ("seed: 1", "sed: 1", "sed"),
        ("grammar: volume, sentences: 60", "grammar: volume", "sentences with a grammar"),
        ("high: 0.5", "high: much", "weights.high"),
        ("seed: 1", "seed: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(CONFIG.replace(old, new), encoding="utf-8")
    with pytest.raises(EdgeSpeechError, match=message):
        load_fusion_config(path)


def test_a_missing_file_and_text_for_evaluation_are_refused(path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="a file that exists"):
        load_fusion_config(path.with_name("none.yaml"))
    path.write_text(CONFIG.replace("{grammar: volume, sentences: 60}", "{transcripts: coffee_dev}"))
    with pytest.raises(EdgeSpeechError, match="coffee_dev"):
        make_fusion(load_fusion_config(path), Tokeniser.train(["a b", "c d e"] * 3, 30))

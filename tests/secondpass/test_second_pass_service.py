"""Lists and lattices as they are sent, scales and where they come from, and the service that a server runs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from replication.lattices.lists import ARMS, Arm, LatticeCodec, expanded, rescored, sent

from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Precision, Vocabulary, encode
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from edgespeech.lattice.paths import PLAIN, Scales, best_path, n_best
from edgespeech.lattice.search import prediction_scores
from edgespeech.model.checkpoint import save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.secondpass import folder as files
from edgespeech.secondpass import service
from edgespeech.secondpass.compose import composed, listed, work
from edgespeech.secondpass.model import save_lm
from edgespeech.secondpass.scoring import InternalScorer, WordScorer
from edgespeech.secondpass.service import NAME, SecondPass, build_second_pass
from edgespeech.secondpass.tuning import (
    Candidates,
    assert_tunable,
    candidates,
    load_scales,
    save_scales,
    tune,
)
from secondpass.lm_helpers import SCALES, WORDS, random_lattice, tiny_lm

VOCABULARY = Vocabulary(WORDS[:5])
ALL = 1000


@pytest.fixture(scope="module")
def scorer() -> WordScorer:
    return WordScorer(tiny_lm())


def transducer() -> tuple[Transducer, Tokeniser]:
    tokeniser = Tokeniser.train([" ".join(WORDS)], 36)
    torch.manual_seed(1)
    config = ModelConfig(vocabulary=36, layers=1, hidden=8, joiner=8, context=2)
    model = Transducer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model, tokeniser


@pytest.fixture(scope="module")
def internal() -> InternalScorer:
    return InternalScorer(*transducer())


def test_the_internal_score_of_a_word_is_that_of_its_pieces(internal: InternalScorer) -> None:
    model, tokeniser = transducer()
    labels = tuple(tokeniser.encode("turn lights"))
    wanted = prediction_scores(model, [(labels[:n], label) for n, label in enumerate(labels)])
    ((one, state),) = internal.follow([internal.start], ["turn"])
    ((two, after),) = internal.follow([state], ["lights"])
    assert one + two == pytest.approx(sum(wanted))
    assert after == labels
    assert internal.follow([], []) == []
    with pytest.raises(EdgeSpeechError, match="rescoring: word is ''"):
        internal.follow([()], [""])


def test_prediction_scores_are_made_where_they_were_not_sent(
    scorer: WordScorer, internal: InternalScorer
) -> None:
    lattice = random_lattice(2)
    for path in n_best(composed(lattice, scorer, SCALES, internal=internal), ALL):
        words = [arc.word for arc in path.arcs]
        state = internal.start
        for word, arc in zip(words, path.arcs, strict=True):
            ((value, state),) = internal.follow([state], [word])
            assert arc.prediction == pytest.approx(value, abs=1e-6)


def test_a_list_of_sentences(scorer: WordScorer) -> None:
    found = listed({"turn on": -1.0, "turn off": -2.0, "turn": -3.0, "": -4.0})
    assert [(path.text, path.score) for path in n_best(found, ALL)] == [
        ("turn on", -1.0),
        ("turn off", -2.0),
        ("turn", -3.0),
        ("", -4.0),
    ]
    for path in n_best(composed(found, scorer, Scales(language=1.0)), ALL, Scales(language=1.0)):
        own = {"turn on": -1.0, "turn off": -2.0, "turn": -3.0, "": -4.0}[path.text]
        assert path.score == pytest.approx(own + scorer.sentence(path.text.split()), abs=1e-4)
    with pytest.raises(EdgeSpeechError, match="rescoring: sentences is 0, expected at least one"):
        listed({})


def codec(step_exponent: int = 2, width: float = 100.0) -> LatticeCodec:
    return LatticeCodec(width=width, vocabulary=VOCABULARY, precision=Precision(step_exponent=step_exponent))


def test_lists_take_no_more_bytes_than_the_lattice() -> None:
    lattice = random_lattice(1, nodes=9)
    whole, n_bytes = sent(lattice, Arm(name="a"), codec())
    assert n_bytes == len(encode(lattice, VOCABULARY))
    assert {path.text for path in n_best(whole, ALL)} == {path.text for path in n_best(lattice, ALL)}
    listed_, list_bytes = sent(lattice, Arm(name="b", paths="equal bytes"), codec())
    count = len(n_best(listed_, ALL))
    assert list_bytes <= n_bytes
    assert 1 <= count < len(n_best(lattice, ALL))
    _, more = sent(lattice, Arm(name="c", paths=count + 1), codec())
    assert more > n_bytes
    four, _ = sent(lattice, Arm(name="d", paths=4), codec(step_exponent=10))
    assert [path.text for path in n_best(four, ALL)] == [path.text for path in n_best(lattice, 4)]


def test_a_list_is_not_limited_to_the_paths_of_the_pruned_lattice() -> None:
    lattice = random_lattice(1, nodes=9)
    pruned, n_bytes = sent(lattice, Arm(name="a"), codec(width=0.0))
    assert len(n_best(pruned, ALL)) == 1
    four, list_bytes = sent(lattice, Arm(name="b", paths=4), codec(width=0.0))
    assert len(n_best(four, ALL)) == 4
    assert list_bytes > n_bytes


def test_an_arm_that_sends_one_path_changes_nothing(scorer: WordScorer, internal: InternalScorer) -> None:
    lattice = random_lattice(4)
    one, _ = sent(lattice, Arm(name="one", paths=1), codec())
    assert rescored(one, scorer, internal, SCALES) == best_path(lattice).text
    assert rescored(lattice, scorer, internal, PLAIN) == best_path(lattice).text
    assert len({arm.name for arm in ARMS}) == len(ARMS)


def test_candidates_have_the_scores_of_their_paths(scorer: WordScorer, internal: InternalScorer) -> None:
    lattice = expanded(random_lattice(6), scorer, internal, SCALES)
    found = candidates(lattice, "turn the light", count=ALL)
    paths = {path.text: path for path in n_best(lattice, ALL)}
    assert len(found.errors) == len(paths)
    worth = found.scores @ np.array([1, SCALES.language, -SCALES.prediction, SCALES.word])
    best = best_path(lattice, SCALES)
    assert worth.max() == pytest.approx(best.score)
    assert found.scores[0, 0] == pytest.approx(best_path(lattice).score)
    assert found.words == 3
    assert candidates(lattice, "").errors.tolist()[0] == len(best_path(lattice).arcs)


def planted(rng: random.Random, language: float) -> Candidates:
    """Ten candidates of which that with the most `score + language * LM` is right."""
    scores = np.array([[rng.gauss(0, 3), rng.gauss(0, 3), rng.gauss(0, 3), 5] for _ in range(10)])
    scores = scores[np.argsort(-scores[:, 0])]
    errors = np.ones(10, np.int64)
    errors[(scores[:, 0] + language * scores[:, 1]).argmax()] = 0
    return Candidates(scores, errors, 5)


def test_scales_that_were_planted_are_found() -> None:
    rng = random.Random(0)
    found = tune([planted(rng, 0.6) for _ in range(60)], internal=True)
    assert found.scales.language == pytest.approx(0.6, abs=0.11)
    assert found.scales.prediction == pytest.approx(0.0, abs=0.11)
    assert found.errors <= 4 < found.errors_before
    assert found.words == 300


def test_the_smallest_scales_win_a_tie() -> None:
    same = Candidates(np.array([[0.0, -1.0, -1.0, 3.0]]), np.array([2]), 3)
    found = tune([same, same], internal=True)
    assert found.scales == PLAIN
    assert (found.errors, found.errors_before) == (4, 4)


def test_a_tie_of_paths_keeps_the_devices_own() -> None:
    tied = Candidates(np.array([[0.0, -1.0, 0.0, 2.0], [0.0, -1.0, 0.0, 2.0]]), np.array([0, 5]), 3)
    assert tune([tied], internal=False).errors == 0


def test_without_internal_its_scale_is_0() -> None:
    helps = Candidates(np.array([[0.0, 0.0, 0.0, 2.0], [-0.1, 0.0, -5.0, 2.0]]), np.array([1, 0]), 2)
    assert tune([helps], internal=True).scales.prediction > 0
    assert tune([helps], internal=False).scales.prediction == 0
    with pytest.raises(EdgeSpeechError, match="tuning: utterances is 0"):
        tune([], internal=True)


def test_scales_in_a_file(tmp_path: Path) -> None:
    save_scales(tmp_path / "s.yaml", {"a": SCALES, "b": PLAIN}, {"manifest": "dev", "errors": 3})
    assert load_scales(tmp_path / "s.yaml") == {"a": SCALES, "b": PLAIN}
    content = yaml.safe_load((tmp_path / "s.yaml").read_text())
    assert content["provenance"] == {"manifest": "dev", "errors": 3}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[", "not YAML"),
        ("3", "scales is None, expected a mapping"),
        ("scales: {a: {language: 1}}", "scales of a is"),
        ("scales: {a: {language: 1, prediction: 0, word: .nan}}", "word of a is nan"),
        ("scales: {a: {language: true, prediction: 0, word: 0}}", "language of a is True"),
        (None, "a text file that exists"),
    ],
)
def test_bad_scales(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(EdgeSpeechError, match=problem):
        load_scales(tmp_path / "s.yaml")


def manifest(tmp_path: Path, split: str | None) -> Manifest:
    path = tmp_path / "m.jsonl"
    (tmp_path / "u.flac").touch()
    write_manifest(path, [Utterance(id="u", audio_filepath="u.flac", duration=1.0, text="on", split=split)])
    return load_manifest(path)


def test_tuning_is_for_development_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_tunable(manifest(tmp_path, "dev"))
    with pytest.raises(EdgeSpeechError, match="tuning: utterance u: split is 'test', expected dev or train"):
        assert_tunable(manifest(tmp_path, "test"))
    own = manifest(tmp_path, None)
    content = {
        "name": "kept", "title": "Kept", "kind": "speech", "licence": "none", "citation": "none",
        "homepage": "none", "sources": [{"mirror": {"folder": "kept"}}],
        "splits": {"kept_test": {"manifest": "m.jsonl", "sha256": own.sha256, "evaluation_only": True}},
    }  # fmt: skip
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "kept.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    with pytest.raises(EdgeSpeechError, match="tuning: kept_test is for evaluation only"):
        assert_tunable(own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A second pass's files, and the device's model."""
    lm = tiny_lm(width=64)
    save_lm(tmp_path / files.LM, lm.model, lm.tokeniser, {}, bits=8)
    save_scales(tmp_path / files.SCALES, {NAME: SCALES}, {})
    VOCABULARY.save(tmp_path / files.VOCABULARY)
    model, tokeniser = transducer()
    save_model(tmp_path / "edge", model, tokeniser, {})
    return tmp_path


def test_a_message_in_and_words_out(folder: Path) -> None:
    second_pass = build_second_pass(folder, folder / "edge")
    for seed in range(4):
        lattice = random_lattice(seed)
        text = second_pass.rescore(encode(lattice, VOCABULARY))
        assert text in {path.text for path in n_best(lattice, ALL)}


def test_the_language_model_decides(scorer: WordScorer) -> None:
    lattice = Lattice((Arc(0, 1, "lamp", -1.0), Arc(0, 1, "light", -1.1)), (Final(1),))
    lattice = Lattice(tuple(sorted(lattice.arcs, key=lambda arc: arc.word)), lattice.finals)
    wanted = max(("lamp", "light"), key=lambda word: scorer.sentence([word]))
    strong = SecondPass(tiny_lm(), Scales(language=5.0), VOCABULARY)
    assert strong.best(lattice).text == wanted
    weak = SecondPass(tiny_lm(), PLAIN, VOCABULARY)
    assert weak.best(lattice).text == "lamp"


def test_large_lattices_are_pruned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = random_lattice(1, nodes=9)
    monkeypatch.setattr(service, "MAX_ARCS", 9)
    found = SecondPass(tiny_lm(), SCALES, VOCABULARY).best(lattice)
    assert found.text in {path.text for path in n_best(lattice, ALL)}


@pytest.mark.parametrize("message", [b"", b"\x01\x00\x00abcdefg", b"\x09" * 40])
def test_messages_that_are_no_lattice(message: bytes) -> None:
    with pytest.raises(EdgeSpeechError, match="lattice message"):
        SecondPass(tiny_lm(), SCALES, VOCABULARY).rescore(message)


def test_words_that_the_language_model_cannot_spell() -> None:
    message = encode(Lattice((Arc(0, 1, "24", -1.0),), (Final(1),)), VOCABULARY)
    with pytest.raises(EdgeSpeechError, match="words of a to z and apostrophes"):
        SecondPass(tiny_lm(), SCALES, VOCABULARY).rescore(message)


def test_a_folder_with_something_missing(folder: Path) -> None:
    save_scales(folder / files.SCALES, {"lattice": SCALES}, {})
    with pytest.raises(EdgeSpeechError, match=r"scales of is .*, expected 'second pass' alone"):
        build_second_pass(folder, folder / "edge")
    (folder / files.SCALES).unlink()
    with pytest.raises(EdgeSpeechError, match=r"scales is .*scales\.yaml', expected a text file that exists"):
        build_second_pass(folder, folder / "edge")


def chain(words: list[list[str]]) -> Lattice:
    arcs = [
        Arc(n, n + 1, word, -1.0, start=n, end=n + 1) for n, some in enumerate(words) for word in sorted(some)
    ]
    return Lattice(tuple(arcs), (Final(len(words)),))


def test_the_work_of_a_lattice() -> None:
    assert work(chain([["ab", "c"], ["def"]]), beam=8) == (3 + 2 * 3, 2 + 3)
    assert work(chain([["ab", "c"], ["def"]]), beam=1) == (3 + 3, 2 + 3)
    assert work(chain([["a", "b"]] * 60), beam=8)[0] == 2 * (1 + 2 + 4 + 57 * 8)


@pytest.fixture(scope="module")
def passing() -> SecondPass:
    return SecondPass(tiny_lm(), PLAIN, VOCABULARY)


def test_messages_of_too_much_work_are_refused(passing: SecondPass) -> None:
    with pytest.raises(EdgeSpeechError, match="rescoring: message is 8193, expected at most 8192 bytes"):
        passing.rescore(bytes(service.MAX_BYTES + 1))
    with pytest.raises(EdgeSpeechError, match="expected at most 64 letters"):
        passing.rescore(encode(chain([["a" * 65]]), VOCABULARY))
    long = encode(chain([["a" * 64]] * (service.MAX_DEPTH // 64 + 1)), VOCABULARY)
    with pytest.raises(EdgeSpeechError, match="not even its best path fits"):
        passing.rescore(long)


def test_lattices_of_too_much_work_are_pruned(passing: SecondPass, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    arcs = [
        Arc(n, n + 1, word, -rng.random() - place, start=n, end=n + 1)
        for n in range(20)
        for place, word in enumerate(WORDS[:10])
    ]
    lattice = arranged(arcs, [Final(20)])
    asked: list[tuple[int, int]] = []

    def composed_of(small: Lattice, *rest: object, **options: object) -> Lattice:
        asked.append(work(small, service.BEAM))
        return small

    monkeypatch.setattr(service, "composed", composed_of)
    monkeypatch.setattr(service, "MAX_LETTERS", 1000)
    text = passing.best(lattice).text
    assert text == best_path(lattice).text
    assert 0 < asked[0][0] <= 1000 < work(lattice, service.BEAM)[0]


def test_long_work_pauses(passing: SecondPass) -> None:
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1

    passing.rescore(encode(chain([list(WORDS[:3])] * 6), VOCABULARY), pause)
    assert pauses > 6

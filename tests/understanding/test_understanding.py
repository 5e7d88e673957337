"""Understanding: it is learned, goes on after an interruption, is packed, and runs alike in torch and in the engine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.understanding import training
from edgespeech.understanding.config import NetworkConfig
from edgespeech.understanding.network import Network
from edgespeech.understanding.packing import embedding_bytes, expanded, load_twin, pack_network
from edgespeech.understanding.runtime import Understander
from edgespeech.understanding.scoring import answers, count
from edgespeech.understanding.starting import residual_codes, start_from
from edgespeech.understanding.training import Trained, train
from edgespeech.understanding.vocabulary import Vocabulary
from understanding.helpers_understanding import CODED, DENSE, HASHED, HOW, MATERIAL, ORDERS, learned

SHAPES = {"dense": DENSE, "codes": CODED, "hashed": HASHED}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A trained network of each kind of embedding."""
    folder = tmp_path_factory.mktemp("networks")
    return {name: learned(folder / name, shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_made_set_is_learned_packed_and_understood(
    networks: dict[str, Trained], kind: str, tmp_path: Path
) -> None:
    pack_network(networks[kind], tmp_path / "small.edge")
    twin = load_twin(tmp_path / "small.edge")
    told = answers(twin, "orders", [one.words for one in ORDERS])

    assert count(ORDERS, told).accuracy == 1
    assert count(ORDERS, told).f1 == 1
    with Understander(tmp_path / "small.edge") as native:
        found = native.understand("Paint the Hall white!", "orders")
        assert (found.intent, found.slots) == ("paint", {"room": "hall", "colour": "white"})
        assert native.understand("so long", "chat").intent == "part"
        for one, answer in zip(ORDERS, told, strict=True):
            again = native.understand(one.text, "orders")
            assert again.intent == answer.intent
            assert again.tags == answer.tags
            assert again.probability == pytest.approx(answer.probability, abs=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
def test_engine_and_twin_give_the_same_scores(
    networks: dict[str, Trained], kind: str, tmp_path: Path
) -> None:
    pack_network(networks[kind], tmp_path / "small.edge")
    twin = load_twin(tmp_path / "small.edge")
    words = ["clean", "the", "red", "unheard", "hall", "now", "please", "and", "then", "paint"]
    intents, tags = twin.network(twin.words.numbers(words)[None], "orders")
    with Understander(tmp_path / "small.edge") as native:
        found = native.scores(words, "orders")

    assert tags is not None
    np.testing.assert_array_equal(found[0], intents[0].numpy())
    np.testing.assert_array_equal(found[1], tags[0].numpy())


def test_a_file_of_floats_has_the_vectors_that_codes_give(
    networks: dict[str, Trained], tmp_path: Path
) -> None:
    coded = networks["codes"]
    pack_network(coded, tmp_path / "float.edge", floats=True)
    twin, numbers = load_twin(tmp_path / "float.edge"), coded.words.numbers(ORDERS[0].words)[None]

    torch.testing.assert_close(twin.network(numbers, "orders")[0], coded.network(numbers, "orders")[0])
    assert expanded(coded).network.embedding.table.weight.shape == (len(coded.vocabulary) + 1, 24)
    with pytest.raises(EdgeSpeechError, match="expected codes"):
        Understander(tmp_path / "float.edge")


def test_an_interrupted_run_goes_on_to_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = HOW.model_copy(update={"epochs": 3, "dropout": 0.2, "forget": 0.1})
    whole = learned(tmp_path / "whole", CODED, how)
    leave, left = training._leave, []

    def once(*given: object) -> None:
        leave(*given)  # type: ignore[arg-type]
        left.append(given)
        if len(left) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_leave", once)
    with pytest.raises(KeyboardInterrupt):
        learned(tmp_path / "parts", CODED, how)
    assert len(left) == 2
    again = learned(tmp_path / "parts", CODED, how)

    assert len(left) == 3
    for name, values in whole.network.state_dict().items():
        assert torch.equal(values, again.network.state_dict()[name]), name


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    how = HOW.model_copy(update={"epochs": 1})
    learned(tmp_path, DENSE, how)

    with pytest.raises(EdgeSpeechError, match=r"state\.pt: (not the state|steps)"):
        learned(tmp_path, DENSE, HOW)
    with pytest.raises(EdgeSpeechError, match=r"requests of orders .* expected at least one"):
        train({"orders": []}, DENSE, how, 1, tmp_path / "none")


def test_the_codes_are_learned_with_the_loss() -> None:
    torch.manual_seed(1)
    network = Network(CODED, 9, {"orders": training.schemes_of(MATERIAL)["orders"]})
    network.train()
    intents, _ = network(torch.tensor([[1, 2, 3]]), "orders")
    intents.sum().backward()
    gradient = network.embedding.table.weight.grad

    assert gradient is not None
    touched = gradient.to_dense().abs().sum(dim=1) > 0
    assert touched.tolist() == [False, True, True, True] + [False] * 5


def test_a_vocabulary_survives_its_bytes_and_knows_what_it_lacks() -> None:
    texts = [["a", "b", "a"], ["c", "a"]]
    words = Vocabulary.of(texts, least=1)
    again = Vocabulary.from_bytes(words.to_bytes())

    assert again.numbers(["a", "b", "never"]).tolist() == words.numbers(["a", "b", "never"]).tolist()
    assert words.numbers(["never"]).tolist() == [0]
    assert len({*words.numbers(["a", "b", "c"]).tolist()}) == 3
    assert len(Vocabulary.of(texts, least=2)) == 1
    assert Vocabulary.of(texts, most=1).numbers(["a", "b"]).tolist() == [1, 0]


def test_bytes_of_embeddings_are_those_of_the_file(networks: dict[str, Trained], tmp_path: Path) -> None:
    sizes = {}
    for name, trained in networks.items():
        pack_network(trained, tmp_path / f"{name}.edge")
        tensors = read_edge(tmp_path / f"{name}.edge").tensors
        sizes[name] = sum(
            values.codes.size * values.bits / 8 + values.scales.nbytes
            for key, values in tensors.items()
            if isinstance(values, Codes)
            and (key.startswith(("words.", "embedding.")) or key.endswith("input.weight"))
        )
    for name, trained in networks.items():
        assert embedding_bytes(trained.config, len(trained.vocabulary)) == pytest.approx(sizes[name], abs=1)


def test_bad_files_and_requests_are_refused(networks: dict[str, Trained], tmp_path: Path) -> None:
    path = tmp_path / "small.edge"
    pack_network(networks["dense"], path)
    with Understander(path) as native:
        with pytest.raises(EdgeSpeechError, match=r"scheme is 'music', expected one of chat, orders"):
            native.understand("hello", "music")
        with pytest.raises(EdgeSpeechError, match="at least one word"):
            native.understand(" ... ", "orders")
    file = read_edge(path)
    write_edge(tmp_path / "kind.edge", file.tensors, {**file.meta, "kind": "transducer"})
    with pytest.raises(EdgeSpeechError, match="meta: kind is 'transducer', expected understanding"):
        Understander(tmp_path / "kind.edge")
    less = {name: tensor for name, tensor in file.tensors.items() if name != "forward.input.bias"}
    write_edge(tmp_path / "less.edge", less, file.meta)
    with pytest.raises(EdgeSpeechError, match=r"tensor forward\.input\.bias is None"):
        Understander(tmp_path / "less.edge")
    chat = {"intents": ["greet"], "slots": [], "longer": []}
    changed = {**file.meta, "schemes": {**file.meta["schemes"], "chat": chat}}
    write_edge(tmp_path / "changed.edge", file.tensors, changed)
    with pytest.raises(EdgeSpeechError, match=r"tensor intents\.chat\.bias is \(1, 2\), expected \(1, 1\)"):
        Understander(tmp_path / "changed.edge")
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(EdgeSpeechError):
        Understander(path)


def test_buckets_go_with_hashed_embeddings_alone() -> None:
    with pytest.raises(ValueError, match="buckets with embedding: hashed"):
        NetworkConfig(embedding="dense", width=8, hidden=4, buckets=3)


@pytest.mark.parametrize("kind", ["codes", "narrow", "words", "hashed"])
def test_a_smaller_network_starts_where_the_reference_is(
    networks: dict[str, Trained], kind: str, tmp_path: Path
) -> None:
    shapes = {
        "codes": CODED.model_copy(update={"codebooks": 6, "codewords": 16}),
        "narrow": DENSE.model_copy(update={"width": 10}),
        "words": DENSE.model_copy(update={"words": 10}),
        "hashed": HASHED.model_copy(update={"buckets": 300}),
    }
    counts = Counter(word for some in MATERIAL.values() for one in some for word in one.words)
    start = start_from(networks["dense"], counts, seed=1)
    untrained = HOW.model_copy(update={"epochs": 0})
    made = train(MATERIAL, shapes[kind], untrained, 1, tmp_path, start)
    told = answers(made, "orders", [one.words for one in ORDERS])

    assert count(ORDERS, told).accuracy > 0.8  # 0.5 to 0.8 by chance
    assert count(ORDERS, told).f1 > 0.5  # near 0 by chance


def test_residual_codes_come_nearer_with_every_codebook() -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    last = np.inf
    for codebooks in (1, 2, 4):
        codewords, distances = residual_codes(vectors, codebooks, 8, seed=1)
        books = codewords.reshape(codebooks, 8, 8)
        chosen = distances.argmin(axis=2)
        made = sum(books[book][chosen[:, book]] for book in range(codebooks))
        error = float(((vectors - made) ** 2).mean())
        assert error < 0.8 * last
        last = error


def test_a_reference_of_codes_is_refused(networks: dict[str, Trained], tmp_path: Path) -> None:
    start = HOW.model_copy(update={"epochs": 0})
    with pytest.raises(EdgeSpeechError, match="start: embedding is 'codes', expected dense"):
        train(MATERIAL, DENSE, start, 1, tmp_path, start_from(networks["codes"], {}, seed=1))

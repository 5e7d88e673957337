"""The engine's two branches against the torch model that simulates them, and against itself in pieces and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.branching_config import FastKind
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import Transducer
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.loader import isas
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.pool import StreamPool
from edgespeech.packed.runtime import PackedModel, PackedStream, accept_batch
from edgespeech.packed.simulate import SimulatedBranching, simulate
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from helpers_branching import KINDS, always, tiny_branching
from helpers_packed import features, prune

FRAMES = 120
SQNR_FLOOR_DB = 100.0
"""As of plain models whose matrices are floats, see test_simulated_is_deployed.py."""
CODES = {
    "int8": Encoding(bits=8),
    "4 bits with zeros": Encoding(bits=4, group=64, store="sparse"),
    "codebook": Encoding(bits=3, codebook=True),
}
ARMS = [(kind, per_layer) for kind in KINDS for per_layer in (False, True)]
Floats = NDArray[np.float32]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("branching")
    made: dict[tuple[object, ...], Path] = {}

    def path_of(kind: FastKind = "sparse", encoding: str = "int8", per_layer: bool = False) -> Path:
        key = kind, encoding, per_layer
        if key not in made:
            made[key] = folder / f"{len(made)}.edge"
            trained = tiny_branching(kind, per_layer=per_layer)
            prune(trained.model, 0.4)
            pack(trained, Layout(matrices=CODES[encoding]), made[key])
        return made[key]

    return path_of


def twin_of(model: PackedModel) -> SimulatedBranching:
    assert model.branching is not None
    return simulate(model.config, read_edge(model.path).tensors, model.branching)


def run(
    model: PackedModel, x: Floats, beam: int = 1, ends: tuple[int, ...] = ()
) -> tuple[list[Hypothesis], bytes]:
    """The hypotheses for features that arrive in pieces with these ends, and the decisions."""
    stream = model.open(beam)
    for piece in np.split(x, ends):
        stream.accept(piece)
    found = stream.n_best, stream.decisions.tobytes()
    stream.close()
    return found


def decided(twin: SimulatedBranching, x: Floats) -> NDArray[np.uint8]:
    logits = twin.transcriber.decide(torch.from_numpy(x)[None])[0]
    said: NDArray[np.uint8] = (logits > 0).numpy().astype(np.uint8)
    return said


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize(("kind", "per_layer"), ARMS)
def test_codes_give_the_bits_and_the_decisions_of_the_simulation(
    make: Make, kind: FastKind, per_layer: bool, encoding: str
) -> None:
    x = features(FRAMES)
    for isa in isas():
        with PackedModel(make(kind, encoding, per_layer), isa=isa) as model:
            twin = twin_of(model)
            wanted, _, _ = twin.transcribe(torch.from_numpy(x)[None], torch.tensor([FRAMES]))
            assert np.array_equal(model.transcribe(x), wanted[0].numpy())
            stream = model.open()
            stream.accept(x)
            found = stream.decisions
    assert found.shape == (FRAMES // 4, 2 if per_layer else 1)
    assert np.array_equal(found, decided(twin, x))
    assert 0.1 < found.mean() < 0.9, "an arbitrator that picks one branch proves nothing"


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize(("kind", "per_layer"), ARMS)
def test_floats_come_near_where_decisions_are_equal(
    tmp_path: Path, kind: FastKind, per_layer: bool, bits: int
) -> None:
    """Products of floats add up in another order, so that a logit near 0 may be on either side of it."""
    path = tmp_path / "m.edge"
    pack(tiny_branching(kind, per_layer=per_layer), Layout(matrices=Encoding(bits=bits)), path)
    x = features(FRAMES)
    with PackedModel(path) as model:
        twin = twin_of(model)
        stream = model.open()
        stream.accept(x)
        said, found = stream.decisions, model.transcribe(x)
        logits = twin.transcriber.decide(torch.from_numpy(x)[None])[0].numpy()
        near = np.abs(logits) < 1e-4 * np.abs(logits).max()
        differ = said != (logits > 0)
        assert not (differ & ~near).any()
        mix = torch.from_numpy(said.astype(np.float32))[None]
        wanted, _, _ = twin.transcribe(torch.from_numpy(x)[None], torch.tensor([FRAMES]), mix=mix)
    error = ((found.astype(np.float64) - wanted[0].numpy()) ** 2).sum()
    power = (wanted[0].numpy().astype(np.float64) ** 2).sum()
    assert 10 * np.log10(power / max(error, 1e-30)) > SQNR_FLOOR_DB


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize(("kind", "per_layer"), ARMS)
def test_hypotheses_are_those_of_the_simulation(
    make: Make, kind: FastKind, per_layer: bool, beam: int
) -> None:
    x = features(FRAMES)
    with PackedModel(make(kind, "int8", per_layer)) as model:
        found, _ = run(model, x, beam)
        twin = twin_of(model)
        encoded, _, _ = twin.transcribe(torch.from_numpy(x)[None], torch.tensor([FRAMES]))
    decoder = GreedyDecoder(twin) if beam == 1 else BeamDecoder(twin, beam)
    decoder.accept(encoded[0])
    assert (found[0].labels, found[0].frames) == (decoder.best.labels, decoder.best.frames)
    assert len(set(found[0].labels)) > 2


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize(("kind", "per_layer"), ARMS)
def test_pieces_change_nothing(make: Make, kind: FastKind, per_layer: bool, encoding: str) -> None:
    x = features(FRAMES)
    with PackedModel(make(kind, encoding, per_layer)) as model:
        whole = run(model, x, 3)
        for ends in (tuple(range(1, FRAMES)), (0, 3, 3, 50), tuple(range(12, FRAMES, 12)), (119,)):
            assert run(model, x, 3, ends) == whole


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize(("kind", "per_layer"), ARMS)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_batch_of_streams_with_different_choices_equals_each_alone(
    make: Make, kind: FastKind, per_layer: bool, encoding: str, count: int
) -> None:
    batch = np.stack([features(FRAMES, seed) for seed in range(count)])
    with PackedModel(make(kind, encoding, per_layer)) as model:
        alone = [run(model, x, 1 + n % 2) for n, x in enumerate(batch)]
        streams = [model.open(1 + n % 2) for n in range(count)]
        for start, end in ((0, 2), (2, 2), (2, 14), (14, 90), (90, FRAMES)):
            accept_batch(streams, batch[:, start:end])
        assert [(stream.n_best, stream.decisions.tobytes()) for stream in streams] == alone
    assert len({said for _, said in alone}) == count


def test_a_pool_of_streams_with_different_choices(make: Make) -> None:
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(12_000)).astype(np.float32) for _ in range(9)]
    with PackedModel(make("factorised", "4 bits with zeros")) as model:
        pool = StreamPool(model, 1)
        streams = [pool.open() for _ in sounds]
        for start in range(0, 12_000, 1920):
            for stream, samples in zip(streams, sounds, strict=True):
                stream.accept(samples[start : start + 1920])
            while pool.advance():
                pass
        found = []
        for samples in sounds:
            alone = model.open()
            alone.accept(NativeLogMel().accept(samples))
            found.append(alone.best)
        assert [stream.best for stream in streams] == found


@pytest.mark.parametrize("kind", KINDS)
def test_the_slow_branch_alone_is_the_plain_model(make: Make, tmp_path: Path, kind: FastKind) -> None:
    """Its tensors have the same names, so a model without the fast branch gives the same bits."""
    trained = tiny_branching(kind)
    prune(trained.model, 0.4)
    plain = Transducer(trained.model.config)
    state = trained.model.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    pack(Trained(plain.eval(), trained.tokeniser, {}), Layout(), tmp_path / "plain.edge")
    x = features(FRAMES)
    with PackedModel(make(kind)) as model, PackedModel(tmp_path / "plain.edge") as other:
        stream, wanted = model.open(3, branch="slow"), other.open(3)
        for one in (stream, wanted):
            one.accept(x)
        assert stream.n_best == wanted.n_best
        assert stream.decisions.all()


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_branch_is_an_arbitrator_that_always_picks_it(
    make: Make, tmp_path: Path, kind: FastKind, slow: bool
) -> None:
    trained = always(tiny_branching(kind), slow=slow)
    prune(trained.model, 0.4)
    pack(trained, Layout(), tmp_path / "always.edge")
    x = features(FRAMES)
    with PackedModel(make(kind)) as model, PackedModel(tmp_path / "always.edge") as other:
        stream = model.open(branch="slow" if slow else "fast")
        stream.accept(x)
        assert run(other, x) == ([stream.best], stream.decisions.tobytes())
        assert (stream.decisions == slow).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pivot_from_fast_to_slow_takes_the_state_along(make: Make, kind: FastKind) -> None:
    """Bifocal: fast up to the end of the wake word, then slow, which begins with what the fast branch has heard."""
    x, pivot = features(FRAMES), 15
    with PackedModel(make(kind)) as model:
        twin = twin_of(model)
        stream = model.open(branch="fast")
        stream.accept(x[: 4 * pivot])
        stream.choose("slow")
        stream.accept(x[4 * pivot :])
        mix = torch.zeros(1, FRAMES // 4, 1)
        mix[:, pivot:] = 1
        assert np.array_equal(stream.decisions[:, 0], mix[0, :, 0].numpy())
        encoded, _, _ = twin.transcribe(torch.from_numpy(x)[None], torch.tensor([FRAMES]), mix=mix)
        decoder = GreedyDecoder(twin)
        decoder.accept(encoded[0])
        assert (stream.best.labels, stream.best.frames) == (decoder.best.labels, decoder.best.frames)
        all_slow = model.open(branch="slow")
        all_slow.accept(x)
        assert all_slow.best != stream.best


def test_fixed_and_asked_streams_go_together(make: Make) -> None:
    x = np.stack([features(FRAMES, seed) for seed in range(4)])
    with PackedModel(make("narrow", "4 bits with zeros", True)) as model:

        def opened() -> list[PackedStream]:
            return [model.open(), model.open(branch="slow"), model.open(), model.open(branch="fast")]

        together, alone = opened(), opened()
        for start in (0, 60):
            accept_batch(together, np.ascontiguousarray(x[:, start : start + 60]))
            for stream, own in zip(alone, x, strict=True):
                stream.accept(own[start : start + 60])
            for some in (together, alone):  # then the first is fixed, and the second asks
                some[0].choose("fast")
                some[1].choose(None)
        assert [(s.best, s.decisions.tobytes()) for s in together] == [
            (s.best, s.decisions.tobytes()) for s in alone
        ]
        assert (together[0].decisions[15:] == 0).all()
        assert together[1].decisions[:15].all()
        assert not together[1].decisions[15:].all()


def test_the_simulation_goes_on_from_piece_to_piece(make: Make) -> None:
    x = torch.from_numpy(features(48))[None]
    with PackedModel(make("factorised", "int8", True)) as model:
        twin = twin_of(model)
    whole, _, _ = twin.transcribe(x, torch.tensor([48]))
    first, _, state = twin.transcribe(x[:, :16], torch.tensor([16]))
    second, _, _ = twin.transcribe(x[:, 16:], torch.tensor([32]), state)
    assert torch.equal(torch.cat([first, second], dim=1), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_without_codes_the_simulation_is_the_trained_model(kind: FastKind) -> None:
    trained: TrainedBranching = tiny_branching(kind)
    from edgespeech.packed.pack import pack_tensors

    tensors = pack_tensors(trained.model, Layout(matrices=Encoding(bits=32)))
    twin = simulate(trained.model.config, tensors, trained.model.branching)
    x, lengths = torch.from_numpy(features(48))[None], torch.tensor([48])
    mix = (trained.model.transcriber.decide(x) > 0).float()
    found, wanted = (model.transcribe(x, lengths, mix=mix)[0] for model in (twin, trained.model))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_stream_has_one_state_for_both_branches(make: Make) -> None:
    with PackedModel(make()) as model:
        stream = model.open()
        before = stream.state_bytes
        assert before == 2 * 4 * (2 * 70 + 3) + 66 * 4 + 3 * 4
        stream.accept(features(FRAMES))
        assert stream.state_bytes == before


def test_wrong_branches_are_refused(make: Make, tmp_path: Path) -> None:
    plain = tmp_path / "plain.edge"
    trained = tiny_branching()
    pack(replace(trained, model=Transducer(trained.model.config).eval()), Layout(), plain)  # type: ignore[arg-type]
    with PackedModel(plain) as model:
        assert model.branching is None
        with pytest.raises(EdgeSpeechError, match="the model has one branch, expected two"):
            model.open(branch="slow")
        with pytest.raises(EdgeSpeechError, match="the model has one branch, expected two"):
            _ = model.open().decisions
    with (
        PackedModel(make()) as model,
        pytest.raises(EdgeSpeechError, match="branch is 'quick', expected fast"),
    ):
        model.open(branch="quick")  # type: ignore[arg-type]

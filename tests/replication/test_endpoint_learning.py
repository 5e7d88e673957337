"""Frames, alignment, and the learned scorers, on tiny models."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from replication.endpointing.curves import sweep
from replication.endpointing.listening import Heard, early, frames_of, listen, played
from replication.endpointing.sets import Case, SetConfig, cases, lessons_cases, write_set
from replication.endpointing.training import Lesson, NetworksConfig, lesson, token_loss, train_networks
from safetensors import safe_open
from safetensors.torch import save

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE, EventKind, Samples
from edgespeech.core.labels import BLANK
from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.endpointing.alignment import align, gaps
from edgespeech.endpointing.frames import Frame, FrameStream
from edgespeech.endpointing.networks import (
    ArbitratedScore,
    LearnedScore,
    Networks,
    load_networks,
    new_networks,
    save_networks,
)
from edgespeech.endpointing.policy import Scorer
from edgespeech.endpointing.silence import DecoderSilence
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.upl import upl_s
from edgespeech.model.checkpoint import Trained
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.settings import SearchSettings
from edgespeech.search.streaming import StreamingTranscriber
from edgespeech.synthesis.pauses import Hesitation
from helpers_packed import tiny

JOINER = 66


@pytest.fixture(scope="module")
def trained() -> Trained:
    return tiny()


def noise(seconds: float, seed: int = 0) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(
        np.float32
    )


def test_frames_do_not_depend_on_the_pieces(trained: Trained) -> None:
    samples = noise(1.0)
    whole = FrameStream(trained, GreedyDecoder(trained.model)).accept(samples)
    stream = FrameStream(trained, GreedyDecoder(trained.model))
    pieces = [frame for at in range(0, len(samples), 777) for frame in stream.accept(samples[at : at + 777])]
    assert len(whole) == len(pieces) == 24
    for one, other in zip(whole, pieces, strict=True):
        assert (one.audio_s, one.labels, one.pause_s) == (other.audio_s, other.labels, other.pause_s)
        assert np.array_equal(one.samples, other.samples)
        assert np.allclose(one.encoded, other.encoded, atol=1e-5)
    assert np.array_equal(np.concatenate([one.samples for one in whole]), samples[: 640 * 24 + 120])


def test_frames_come_one_by_one_and_the_rest_is_decoded_at_the_end(trained: Trained) -> None:
    samples = noise(1.0)
    decoder = GreedyDecoder(trained.model)
    stream = FrameStream(trained, decoder)
    labels = []
    for frame in stream.each(samples):
        assert frame.labels == decoder.best.labels
        labels.append(frame.labels)
    whole = FrameStream(trained, GreedyDecoder(trained.model)).accept(samples)
    assert labels == [frame.labels for frame in whole]
    assert stream.state_bytes > 0
    stream.finish()
    transcriber, other = StreamingTranscriber(trained.model), GreedyDecoder(trained.model)
    other.accept(transcriber.accept(samples))
    other.accept(transcriber.finish())
    assert decoder.best == other.best


def test_a_frame_comes_as_soon_as_its_audio_has(trained: Trained) -> None:
    stream = FrameStream(trained, GreedyDecoder(trained.model))
    assert stream.accept(noise(1.0)[:759]) == []
    (frame,) = stream.accept(noise(1.0)[759:760])
    assert frame.audio_s == pytest.approx(760 / SAMPLE_RATE)


def test_the_pause_counts_from_the_last_label(trained: Trained) -> None:
    frames = FrameStream(trained, GreedyDecoder(trained.model)).accept(noise(2.0))
    said = [frame for frame in frames if frame.labels]
    assert said
    assert len(said) < len(frames) or said[0].pause_s == 0
    for frame in frames:
        assert math.isinf(frame.pause_s) == (not frame.labels)
    for before, after in itertools.pairwise(frames):
        if before.labels and after.labels == before.labels:
            assert after.pause_s == pytest.approx(before.pause_s + 0.04)


def brute_force(trained: Trained, samples: Samples, labels: list[int]) -> list[int]:
    """The best of all alignments, each scored by itself."""
    encoded = np.stack([frame.encoded for frame in frames_at_once(trained, samples)])
    predicted = trained.model.predict(torch.tensor([labels]))[0]
    scores = trained.model.join(torch.from_numpy(encoded)[:, None], predicted[None]).log_softmax(-1).double()
    steps, best, found = len(encoded), -math.inf, []
    for frames in itertools.combinations_with_replacement(range(steps), len(labels)):
        total, u = 0.0, 0
        for t in range(steps):
            while u < len(labels) and frames[u] == t:
                total += float(scores[t, u, labels[u]])
                u += 1
            if t < steps - 1:
                total += float(scores[t, u, BLANK])
        if total > best:
            best, found = total, list(frames)
    return found


def frames_at_once(trained: Trained, samples: Samples) -> list[Frame]:
    return FrameStream(trained, GreedyDecoder(trained.model)).accept(samples)


@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_likeliest_of_all(trained: Trained, seed: int) -> None:
    samples = noise(7 * 0.04 + 0.0075, seed)  # exactly seven frames
    labels = [5 + seed, 9, 12]
    assert align(trained, samples, labels) == brute_force(trained, samples, labels)


def test_words_meet_between_their_pieces(trained: Trained) -> None:
    samples = noise(1.0)
    found = gaps(trained, samples, "turn on the light")
    labels = trained.tokeniser.encode("turn on the light")
    frames = align(trained, samples, labels)
    starts = [n for n, label in enumerate(labels) if trained.tokeniser.pieces[label].startswith("\u2581")]
    assert len(found) == 3
    assert [low for low, _ in found] == pytest.approx([0.04 * frames[n - 1] for n in starts[1:]])
    assert [high for _, high in found] == pytest.approx([0.04 * (frames[n] + 1) for n in starts[1:]])
    with pytest.raises(EdgeSpeechError, match="frames"):
        align(trained, noise(0.02), [5])


def test_the_token_loss_is_that_of_all_places_with_their_penalties() -> None:
    logits = torch.tensor([[-1.0, 0.5, 2.0], [0.3, -0.2, 9.0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    late_s = torch.tensor([[-0.2, 0.1, 0.4], [-0.1, 0.3, 0.0]])
    expected = []
    for row in range(2):
        total, none = 0.0, 1.0
        for column in range(3 if row == 0 else 2):
            p = 1 / (1 + math.exp(-float(logits[row, column])))
            late = float(late_s[row, column])
            total += none * p * math.exp(-10 * max(0, -late) - 4 * max(0, late - 0.2))
            none *= 1 - p
        expected.append(-math.log(total))
    found = token_loss(logits, valid, late_s, early=10, late=4, buffer_s=0.2)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def toy_frames(rng: np.random.Generator) -> tuple[list[Frame], float]:
    """An utterance whose transcription tells by one number whether it is over, which pauses once; and its end."""
    length, over = 40, int(rng.integers(15, 25))
    encoded = rng.standard_normal((length, 8)).astype(np.float32)
    encoded[:, 0] = np.where(np.arange(length) >= over, 2.0, -2.0)
    frames = [
        Frame(
            audio_s=0.04 * (place + 1),
            samples=np.zeros(640, np.float32),
            encoded=encoded[place],
            labels=(3,) if place < over else (3, 4),
            pause_s=0.2 if place >= over or 5 <= place < 9 else 0.0,
        )
        for place in range(length)
    ]
    return frames, 0.04 * over


def toy_lessons(count: int) -> list[Lesson]:
    rng = np.random.default_rng(0)
    return [lesson(frames, eos_s, after_s=9.0) for frames, eos_s in (toy_frames(rng) for _ in range(count))]


@pytest.fixture(scope="module")
def networks() -> Networks:
    made = new_networks(8, 10, 8, "abc", seed=0)
    config = NetworksConfig(hidden=8, epochs=20, batch=8, learning_rate=0.02)
    losses = train_networks(made, toy_lessons(32), config, seed=0)
    assert set(losses) == {"learned", "token", "arbitrator"}
    assert losses["learned"] < 0.3
    assert losses["arbitrator"] < 0.3
    return made


def test_what_was_learned_tells_the_end(networks: Networks) -> None:
    frames, eos_s = toy_frames(np.random.default_rng(99))
    over = round(eos_s / 0.04)
    for scorer in (
        LearnedScore(networks.learned),
        LearnedScore(networks.token),
        ArbitratedScore(DecoderSilence(), 0.1, networks.arbitrator),
    ):
        scores = [scorer.accept(frame) for frame in frames]
        assert max(scores[:over]) < 0.5 < max(scores[over : over + 6])
    assert scores[0] == 0.0  # the second pass is not asked while there is no silence


def test_streamed_scores_are_those_of_the_whole_utterance(networks: Networks) -> None:
    frames, eos_s = toy_frames(np.random.default_rng(99))
    told = lesson(frames, eos_s, after_s=9.0)
    scorer = LearnedScore(networks.learned)
    streamed = [scorer.accept(frame) for frame in frames]
    with torch.inference_mode():
        logits, _ = networks.learned(
            torch.from_numpy(told.encoded)[None].float(),
            torch.from_numpy(told.extra)[None],
            torch.from_numpy(told.last)[None],
        )
    assert streamed == pytest.approx(logits[0].sigmoid().tolist(), abs=3e-3)  # lessons are in half precision


def test_training_again_gives_the_same_weights() -> None:
    kept = []
    for _ in range(2):
        made = new_networks(8, 10, 4, "abc", seed=1)
        train_networks(made, toy_lessons(8), NetworksConfig(hidden=4, epochs=2, batch=4), seed=1)
        kept.append(made.token.leave.weight)
    assert torch.equal(*kept)


def test_networks_come_back_from_their_file(networks: Networks, tmp_path: Path) -> None:
    path = tmp_path / "networks.safetensors"
    networks.provenance["utterances"] = "32"
    save_networks(path, networks)
    found = load_networks(path, "abc")
    assert found.provenance == {"utterances": "32"}
    for name, network in found.named().items():
        own = networks.named()[name].state_dict()
        assert all(torch.equal(value, own[key].half().float()) for key, value in network.state_dict().items())
    with pytest.raises(EdgeSpeechError, match="train the networks again"):
        load_networks(path, "other")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EdgeSpeechError, match="not a readable file"):
        load_networks(path, "abc")
    with pytest.raises(EdgeSpeechError, match="not a readable file"):
        load_networks(tmp_path / "none", "abc")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("shape", None, "shape is None"),
        ("shape", {"joiner": 8, "vocabulary": 10, "decoder": True}, r"shape\.hidden is missing"),
        (
            "shape",
            {"joiner": 8, "vocabulary": 10, "hidden": 60_000, "decoder": True},
            "shape of learned.leave",
        ),
        ("shape", {"joiner": 8, "vocabulary": 10, "hidden": 10**9, "decoder": True}, r"shape\.hidden is 10"),
        ("thresholds", [0.5], "thresholds is "),
        ("thresholds", [0.5, float("nan")], r"thresholds\.1 is nan"),
        ("recogniser", None, "recogniser is None"),
        ("provenance", 1, "provenance is 1"),
        ("more", 1, "unknown key 'more'"),
    ],
)
def test_networks_with_a_wrong_field(
    networks: Networks, tmp_path: Path, field: str, value: object, problem: str
) -> None:
    path = tmp_path / "networks.safetensors"
    save_networks(path, networks)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["edgespeech"])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a mapping)
    path.write_bytes(save(tensors, {"edgespeech": json.dumps({**about, field: value})}))
    with pytest.raises(EdgeSpeechError, match=problem):
        load_networks(path, "abc")


def test_networks_that_are_not_finite(networks: Networks, tmp_path: Path) -> None:
    path = tmp_path / "networks.safetensors"
    networks.token.leave.weight.data[0, 0] = float("nan")
    save_networks(path, networks)
    networks.token.leave.weight.data[0, 0] = 0.0
    with pytest.raises(EdgeSpeechError, match=r"tensor token\.leave\.weight is nan, expected finite values"):
        load_networks(path, "abc")


def test_a_lesson_ends_some_time_after_the_speech() -> None:
    frames, _ = toy_frames(np.random.default_rng(0))
    told = lesson(frames, eos_s=0.5, after_s=0.3)
    assert told.audio_s[-1] == pytest.approx(0.8)
    assert len(told.encoded) == len(told.labels) == 20
    with pytest.raises(EdgeSpeechError, match="audio"):
        lesson(frames, eos_s=2.0, after_s=0.3)
    with pytest.raises(EdgeSpeechError, match="lessons"):
        train_networks(new_networks(8, 10, 4, "abc", seed=1), [], NetworksConfig(), seed=0)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two utterances of noise that tell their end of speech, and one that does not."""
    utterances = []
    for number, eos_s in enumerate([0.8, 0.9, None]):
        write_audio(tmp_path / f"{number}.flac", noise(1.0, number))
        utterances.append(
            Utterance(
                id=f"u{number}", audio_filepath=f"{number}.flac", duration=1.0, text="play", eos_s=eos_s
            )
        )
    write_manifest(tmp_path / "m.jsonl", utterances)
    return load_manifest(tmp_path / "m.jsonl")


def test_a_set_has_every_utterance_with_every_noise(
    trained: Trained, manifest: Manifest, tmp_path: Path
) -> None:
    plain = list(cases(manifest, SetConfig(corpus="m"), trained, {}, seed=0))
    assert [(case.id, case.condition, case.eos_s) for case in plain] == [("u0", "", 0.8), ("u1", "", 0.9)]
    assert len(plain[0].samples) == SAMPLE_RATE
    what = SetConfig(corpus="m", hesitation=Hesitation(), snr_db=(20.0, 5.0))
    made = list(cases(manifest, what, trained, {"hiss": noise(1.0, 7)}, seed=0))
    assert [case.id for case in made] == ["u0-20dB", "u0-5dB", "u1-20dB", "u1-5dB"]
    assert all(len(case.samples) / SAMPLE_RATE > case.eos_s + 1.99 for case in made)
    written = load_manifest(write_set(tmp_path / "out", "toy", made))
    assert [item.eos_s for item in written.utterances] == pytest.approx([case.eos_s for case in made])


def test_lessons_keep_their_length_or_are_refused(trained: Trained, manifest: Manifest) -> None:
    still = AugmentConfig(speed_prob=0, room_prob=0, silence_before_s=(0, 0), silence_after_s=(0, 0))
    made = list(lessons_cases(manifest, Hesitation(), trained, Augmenter(still, {}, 0), seed=0))
    assert [case.condition for case in made] == ["augmented"] * 2
    gated = list(lessons_cases(manifest, Hesitation(), trained, Augmenter(still, {}, 0), seed=0, gate=1.0))
    for case, open_case in zip(gated, made, strict=True):
        late = round((case.eos_s + 0.41) * SAMPLE_RATE)
        assert not case.samples[late:].any()
        assert open_case.samples[late:].any()
        middle = slice(round(case.sos_s * SAMPLE_RATE), round((case.sos_s + 0.1) * SAMPLE_RATE))
        assert np.array_equal(case.samples[middle], open_case.samples[middle])
    moved = AugmentConfig(room_prob=0)
    with pytest.raises(EdgeSpeechError, match="would move"):
        list(lessons_cases(manifest, Hesitation(), trained, Augmenter(moved, {}, 0), seed=0))


class Counting(Scorer):
    """Counts its frames."""

    def __init__(self) -> None:
        self._count = 0.0

    def accept(self, frame: Frame) -> float:
        self._count += 1
        return self._count


def test_what_is_played_is_what_was_swept(trained: Trained) -> None:
    case = Case(id="a", condition="", text="", speaker=None, samples=noise(1.0), sos_s=0.0, eos_s=0.5)
    heard = listen(trained, SearchSettings(beam=2), case, {"count": Counting, "decoder": DecoderSilence})
    assert (
        len(heard.audio_s) == len(heard.texts) == len(frames_of(trained, SearchSettings(beam=2), case)) == 24
    )
    found = sweep([heard.of("count")], chunk_s=0.12)
    timeline = played(heard, ("count", float(found.thresholds[9])), chunk_s=0.12)
    end, final = timeline.events
    assert (end.event.kind, final.event.kind) == (EventKind.ENDPOINT, EventKind.FINAL)
    assert end.t_s - 0.5 == pytest.approx(found.latency_s[0, 9])
    assert final.event.text == heard.texts[9]
    never = played(heard, ("count", 99.0), chunk_s=0.12)
    assert [one.event.kind for one in never.events] == [EventKind.FINAL]
    assert never.events[0].t_s == 1.0


def test_speculation_is_confirmed_or_reset() -> None:
    samples = np.zeros(0, np.float32)
    case = Case(id="a", condition="", text="", speaker=None, samples=samples, sos_s=0.0, eos_s=0.5)
    said = ["", *["play"] * 9, *["play some"] * 20]
    heard = Heard(
        case=case,
        duration_s=1.3,
        audio_s=np.arange(1, 31, dtype=np.float64) * 0.04,
        pause_s=np.zeros(30),
        texts=tuple(said),
        scores={"count": np.arange(30.0)},
        compute_s={"count": 0.0},
    )
    kept = played(heard, ("count", 20.0), ("count", 14.0), chunk_s=0.04)
    assert [one.event.kind for one in kept.events] == [
        EventKind.SPECULATIVE,
        EventKind.ENDPOINT,
        EventKind.FINAL,
    ]
    found = early([kept])
    assert (found.confirmed, found.published, found.resets) == (1.0, 1.0, 0.0)
    assert found.advance_s == pytest.approx(0.24)
    revised = played(heard, ("count", 20.0), ("count", 5.0), chunk_s=0.04)
    kinds = [one.event.kind for one in revised.events]
    again = [EventKind.SPECULATIVE, EventKind.RESET, EventKind.SPECULATIVE]
    assert kinds == [*again, EventKind.ENDPOINT, EventKind.FINAL]
    assert revised.events[1].t_s == revised.events[2].t_s == pytest.approx(0.44)
    found = early([kept, revised])
    assert (found.confirmed, found.resets) == (0.5, 0.5)
    assert upl_s(revised, 0.5) == pytest.approx(0.44 - 0.5)
    assert upl_s(played(heard, ("count", 20.0), chunk_s=0.04), 0.5) == pytest.approx(0.84 - 0.5)

"""The teacher: its features on disk, their place in time, its loss, and a run that learns from a stand-in."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgespeech.audio.augment import Augmenter, Timing
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.manifest import load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transcriber
from edgespeech.training import teacher as teachers
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import LOG, MODEL, STATE, train
from edgespeech.training.taught import between_rows, learn_from, store_folder, teacher_rows
from edgespeech.training.teacher import Taught, TeacherHead, TeacherKind, rows_of
from edgespeech.training.teacher_store import BASIS, FEATURES, INDEX, TeacherStore, fit_basis
from helpers_teacher import NAME, StandIn

Make = Callable[..., TrainConfig]
DIMS = 6


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    one = StandIn()
    monkeypatch.setitem(teachers.TEACHERS, NAME, TeacherKind(lambda: None, lambda: one))
    return one


TEACH: dict[str, Any] = {"name": NAME, "layer": 1, "dims": DIMS, "delay_frames": 1}


def noise(seconds: float, seed: int = 0) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(
        np.float32
    )


AUDIO = {f"{n:064x}": partial(noise, 0.3 + 0.1 * n, n) for n in range(5)}


def filled(folder: Path) -> TeacherStore:
    store = TeacherStore(folder, NAME, DIMS)
    store.fill(AUDIO, StandIn, quiet=True)
    return store


def test_the_store_returns_the_teachers_features(tmp_path: Path) -> None:
    store, one = filled(tmp_path / "store"), StandIn()
    spans, basis = store.spans(), store.basis
    wide = TeacherStore(tmp_path / "wide", NAME, StandIn.width)
    wide_spans = wide.fill(AUDIO, StandIn, quiet=True)
    for key, audio in AUDIO.items():
        features = one.features(audio())
        assert spans[key][1] == len(features) == rows_of(audio().size, 0.02)
        # Without a dimension left out, only the rounding to 8 bits is lost.
        full = wide.basis
        back = wide.rows(wide_spans[key]) / 32 * full.deviation @ full.components.T / full.scale + full.mean
        assert np.abs(back - features).max() < 0.4
        assert np.sqrt(np.mean((back - features) ** 2)) < 0.05 * features.std()
    values = np.concatenate([basis.restore(store.rows(span)) for span in spans.values()])
    assert np.mean(values**2) == pytest.approx(1, abs=0.05)
    assert 0.3 < float(basis.about["variance"]) < float(wide.basis.about["variance"]) == pytest.approx(1)
    assert (tmp_path / "store" / FEATURES).stat().st_size == DIMS * sum(rows for _, rows in spans.values())


def test_the_components_are_those_of_the_singular_value_decomposition() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 8)) @ np.random.default_rng(1).standard_normal(
        (8, 8)
    )
    basis = fit_basis([rows.astype(np.float32)], 3, {})
    normal = (rows - rows.mean(0)) / rows.std(0)
    _, singular, vectors = np.linalg.svd(normal, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(basis.components * vectors[:3].T, 0)), 1, rtol=1e-4)
    np.testing.assert_allclose(basis.deviation, singular[:3] / np.sqrt(200), rtol=1e-4)


def test_what_is_there_is_not_made_again_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    whole, one = filled(tmp_path / "whole"), StandIn()
    some = dict(list(AUDIO.items())[:3])
    store = TeacherStore(folder, NAME, DIMS)
    (folder / BASIS).parent.mkdir()
    (folder / BASIS).write_bytes((tmp_path / "whole" / BASIS).read_bytes())
    store.fill(some, lambda: one, quiet=True)
    assert one.asked == 3
    with (folder / FEATURES).open("ab") as features, (folder / INDEX).open("ab") as index:
        features.write(b"\1" * 17)  # killed between the rows and the end of their line
        index.write(b'{"audio": "00')
    spans = store.fill(AUDIO, lambda: one, quiet=True)
    assert one.asked == 5
    assert spans == whole.spans()
    assert (folder / FEATURES).read_bytes() == (tmp_path / "whole" / FEATURES).read_bytes()

    def gone() -> StandIn:
        raise AssertionError("nothing is missing: the teacher is not needed")

    assert store.fill(AUDIO, gone, quiet=True) == spans


def test_a_store_that_is_cut_short_or_damaged_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    content = (tmp_path / FEATURES).read_bytes()
    (tmp_path / FEATURES).write_bytes(content[:-1])
    size = f"bytes is {len(content) - 1}, expected {len(content)} or more"
    with pytest.raises(EdgeSpeechError, match=f"{FEATURES}: {size}.*cut short"):
        store.fill(AUDIO, StandIn, quiet=True)
    (tmp_path / FEATURES).write_bytes(content)
    lines = (tmp_path / INDEX).read_bytes()
    (tmp_path / INDEX).write_bytes(b"nonsense\n" + lines)
    with pytest.raises(EdgeSpeechError, match=f"{INDEX}: line 1"):
        store.fill(AUDIO, StandIn, quiet=True)
    (tmp_path / INDEX).write_bytes(lines)
    (tmp_path / BASIS).write_bytes(b"nonsense")
    with pytest.raises(EdgeSpeechError, match=f"{BASIS}: not a readable store"):
        store.fill(AUDIO, StandIn, quiet=True)


@pytest.mark.parametrize(
    ("name", "dims", "other", "said"),
    [
        (NAME, DIMS, StandIn(sha256="b" * 64), f"teacher_sha256 is '{'a' * 64}', expected {'b' * 64}"),
        (NAME, DIMS, StandIn(frame_s=0.04), r"frame_s is '0.02', expected 0.04"),
        ("another", DIMS, StandIn(), "teacher is 'stand-in', expected another"),
        (NAME, DIMS + 1, StandIn(), "dims is '6', expected 7"),
    ],
)
def test_a_store_of_another_teacher_or_frame_is_refused(
    tmp_path: Path, name: str, dims: int, other: StandIn, said: str
) -> None:
    filled(tmp_path)
    more = {**AUDIO, "f" * 64: partial(noise, 0.5, 9)}
    before = (tmp_path / FEATURES).read_bytes()
    with pytest.raises(EdgeSpeechError, match=said):
        TeacherStore(tmp_path, name, dims).fill(more, lambda: other, quiet=True)
    assert (tmp_path / FEATURES).read_bytes() == before


def test_more_numbers_than_the_teacher_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"dims is 25, expected at most 24, as stand-in has"):
        TeacherStore(tmp_path, NAME, 25).fill(AUDIO, StandIn, quiet=True)


def test_targets_follow_silence_speed_and_delay() -> None:
    """A ramp as features: the target of a frame is the clean moment that the frame is about."""
    rows = np.arange(100, dtype=np.int8)[:, None]
    plain, inside = between_rows(rows, teacher_rows(50, 0.04, 0.02, Timing(0, 1.0), 0))
    np.testing.assert_allclose(plain[:49, 0], 2 * np.arange(49) + 1, rtol=1e-5)
    assert inside.tolist() == [True] * 50
    later, inside = between_rows(rows, teacher_rows(50, 0.04, 0.02, Timing(0, 1.0), 3))
    np.testing.assert_allclose(later[3:, 0], plain[:-3, 0])
    assert inside.tolist() == [False] * 3 + [True] * 47
    padded, inside = between_rows(
        rows, teacher_rows(50, 0.04, 0.02, Timing(round(0.4 * SAMPLE_RATE), 1.0), 0)
    )
    np.testing.assert_allclose(padded[10:, 0], plain[:-10, 0], rtol=1e-5)
    assert not inside[:10].any()
    fast, inside = between_rows(rows, teacher_rows(50, 0.04, 0.02, Timing(0, 1.25), 0))
    np.testing.assert_allclose(fast[:39, 0], 1.25 * plain[:39, 0], rtol=1e-5)
    assert inside.sum() == 40
    assert not fast[40:].any()


def test_the_augmenter_says_how_it_moved_an_utterance() -> None:
    """A click at a known moment of the clean audio is where the timing says."""
    config = AugmentConfig.from_mapping(
        {"speed_prob": 1.0, "room_prob": 0.0, "noise_prob": 0.0, "eq_prob": 0.0, "floor_prob": 0.0,
         "clip_prob": 0.0, "pitch_prob": 0.0, "silence_before_s": (0.1, 0.5)}
    )  # fmt: skip
    augmenter = Augmenter(config, {}, 3)
    for number in range(5):
        clean = np.zeros(SAMPLE_RATE, np.float32)
        clean[11000:11020] = 0.9
        clean += 1e-3 * noise(1.0, number)
        heard, timing = augmenter.timed(clean, key=str(number))
        np.testing.assert_array_equal(heard, augmenter(clean, key=str(number)))
        click = float(np.abs(heard).argmax())
        assert (click - timing.before) * timing.speed == pytest.approx(11010, abs=40)
        assert 0.1 * SAMPLE_RATE <= timing.before <= 0.5 * SAMPLE_RATE


def transcriber() -> Transcriber:
    torch.manual_seed(0)
    return Transcriber(ModelConfig(vocabulary=8, layers=3, hidden=12, joiner=10, dropout=0.0))


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(EdgeSpeechError, match="1 to 3"):
        TeacherHead(transcriber(), layer, 4, "cosine")


@torch.no_grad()
@pytest.mark.parametrize(("loss", "l1"), [("cosine", 0.0), ("l1_cosine", 1.0)])
def test_the_loss_is_that_of_its_formula_over_known_frames(loss: teachers.TeacherLoss, l1: float) -> None:
    model = transcriber()
    head = TeacherHead(model, 3, 4, loss)
    seen: list[torch.Tensor] = []
    model.leave[0].register_forward_hook(lambda _module, _given, out: seen.append(out))
    model(torch.randn(2, 40, 80), torch.tensor([40, 32]))
    targets, known = torch.randn(2, 10, 4), torch.arange(10) < torch.tensor([[7], [3]])
    found = head(Taught(targets, known, 1.0))
    expected = 0.0
    for row, count in ((0, 7), (1, 3)):
        for frame in range(count):
            out, target = head.out(seen[0][row, frame]), targets[row, frame]
            cosine = float(out @ target / (out.norm() * target.norm()))
            expected += 1 - cosine + l1 * float((out - target).abs().mean())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_head_teaches_the_layers_below_it_alone() -> None:
    model = transcriber()
    head = TeacherHead(model, 2, 4, "l1_cosine")
    model(torch.randn(2, 40, 80), torch.tensor([40, 32]))
    head(Taught(torch.randn(2, 10, 4), torch.ones(2, 10, dtype=torch.bool), 1.0)).backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert any(name.startswith("lstms.1") for name in taught)
    assert not any(name.startswith(("lstms.2", "leave")) for name in taught)


def logged(folder: Path, field: str) -> list[float]:
    return [json.loads(line)[field] for line in (folder / LOG).read_text().splitlines()]


def test_a_run_learns_from_the_teacher_and_ships_nothing_of_it(
    settings: Make, tmp_path: Path, teacher: StandIn
) -> None:
    config = settings(
        teacher=TEACH, steps=40, learning_rate=0.02, warmup_steps=5, batch_s=20.0, save_every=40
    )
    train(config, tmp_path / "run", until=1)
    train(config, tmp_path / "run")
    first, last = logged(tmp_path / "run", "teacher")[0], logged(tmp_path / "run", "teacher")[-1]
    assert 0 < last < 0.8 * first
    shipped = load_file(tmp_path / "run" / MODEL / "model.safetensors")
    assert not any("teacher" in name for name in shipped)
    assert any(name.startswith("model.teacher.") for name in load_file(tmp_path / "run" / STATE))
    assert teacher.asked <= 32, "each utterance once for the components and once for the store"


def test_stopped_and_taken_up_again_is_bit_for_bit_the_same(
    settings: Make, tmp_path: Path, teacher: StandIn
) -> None:
    config = settings(teacher=TEACH)
    train(config, tmp_path / "whole", quiet=True)
    for until in (3, None):
        train(config, tmp_path / "parts", until=until, quiet=True)
    one, two = load_file(tmp_path / "whole" / STATE), load_file(tmp_path / "parts" / STATE)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_audio_without_words_teaches(settings: Make, tmp_path: Path, corpus: Path, teacher: StandIn) -> None:
    half = load_manifest(corpus).utterances
    wordless = corpus.parent / "wordless.jsonl"
    write_manifest(wordless, [one.model_copy(update={"text": ""}) for one in half[:8]])
    write_manifest(corpus, list(half[8:]))
    speech = [{"corpus": str(corpus)}, {"corpus": str(wordless), "teacher_only": True}]
    config = settings(speech=speech, teacher=TEACH, batch_s=2.0, steps=12)
    train(config, tmp_path / "run")
    assert logged(tmp_path / "run", "teacher")[-1] > 0


def test_without_the_teacher_nothing_changes_but_what_it_teaches(
    settings: Make, tmp_path: Path, teacher: StandIn
) -> None:
    """The control arm has the same start, batches and draws: a teacher without weight trains the same model."""
    model = {**settings().model, "layers": 2}
    train(settings(model=model, clip=1e9), tmp_path / "none", quiet=True)
    # The least weight that the file takes: its gradients are lost in those of the transducer.
    slight = {**TEACH, "weight": 1e-30}
    train(settings(model=model, clip=1e9, teacher=slight), tmp_path / "slight", quiet=True)
    one, two = (load_file(tmp_path / name / MODEL / "model.safetensors") for name in ("none", "slight"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_teacher_that_is_not_here_is_refused_before_anything_is_written(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        teachers.TEACHERS, NAME, TeacherKind(lambda: "no weights of stand-in", lambda: StandIn())
    )
    with pytest.raises(EdgeSpeechError, match="teacher stand-in is not available: no weights of stand-in"):
        train(settings(teacher=TEACH), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_another_store_on_resume_is_refused(settings: Make, tmp_path: Path, teacher: StandIn) -> None:
    config = settings(teacher=TEACH)
    train(config, tmp_path / "run", until=3, quiet=True)
    assert config.teacher is not None
    for file in store_folder(config.teacher).iterdir():
        file.unlink()
    teacher.sha256 = "c" * 64
    with pytest.raises(EdgeSpeechError, match="belongs to another speech"):
        train(config, tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": {**TEACH, "name": "whisper-large"}}, "name is 'whisper-large', expected one of"),
        ({"teacher": {**TEACH, "weight": 0}}, "weight"),
        ({"teacher": {**TEACH, "delay_frames": -1}}, "delay_frames"),
        ({"teacher": {**TEACH, "loss": "l2"}}, "loss"),
        (
            {"speech": [{"corpus": "a"}, {"corpus": "b", "teacher_only": True}]},
            "teacher_only: expects the loss",
        ),
        ({"speech": [{"corpus": "a", "teacher_only": True}], "teacher": TEACH}, "whose words are learned"),
    ],
)
def test_wrong_settings_are_refused(
    settings: Make, teacher: StandIn, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((EdgeSpeechError, ValueError), match=re.escape(said)):
        settings(**changes)


def test_the_same_audio_is_stored_once(settings: Make, corpus: Path, teacher: StandIn) -> None:
    from edgespeech.training.config import Teach
    from edgespeech.training.speech import load_speech

    config = settings(teacher=TEACH)
    speech = load_speech(config.speech, longest_s=25)
    lessons = learn_from(Teach.model_validate(TEACH), speech, 0.04, quiet=True)
    keys = {speech.audio_sha256(item) for item in speech.items}
    assert len(keys) < len(speech.items), "the corpus has utterances of the same words"
    lines = (store_folder(Teach.model_validate(TEACH)) / INDEX).read_text().splitlines()
    assert len(lines) == len(keys)
    assert lessons.dims == DIMS

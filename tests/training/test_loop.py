"""The loop: it learns, it goes on after a kill, processes agree, and what is wrong stops it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from edgespeech.core.files import write_atomic
from edgespeech.corpora.manifest import load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model import loss as loss_module
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.training import loop
from edgespeech.training import losses as step_losses
from edgespeech.training.batches import Batches
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import LOG, MODEL, STATE, train
from edgespeech.training.losses import losses_of
from edgespeech.training.precision import faster_precision
from edgespeech.training.processes import Processes
from edgespeech.training.progress import forget_after
from edgespeech.training.sounds import SoundsHead, ctc_sum
from edgespeech.training.speech import encode_items, load_speech

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]


def same(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(settings: Make, tmp_path: Path) -> None:
    config = settings(steps=36, learning_rate=0.02, warmup_steps=5, batch_s=20.0, save_every=36)
    train(config.model_copy(update={"steps": 36}), tmp_path / "run", until=2, quiet=False)
    train(config, tmp_path / "run")
    first, last = losses(tmp_path / "run")[0], losses(tmp_path / "run")[-1]
    assert last < 0.6 * first
    read = load_model(tmp_path / "run" / MODEL)
    assert read.provenance["step"] == "36"
    assert read.provenance["utterances"] == "16"


STAGED: dict[str, Any] = {"ctc_only_steps": 4, "sounds": {"layer": 1, "weight": 0.5}}
"""Settings of a run that starts with the transcriber alone and listens to a lower layer."""


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, STAGED])
def test_stopped_and_taken_up_again_is_bit_for_bit_the_same(
    settings: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = {**settings().model, "layers": 2}
    config = settings(**changes, model=model, clean_steps=2, ramp_steps=4)
    train(config, tmp_path / "whole", quiet=True)
    for until in (3, 5, None):
        train(config, tmp_path / "parts", until=until, quiet=True)
    assert same(tmp_path / "whole" / STATE, tmp_path / "parts" / STATE)
    assert same(tmp_path / "whole" / MODEL / WEIGHTS, tmp_path / "parts" / MODEL / WEIGHTS)


def test_the_transcriber_learns_alone_first(settings: Make, tmp_path: Path) -> None:
    config = settings(**STAGED, model={**settings().model, "layers": 2}, weight_decay=0.0)
    train(config, tmp_path / "run", until=1)
    first = load_file(tmp_path / "run" / STATE)
    train(config, tmp_path / "run", until=4)
    before, fourth = losses(tmp_path / "run"), load_file(tmp_path / "run" / STATE)
    train(config, tmp_path / "run")
    whole = load_file(tmp_path / "run" / STATE)
    assert set(before) == {0.0}
    assert losses(tmp_path / "run")[-1] > 0
    for name in ("model.model.predictor.embedding.weight", "model.model.joiner.weight"):
        assert torch.equal(fourth[name], first[name])
        assert not torch.equal(whole[name], first[name])
    for name in ("model.model.transcriber.enter.weight", "model.sounds.out.weight"):
        assert not torch.equal(fourth[name], first[name])
    assert not any("sounds" in name for name in load_file(tmp_path / "run" / MODEL / WEIGHTS))


def test_a_kill_loses_only_the_steps_since_the_checkpoint(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings()
    train(config, tmp_path / "whole", quiet=True)
    update, calls = loop._update, []

    def killed(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(loop, "_update", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", quiet=True)
    monkeypatch.undo()
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    train(config, tmp_path / "killed", quiet=True)
    assert same(tmp_path / "whole" / STATE, tmp_path / "killed" / STATE)


def test_two_processes_take_the_steps_of_one(settings: Make, tmp_path: Path) -> None:
    config = settings(model={**settings().model, "dropout": 0.0})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from edgespeech.training.config import load_train_config\n"
        "from edgespeech.training.loop import train\n"
        "torch.set_num_threads(1)\n"
        "train(load_train_config(Path(sys.argv[1])), Path(sys.argv[2]), quiet=True)\n"
    )
    (tmp_path / "go.py").write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    subprocess.run(
        [*command, str(tmp_path / "go.py"), str(tmp_path / "run.yaml"), str(tmp_path / "two")],
        check=True,
        env=environment,
        capture_output=True,
        timeout=240,
    )
    train(config, tmp_path / "one", quiet=True)
    one, two = load_file(tmp_path / "one" / MODEL / WEIGHTS), load_file(tmp_path / "two" / MODEL / WEIGHTS)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_with_the_utterances(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def broken(*arguments: object, **options: object) -> torch.Tensor:
        calls.append(1)
        value = loss_module.transducer_loss(*arguments, **options)  # type: ignore[arg-type]  # as they came
        return value * float("nan") if len(calls) == 5 else value

    monkeypatch.setattr(step_losses, "transducer_loss", broken)
    with pytest.raises(EdgeSpeechError, match=r"failed\.json: step 4: loss nan"):
        train(settings(), tmp_path / "run", quiet=True)
    told = json.loads((tmp_path / "run" / "failed.json").read_text())
    assert told["step"] == 4
    assert told["ids"]
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / "run" / STATE).values())


def test_changed_speech_is_refused(settings: Make, tmp_path: Path, corpus: Path) -> None:
    train(settings(), tmp_path / "run", until=3, quiet=True)
    manifest = load_manifest(corpus)
    write_manifest(corpus, list(manifest.utterances)[:-1])
    before = (tmp_path / "run" / STATE).read_bytes()
    with pytest.raises(EdgeSpeechError, match="belongs to another speech"):
        train(settings(), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / STATE).read_bytes() == before


def test_a_changed_run_is_refused(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "run", until=3, quiet=True)
    with pytest.raises(EdgeSpeechError, match="belongs to another config"):
        train(settings(learning_rate=0.5), tmp_path / "run", quiet=True)


def test_a_damaged_state_is_refused(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "run", until=3, quiet=True)
    data = (tmp_path / "run" / STATE).read_bytes()
    (tmp_path / "run" / STATE).write_bytes(data[:1000])
    with pytest.raises(EdgeSpeechError, match="not a readable training state"):
        train(settings(), tmp_path / "run", quiet=True)


def test_a_run_ends_before_its_steps_where_its_file_says_so(settings: Make, tmp_path: Path) -> None:
    train(settings(until=3), tmp_path / "short", quiet=True)
    train(settings(), tmp_path / "whole", until=3, quiet=True)
    assert same(tmp_path / "short" / STATE, tmp_path / "whole" / STATE)
    with pytest.raises(ValueError, match="until: 9 must not be above steps, 8"):
        settings(until=9)


def test_a_run_starts_from_another(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "one", quiet=True)
    folder = str(tmp_path / "one" / MODEL)
    train(settings(name="next", init=folder, learning_rate=1e-9), tmp_path / "two", until=1, quiet=True)
    one, two = load_model(tmp_path / "one" / MODEL), load_model(tmp_path / "two" / MODEL)
    assert two.tokeniser.pieces == one.tokeniser.pieces
    assert torch.equal(two.model.transcriber.mean, one.model.transcriber.mean)
    torch.testing.assert_close(two.model.joiner.weight, one.model.joiner.weight, rtol=1e-3, atol=1e-5)


def test_a_run_starts_from_another_run_s_outputs_too(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "one", quiet=True)
    init = str(tmp_path / "one")
    train(settings(name="next", init=init, learning_rate=1e-9), tmp_path / "two", until=1, quiet=True)
    one, two = load_file(tmp_path / "one" / STATE), load_file(tmp_path / "two" / STATE)
    name = "average.model.ctc.weight"
    torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_a_run_starts_from_the_mean_of_models(settings: Make, tmp_path: Path) -> None:
    one = train(settings(), tmp_path / "one", until=1, quiet=True)
    two = train(settings(init=str(one)), tmp_path / "two", quiet=True)
    init = [str(tmp_path / "one"), str(one), str(tmp_path / "one"), str(two)]
    train(settings(init=init, learning_rate=1e-9), tmp_path / "next", until=1, quiet=True)
    weights = [
        load_file(folder / MODEL / WEIGHTS) for folder in map(tmp_path.joinpath, ("one", "two", "next"))
    ]
    for name, mean in weights[2].items():
        torch.testing.assert_close(
            mean, 0.75 * weights[0][name] + 0.25 * weights[1][name], rtol=1e-3, atol=1e-5
        )
    assert len(load_model(tmp_path / "next" / MODEL).provenance["init_sha256"].split(", ")) == 4


def test_a_start_of_another_run_s_sounds_is_refused(settings: Make, tmp_path: Path) -> None:
    model = {**settings().model, "layers": 2}
    train(settings(model=model), tmp_path / "one", until=1, quiet=True)
    with pytest.raises(EdgeSpeechError, match="another model's weights"):
        train(settings(init=str(tmp_path / "one"), model=model, **STAGED), tmp_path / "two", quiet=True)


def test_of_a_corpus_of_sounds_no_words_are_learned(settings: Make, tmp_path: Path, corpus: Path) -> None:
    foreign = corpus.with_name("foreign.jsonl")
    utterances = load_manifest(corpus).utterances
    write_manifest(
        foreign, [u.model_copy(update={"id": f"f{u.id}", "text": "Ein Lied!"}) for u in utterances]
    )
    sources = [{"corpus": str(corpus)}, {"corpus": str(foreign), "sounds_only": "de"}]
    layers = {**settings().model, "layers": 2}
    config = settings(speech=sources, model=layers, batch_s=100.0, sounds={"layer": 1})
    model = load_model(train(config, tmp_path / "run", until=2, quiet=True))
    pieces = [model.tokeniser.decode([piece]).strip() for piece in range(2, 32)]
    assert all(piece in "on off red blue" for piece in pieces if len(piece) > 1), "pieces of the words alone"

    speech = load_speech(config.speech, longest_s=5)
    labels = encode_items(speech.items, model.tokeniser, model.model.config)
    said = [[1, 2, 3] if item.sounds_only else [4, 5] for item in speech.items]
    whole = Batches(config, speech, labels, {}, sounds=said)[0]
    assert 0 < len(whole.worded) < len(whole.ids)
    assert whole.global_labels == int(whole.label_lengths.sum()) + 3 * (len(whole.ids) - len(whole.worded))
    rows = whole.worded
    words = replace(
        whole,
        **{
            name: getattr(whole, name)[rows]
            for name in ("features", "lengths", "labels", "label_lengths", "sounds", "sound_lengths")
        },
        worded=torch.arange(len(rows)),
    )
    trained = nn.ModuleDict(
        {"model": model.model, "sounds": SoundsHead(model.model.transcriber, 1, 5)}
    ).eval()
    here = Processes(0, 1, torch.device("cpu"))
    mixed, alone = (losses_of(trained, batch, config, "fp32", 0, here) for batch in (whole, words))
    torch.testing.assert_close(mixed.transducer, alone.transducer)
    torch.testing.assert_close(mixed.ctc, alone.ctc)
    assert mixed.sounds > alone.sounds


def test_a_start_of_another_shape_is_refused(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "one", until=1, quiet=True)
    other = {**settings().model, "hidden": 20}
    with pytest.raises(EdgeSpeechError, match="hidden is 16, expected 20"):
        train(settings(init=str(tmp_path / "one" / MODEL), model=other), tmp_path / "two", quiet=True)


def test_auto_stays_with_the_precision_that_it_began_with(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(precision="auto")
    train(settings(precision="bf16"), tmp_path / "bf16", quiet=True)
    monkeypatch.setattr(loop, "faster_precision", lambda model, world: "bf16")
    train(config, tmp_path / "auto", until=3, quiet=True)
    monkeypatch.setattr(loop, "faster_precision", lambda model, world: "fp32")
    train(config, tmp_path / "auto", quiet=True)
    assert load_model(tmp_path / "auto" / MODEL).provenance["precision"] == "bf16"
    one, two = (load_file(tmp_path / name / STATE) for name in ("bf16", "auto"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_faster_precision_is_one_of_two_and_leaves_no_gradient() -> None:
    model = Transducer(ModelConfig(vocabulary=8, layers=1, hidden=8, joiner=8))
    assert faster_precision(model) in ("fp32", "bf16")
    assert all(parameter.grad is None for parameter in model.parameters())


class Killed(BaseException):
    """As a kill would, it passes every `except Exception`."""


def test_killed_at_any_write_the_model_is_that_of_the_state(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints of four files each: each write of the second is in turn the one that never happens."""
    config = settings(steps=4, save_every=2)
    train(config, tmp_path / "whole", quiet=True)
    made: list[Path] = []

    def killing(path: Path, data: bytes | str) -> None:
        if len(made) == most:
            raise Killed
        made.append(path)
        write_atomic(path, data)

    for most in range(4, 8):
        made.clear()
        with monkeypatch.context() as patched:
            for module in ("training.state", "model.checkpoint", "model.tokeniser"):
                patched.setattr(f"edgespeech.{module}.write_atomic", killing)
            with pytest.raises(Killed):
                train(config, tmp_path / str(most), quiet=True)
        train(config, tmp_path / str(most), quiet=True)
        assert same(tmp_path / "whole" / STATE, tmp_path / str(most) / STATE)
        assert same(tmp_path / "whole" / MODEL / WEIGHTS, tmp_path / str(most) / MODEL / WEIGHTS)
        assert load_model(tmp_path / str(most) / MODEL).provenance["step"] == "4"


def test_a_log_forgets_steps_that_are_done_again_and_lines_that_were_cut(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    forget_after(log, 4)
    assert not log.exists()
    lines = ['{"step": 2}\n', '{"step": 4}\n', '{"step": 6}\n', "cut\n", '{"step": 3']
    log.write_text("".join(lines))
    forget_after(log, 4)
    assert log.read_text() == "".join(lines[:2])


def test_a_log_that_cannot_be_written_is_one_line(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "run" / LOG).mkdir(parents=True)
    with pytest.raises(EdgeSpeechError, match=r"log\.jsonl: could not be written: Is a directory"):
        train(settings(), tmp_path / "run")


def test_a_start_that_stacks_other_frames_is_adapted(settings: Make, tmp_path: Path) -> None:
    train(settings(), tmp_path / "first", quiet=True)
    model = {**settings().model, "stack": 6}
    train(settings(init=str(tmp_path / "first" / MODEL), model=model), tmp_path / "second", quiet=True)
    assert load_model(tmp_path / "second" / MODEL).model.config.stack == 6


def test_without_weight_the_ctc_loss_is_left_out(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    of_all = ctc_sum

    def counting(*given: torch.Tensor) -> torch.Tensor:
        counted.append(1)
        return of_all(*given)

    monkeypatch.setattr(step_losses, "ctc_sum", counting)
    train(settings(ctc=0.0, ctc_only_steps=2, steps=4), tmp_path / "run")
    assert len(counted) == 2
    state = load_file(tmp_path / "run" / STATE)
    assert torch.isfinite(state["model.model.ctc.weight"]).all()

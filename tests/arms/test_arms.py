"""Arms: what a configuration makes of them, when they are trained and packed, and what is said of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgespeech.arms.configuration import Arm, Arms, snapshots_of
from edgespeech.arms.figures import (
    Heard,
    arm_rows,
    check_arms,
    comparisons,
    hear,
    kept,
    publish,
    said_again,
)
from edgespeech.arms.packed_bench import Bench, dev_loss, facts_of, weights_read
from edgespeech.arms.rescored import rescore
from edgespeech.audio.io import write_audio
from edgespeech.core.places import MODEL_VARIABLE
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import HIGH, TENSORS
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model, save_model
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import EMBEDDING
from edgespeech.records.pages import Machine, PageRecord, PageRow, row_of
from edgespeech.steps import store as steps_store
from edgespeech.steps.step import Resources
from edgespeech.steps.store import Made, folder_of, make
from edgespeech.training import step as training_step
from edgespeech.training.config import load_train_config
from edgespeech.training.loop import MODEL, STATE
from edgespeech.training.step import RUN
from helpers_fusion import fusion_of
from helpers_packed import VOCABULARY, prune, tiny

BASE = {
    "seed": 1, "dropout": 0.1, "speech": [{"corpus": "an4_train"}], "steps": 10, "warmup_steps": 2,
    "learning_rate": 0.001,
}  # fmt: skip
QAT: list[dict[str, Any]] = [
    {"name": "fp32", "pack": {"bits": 32}, "seeds": [1, 2]},
    {"name": "ptq", "of": "fp32", "pack": {}, "bits": [8, 4], "seeds": [1, 2]},
    {"name": "start", "of": "init", "pack": {}, "bits": [8, 2], "ships": True},
    {"name": "acosr", "compressor": {"name": "acosr"}, "bits": [5], "train": {"steps": 6}},
]
ZEROS: list[dict[str, Any]] = [
    {"name": "gradual", "compressor": {"name": "gradual"}, "pack": {"bits": 8, "store": "sparse"}, "sparsity": [0.5]},
    {"name": "stack", "init_of": "gradual_50", "compressor": {"name": "stack", "quantiser": "acosr"}, "bits": [4]},
    {"name": "dense", "of": "qat/fp32", "pack": {"bits": 8}},
]  # fmt: skip


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    return tmp_path / "init"


def page(tmp_path: Path, init: Path, name: str, families: Sequence[dict[str, Any]]) -> Arms:
    folder = tmp_path / "pages" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {"base": "base.yaml", "families": list(families)}
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return Arms(folder, config, init)


def finish(arms: Arms, arm: Arm, step: int, model: Any = None) -> None:
    """As if a run had been made so far."""
    made, trained = arms.train_step(arm), tiny(seed=step)
    folder = folder_of(made) / MODEL
    save_model(folder, model or trained.model, trained.tokeniser, trained.provenance)
    assert arm.config is not None
    if step >= arm.config.steps:
        steps_store.finish(made, Made([folder / WEIGHTS, folder / TOKENS]))


def test_families_become_arms(tmp_path: Path, init: Path) -> None:
    arms = page(tmp_path, init, "qat", QAT)
    assert list(arms.arms) == [
        "fp32", "fp32_seed2", "ptq_8", "ptq_4", "ptq_8_seed2", "ptq_4_seed2", "start_8", "start_2", "acosr_5",
    ]  # fmt: skip
    acosr, other = arms.arms["acosr_5"], arms.arms["fp32_seed2"]
    assert acosr.config is not None
    assert other.config is not None
    assert acosr.config.compressor == {"name": "acosr", "bits": 5}
    assert (acosr.config.steps, acosr.config.seed, acosr.config.name) == (6, 1, "qat.acosr_5")
    assert (other.config.steps, other.config.seed, other.first) == (10, 2, "fp32")
    assert acosr.config.model["hidden"] == 70
    assert acosr.config.model["dropout"] == 0.1
    assert (arms.arms["ptq_4"].layout.matrices.bits, arms.arms["ptq_4"].of) == (4, "fp32")
    assert [arm.name for arm in arms.named("start_*") if arm.ships] == ["start_8", "start_2"]
    with pytest.raises(EdgeSpeechError, match="nothing_"):
        arms.named("nothing_*")


def test_zeros_are_sparse_and_the_embedding_dense(tmp_path: Path, init: Path) -> None:
    arms = page(tmp_path, init, "zeros", ZEROS)
    gradual = arms.arms["gradual_50"]
    assert gradual.config is not None
    assert gradual.config.compressor == {"name": "gradual", "sparsity": 0.5}
    pruned = tiny().model
    prune(pruned, 0.5)
    finish(arms, gradual, 10, pruned)
    arms.pack(gradual, tmp_path / "g.edge")
    tensors = read_edge(tmp_path / "g.edge").tensors
    assert getattr(tensors["joiner.weight"], "mask", None) is not None
    assert getattr(tensors[EMBEDDING], "mask", None) is None
    assert 0.4 < facts_of(tmp_path / "g.edge")["zeros"] < 0.6


def test_a_start_without_language_models_gets_the_recognisers(
    tmp_path: Path, init: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = page(tmp_path, init, "qat", QAT)
    config = yaml.safe_load((arms.folder / "config.yaml").read_text())
    fused = Arms(arms.folder, {**config, "fusion": True}, init)
    trained = load_model(init)
    recogniser = tmp_path / "recogniser"
    save_model(recogniser, trained.model, trained.tokeniser, trained.provenance, fusion=fusion_of(VOCABULARY))
    monkeypatch.setenv(MODEL_VARIABLE, str(recogniser))
    fused.pack(fused.arms["start_8"], tmp_path / "a.edge")
    assert HIGH in read_edge(tmp_path / "a.edge").tensors
    others = Tokeniser.train(["an order of tea", "cancel that"] * 3, VOCABULARY)
    save_model(recogniser, trained.model, others, trained.provenance, fusion=fusion_of(VOCABULARY))
    with pytest.raises(EdgeSpeechError, match="word pieces is 'others', expected those of the recogniser"):
        fused.pack(fused.arms["start_8"], tmp_path / "b.edge")


def test_a_page_may_ship_the_language_models_of_its_start(
    tmp_path: Path, init: Path, corpora: dict[str, str]
) -> None:
    trained = load_model(init)
    fusion = fusion_of(VOCABULARY)
    save_model(init, trained.model, trained.tokeniser, trained.provenance, fusion=fusion)
    arms = page(tmp_path, init, "qat", QAT)
    config = yaml.safe_load((arms.folder / "config.yaml").read_text())
    fused = Arms(arms.folder, {**config, "fusion": True}, init)
    bench = Bench(corpora, tmp_path, 0, 2)
    labels = [trained.tokeniser.encode("play some music")] * len(bench.spoken)
    found = []
    for number, its in enumerate((arms, fused)):
        file = tmp_path / f"{number}.edge"
        its.pack(its.arms["start_8"], file)
        facts = facts_of(file)
        found.append((facts["zeros"], facts["bits_per_weight"], dev_loss(file, bench.spoken, labels)))
        assert (HIGH in read_edge(file).tensors) == (its is fused)
    assert found[0] == found[1]
    tensors = read_edge(tmp_path / "1.edge").tensors
    fewer = {name: tensor for name, tensor in tensors.items() if name not in TENSORS}
    assert weights_read(tensors, frames=3, labels=2) == weights_read(fewer, frames=3, labels=2)
    assert arms.sha256(arms.arms["start_8"]) != fused.sha256(fused.arms["start_8"])


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"name": "x", "pack": {}, "wrong": 1}, "wrong"),
        ({"pack": {}}, "name"),
        ({"name": "x"}, "pack"),
        ({"name": "x", "of": "init", "pack": {}, "compressor": {"name": "acosr"}}, "of"),
        ({"name": "x", "pack": {}, "bits": [8], "sparsity": [0.5]}, "sparsity"),
        ({"name": "x", "compressor": {"name": "acosr"}, "bits": [9]}, "bits"),
        ({"name": "x", "compressor": {"name": "gradual"}, "pack": {}, "sparsity": [1.0]}, "sparsity"),
        ({"name": "x", "pack": {}, "train": {"stepz": 1}}, "stepz"),
        ({"name": "x", "pack": {}, "init_of": "nobody"}, "nobody"),
        ({"name": "x", "pack": {}, "of": "init", "attention": {}}, "attention beside it"),
        ({"name": "x", "pack": {}, "attention": {"queries": "audio"}}, "expects biasing in model too"),
        ({"name": "x", "pack": {}, "attention": {"heads": 0}, "train": {"biasing": {}}}, "heads is 0"),
        ({"name": "x", "pack": {}, "seeds": [1, 1]}, "each arm once"),
    ],
)
def test_a_wrong_family_is_reported(tmp_path: Path, init: Path, family: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        page(tmp_path, init, "qat", [family])


def test_a_family_may_add_attention_to_the_model(tmp_path: Path, init: Path) -> None:
    train = {"ctc": 0.0, "biasing": {"adapter": True, "phrases": 20}}
    adapter = {"name": "adapter", "pack": {"bits": 32}, "attention": {"width": 16}, "train": train}
    arms = page(
        tmp_path, init, "qat", [*QAT, adapter, {**adapter, "name": "wide", "attention": {"width": 32}}]
    )
    config = arms.arms["adapter"].config
    assert config is not None
    assert config.biasing is not None
    assert config.biasing.phrases == 20
    assert config.model["biasing"] == {"width": 16}
    assert arms.arms["fp32"].config is not None
    assert "biasing" not in arms.arms["fp32"].config.model
    assert arms.sha256(arms.arms["adapter"]) != arms.sha256(arms.arms["wide"])


def test_another_start_is_another_run(tmp_path: Path, init: Path) -> None:
    first = page(tmp_path, init, "qat", QAT)
    fp32, acosr = first.arms["fp32"], first.arms["acosr_5"]
    before = first.run_folder(fp32)
    assert before != first.run_folder(acosr)
    trained = tiny(seed=1)
    save_model(init, trained.model, trained.tokeniser, trained.provenance)
    again = page(tmp_path, init, "qat", QAT)
    assert again.run_folder(again.arms["fp32"]) != before
    with pytest.raises(EdgeSpeechError, match="start_8"):
        again.run_folder(again.arms["start_8"])


def test_training_makes_what_an_arm_starts_from_first_and_goes_on(
    tmp_path: Path, init: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(training_step, "speech_steps", lambda names: ())
    page(tmp_path, init, "qat", QAT)
    config = {"base": "base.yaml", "families": ZEROS, "resources": {"processes": 3}}
    arms = Arms(page(tmp_path, init, "zeros", ZEROS).folder, config, init)

    def fake(folder: Path, resources: Resources, until: int) -> None:
        run = load_train_config(folder / RUN)
        assert resources.processes == (3 if run.name.startswith("zeros.") else 1)
        calls.append((run.name, until))
        trained = tiny(seed=until)
        save_model(folder / MODEL, trained.model, trained.tokeniser, trained.provenance)
        (folder / STATE).write_text(f"{run.init}")

    monkeypatch.setattr(training_step, "torchrun", fake)
    stack, gradual, dense = (arms.arms[name] for name in ("stack_4", "gradual_50", "dense"))
    make(arms.pack_step(stack))
    assert calls == [("zeros.gradual_50", 10), ("zeros.stack_4", 10)]
    assert stack.config is not None
    assert stack.config.init == str(arms.run_folder(gradual) / MODEL)
    assert (arms.run_folder(stack) / STATE).read_text() == stack.config.init
    assert [step.name for step in arms.steps("quick")] == ["zeros/gradual_50", "zeros/stack_4"]
    assert [step.name for step in arms.steps("full")] == ["zeros/gradual_50", "zeros/stack_4", "zeros/dense"]
    assert [step.name for step in arms.steps("full", "dense")] == [step.name for step in arms.steps("full")]
    for step in arms.steps("full"):
        make(step)
    assert calls[2:] == [("qat.fp32", 10)]  # of which `dense` is
    assert arms.finished(stack)
    assert read_edge(arms.packed(dense)).tensors.keys() == read_edge(arms.packed(stack)).tensors.keys()

    calls.clear()
    shown = page(tmp_path, init, "shown", ZEROS[:1])
    shown = Arms(
        shown.folder, {"base": "base.yaml", "families": ZEROS[:1], "snapshots": {"gradual_50": 2}}, init
    )
    arm = shown.arms["gradual_50"]
    with pytest.raises(EdgeSpeechError, match="no intermediate models of gradual_50"):
        snapshots_of(shown, arm)
    make(shown.train_step(arm))
    assert calls == [("shown.gradual_50", 5), ("shown.gradual_50", 10)]
    pictures = snapshots_of(shown, arm)
    assert [step for step, _ in pictures] == [0, 5, 10]
    wanted = load_model(shown.run_folder(arm) / MODEL).model.joiner.weight.numpy()
    assert np.array_equal(pictures[-1][1]["joiner.weight"], wanted)


def test_torchrun_gets_as_many_processes_as_the_resources_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str | None]] = []

    def run(command: Sequence[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        assert not check
        told.append((" ".join(command[2:]), env.get("CUDA_VISIBLE_DEVICES")))
        return subprocess.CompletedProcess(command, 3 if len(told) == 3 else 0)

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    training_step.torchrun(tmp_path, Resources(processes=2, threads=3), 7)
    training_step.torchrun(tmp_path, Resources(gpus=4), 7)
    assert "--nproc-per-node 2 " in told[0][0]
    assert told[0][0].endswith("--until 7 --threads 3")
    assert "--nproc-per-node 4 " in told[1][0]
    assert [devices for _, devices in told] == ["", "0,1,2,3"]
    with pytest.raises(EdgeSpeechError, match="ended with 3"):
        training_step.torchrun(tmp_path, Resources(), 7)
    with pytest.raises(EdgeSpeechError, match="gpus is 5, expected at most 4"):
        training_step.torchrun(tmp_path, Resources(gpus=5), 7)


def test_a_stopped_training_is_an_error(tmp_path: Path, init: Path) -> None:
    arms = page(tmp_path, init, "qat", QAT)
    with pytest.raises(EdgeSpeechError, match="not trained"):
        arms.model_folder(arms.arms["ptq_8"])
    finish(arms, arms.arms["fp32"], 9)
    assert not arms.finished(arms.arms["fp32"])
    finish(arms, arms.arms["fp32"], 10)
    assert arms.model_folder(arms.arms["ptq_8"]) == arms.run_folder(arms.arms["fp32"]) / MODEL
    assert (arms.model_folder(arms.arms["fp32"]) / TOKENS).is_file()
    assert arms.model_folder(arms.arms["start_8"]) == init
    assert (init / WEIGHTS).is_file()


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "c.flac", (0.1 * rng.standard_normal(48_000)).astype(np.float32))
    for name, speaker in (("one", None), ("two", "s")):
        pieces = [
            Utterance(
                id=f"u{n}", audio_filepath="c.flac", duration=0.5, offset=0.5 * n, text="play some music",
                speaker=None if speaker is None else f"{speaker}{n}",
            )
            for n in range(4)
        ]  # fmt: skip
        write_manifest(tmp_path / f"{name}.jsonl", pieces)
    return {str(tmp_path / f"{name}.jsonl"): "basic" for name in ("one", "two")} | {"nowhere": "basic"}


def test_errors_are_counted_and_compared(tmp_path: Path, corpora: dict[str, str]) -> None:
    bench = Bench(corpora, tmp_path, 0)
    assert bench.corpora == ["one", "two", "pooled"]
    assert "nowhere" in bench.missing["nowhere"]
    assert bench.words == [3] * 8
    right, wrong = ["play some music"] * 8, ["play music"] * 4 + ["Play some music."] * 4
    assert bench.errors(wrong) == [1] * 4 + [0] * 4
    assert bench.rate(bench.errors(wrong), "one")["wer"] == pytest.approx(1 / 3)
    assert bench.rate(bench.errors(wrong), "two")["wer"] == 0
    ours, theirs = bench.errors(wrong), bench.errors(right)
    pooled = bench.compare([ours, theirs], [theirs, theirs], "pooled")
    assert pooled.difference == pytest.approx(4 / 48)
    assert (pooled.seeds, pooled.n) == (2, 8)
    assert bench.compare([ours], [theirs], "one").verdict == "worse"
    assert bench.compare([theirs], [ours], "one").verdict == "better"
    assert bench.compare([theirs], [ours], "one").relative == -1
    assert bench.compare([ours], [theirs], "two").verdict == "tie"
    with pytest.raises(EdgeSpeechError, match="as many as utterances"):
        bench.errors(right[:-1])
    with pytest.raises(EdgeSpeechError, match="none of these"):
        Bench({"nowhere": "basic"}, tmp_path, 0)


def test_arms_are_measured_published_and_shown_as_published(
    tmp_path: Path, init: Path, corpora: dict[str, str]
) -> None:
    arms = page(tmp_path, init, "qat", QAT[:3])
    finish(arms, arms.arms["fp32"], 10)
    results = tmp_path / "results"
    bench = Bench(corpora, tmp_path, 0)
    found = list(hear(arms, results, bench, [2, 1]))
    heard = [one for one in found if isinstance(one, Heard)]
    assert [one.arm.name for one in heard] == ["fp32", "ptq_8", "ptq_4", "start_8", "start_2"]
    skipped = {one["name"]: one["skipped"] for one in found if not isinstance(one, Heard)}
    assert set(skipped) == {"fp32_seed2", "ptq_8_seed2", "ptq_4_seed2"}
    assert "not trained" in skipped["ptq_8_seed2"]
    rows = {row["name"]: row for row in arm_rows(found, bench, "fp32")}
    json.dumps(rows)
    assert rows["fp32"]["wer"]["pooled"]["difference"] == 0
    assert rows["ptq_4"]["bits_per_weight"] < rows["ptq_8"]["bits_per_weight"] < 10
    assert rows["ptq_4"]["chunk_bytes"] < rows["ptq_8"]["chunk_bytes"]
    assert set(rows["ptq_4"]["wer_other"]) == {"1"}

    publish(arms, heard, results, bench)
    assert sorted(path.name for path in results.glob("*.edge")) == ["start_2.edge", "start_8.edge"]
    (arms.run_folder(arms.arms["fp32"]) / MODEL / WEIGHTS).unlink()
    again = {one.arm.name: one for one in hear(arms, results, bench, [2, 1]) if isinstance(one, Heard)}
    assert again["ptq_8"].file is None
    assert again["ptq_8"].texts == {2: heard[1].texts[2]}
    assert again["start_8"].file is not None
    told = next(arm_rows([again["ptq_8"]], bench, "fp32"))
    assert (told["measured"], told["chunk_bytes"]) == (False, None)
    assert told["wer"]["pooled"]["wer"] == rows["ptq_8"]["wer"]["pooled"]["wer"]

    changed = page(tmp_path, init, "qat", [{**QAT[0], "train": {"steps": 11}}, *QAT[1:3]])
    counted = {one.arm.name for one in hear(changed, results, bench, [1]) if isinstance(one, Heard)}
    assert counted == {"start_8", "start_2"}  # what the others start from is another run now

    trained = tiny(seed=3)
    save_model(init, trained.model, trained.tokeniser, trained.provenance)
    other = page(tmp_path, init, "qat", QAT[:3])
    names = [one["name"] for one in hear(other, results, bench, [1]) if not isinstance(one, Heard)]
    assert names == ["fp32", "fp32_seed2", "ptq_8", "ptq_4", "ptq_8_seed2", "ptq_4_seed2"]


def test_comparisons_pool_common_seeds(tmp_path: Path, init: Path, corpora: dict[str, str]) -> None:
    arms = page(tmp_path, init, "qat", QAT)
    bench = Bench(corpora, tmp_path, 0)
    right, wrong = ["play some music"] * 8, ["play music"] * 8

    def said(name: str, texts: Sequence[str]) -> Heard:
        return Heard(arm=arms.arms[name], file=None, texts={4: texts}, labels=1, facts={})

    found = [said("fp32", right), said("fp32_seed2", right), said("ptq_4", right), said("ptq_4_seed2", wrong)]
    asked: list[dict[str, Any]] = [
        {"claim": "c", "arm": "ptq_4", "against": "fp32"},
        {"claim": "c", "arm": "ptq_4", "against": "fp32", "each": True},
        {"claim": "c", "arm": "ptq_4", "against": "acosr_5"},
    ]
    rows = list(comparisons(found, bench, asked))
    assert rows[0]["measured"] == pytest.approx(8 / 48)
    assert (rows[0]["seeds"], rows[0]["low"] <= rows[0]["measured"] <= rows[0]["high"]) == (2, True)
    assert rows[0]["compared"]["verdict"] == "tie"  # one seed of two loses nothing: others may do either
    assert [row["detail"] for row in rows[1:3]] == ["ptq_4 against fp32, one", "ptq_4 against fp32, two"]
    assert "acosr_5" in rows[3]["skipped"]


def test_a_page_is_checked(tmp_path: Path, init: Path, corpora: dict[str, str]) -> None:
    arms = page(tmp_path, init, "qat", [QAT[2]])
    config = {
        "profile": "full", "corpora": corpora, "beams": [2, 1], "control": "start_8",
        "comparisons": [{"claim": "qat.c", "arm": "start_2", "against": "start_8"}],
        "full": {"cold": 1, "warm": 2},
    }  # fmt: skip
    rows = list(check_arms(arms, tmp_path / "results", config, 0))
    assert [row.get("claim") for row in rows] == [None, None, "qat.c"]
    assert "skipped" in rows[0]
    table = {row["name"]: row for row in kept({"rows": rows}, "arms")}
    assert table["start_8"]["warm"]["n"] > table["start_8"]["cold"]["n"] > 0
    again = list(check_arms(arms, tmp_path / "results", config, 0))[-1]
    assert (again["claim"], again["measured"], again["n"]) == ("qat.again", 1, 16)


def test_published_transcripts_are_compared_at_their_own_beam(
    tmp_path: Path, init: Path, corpora: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(file: Path, bench: Bench, beam: int) -> tuple[list[str], int]:
        return [f"with a beam of {beam}"] * len(bench.spoken), 1

    monkeypatch.setattr("edgespeech.arms.figures.say", say)
    arms = page(tmp_path, init, "qat", QAT[:3])
    finish(arms, arms.arms["fp32"], 10)
    results, bench = tmp_path / "results", Bench(corpora, tmp_path, 0)
    publish(arms, [one for one in hear(arms, results, bench, [2]) if isinstance(one, Heard)], results, bench)
    found = list(hear(arms, results, bench, [4, 1]))
    assert said_again(found, arms, results, bench) == (1.0, 5 * len(bench.spoken))

    (arms.run_folder(arms.arms["fp32"]) / MODEL / WEIGHTS).unlink()
    skipped = {
        one["name"]: one["skipped"] for one in hear(arms, results, bench, [4]) if not isinstance(one, Heard)
    }
    assert "published with a beam of 2" in skipped["ptq_8"]  # never compared with an arm searched with 4


def test_published_transcripts_are_scored_again(
    tmp_path: Path, init: Path, corpora: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))
    arms, results = page(tmp_path, init, "qat", [QAT[2]]), tmp_path / "results"
    here = {Path(name).name: normaliser for name, normaliser in corpora.items() if Path(name).is_file()}
    config: dict[str, Any] = {
        "profile": "full", "seed": 0, "corpora": here, "beams": [2, 1], "control": "start_8",
        "comparisons": [{"claim": "qat.c", "arm": "start_2", "against": "start_8"}],
        "full": {"cold": 1, "warm": 2},
    }  # fmt: skip
    rows = [row_of(told, "check") for told in check_arms(arms, results, config, 0)]
    record = PageRecord(
        technique="qat", created="2026-01-02T03:04:05Z", profile="full", utterances={}, code_sha256="0" * 64,
        manifests={}, models={}, commit="c" * 40, dirty=False, versions={}, config=config,
        machine=Machine(cpu_model="a processor", cores=2, python="3.11"),
        rows=tuple(row for row in rows if isinstance(row, PageRow)),
    )  # fmt: skip
    again = rescore(arms, results, config["comparisons"], record)
    assert (again.rescored, again.technique) == (record.stem, "qat")
    assert set(again.manifests) == {Path(name).stem for name in here}
    assert [row for row in again.rows if row.claim] == [row for row in record.rows if row.claim]
    (before,), (after,) = (
        [row.data["arms"] for row in one.rows if "arms" in row.data] for one in (record, again)
    )
    assert after == before
    path = results / "arms" / "start_2.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"facts": told["facts"] | {"edge_sha256": "1" * 64}}))
    with pytest.raises(EdgeSpeechError, match=r"start_2\.json: edge_sha256 is"):
        rescore(arms, results, config["comparisons"], record)
    path.unlink()
    with pytest.raises(EdgeSpeechError, match=r"start_2\.json: transcripts is None"):
        rescore(arms, results, config["comparisons"], record)


def test_what_is_read_and_lost_is_that_of_the_file(
    tmp_path: Path, init: Path, corpora: dict[str, str]
) -> None:
    one = np.zeros((1, 1), np.float32)
    for name, passes in (("transcriber.x", 3), ("predictor.x", 2), ("joiner.x", 5), (EMBEDDING, 0)):
        assert weights_read({name: one}, frames=3, labels=2) == 4 * passes
    arms = page(tmp_path, init, "qat", [QAT[2]])
    bench = Bench(corpora, tmp_path, 0, 2)
    labels = [load_model(init).tokeniser.encode("play some music")] * len(bench.spoken)
    losses = []
    for name in ("start_8", "start_2"):
        arms.pack(arms.arms[name], tmp_path / f"{name}.edge")
        losses.append(dev_loss(tmp_path / f"{name}.edge", bench.spoken, labels))
    assert all(np.isfinite(loss) and loss > 0 for loss in losses)
    assert losses[0] != losses[1]

"""The checks of the on-device model, on a tiny model, fabricated records and a fabricated log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from replication.rnnt import runs as runs_module

from edgespeech.audio.io import write_audio
from edgespeech.core.files import sha256_file
from edgespeech.core.places import MODEL_VARIABLE, project_root, shipped_models
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import FUSION
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model
from edgespeech.records.claims import load_claims
from edgespeech.records.records import Condition, Record, Row, write_record
from edgespeech.steps.step import everything
from edgespeech.steps.store import Job, Made, finish, folder_of
from edgespeech.systems.edge_command import EdgeCommand
from edgespeech.text.normalise import normalisers
from helpers_records import figure, provenance, record, rows
from helpers_replication import load_replication
from helpers_rnnt import PROVENANCE, save_tiny

HERE = project_root() / "replication" / "rnnt"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))
CLAIMS = {claim.id for claim in load_claims(HERE / "claim.yaml")}
RUN = yaml.safe_load((HERE / "train_1.yaml").read_text(encoding="utf-8"))["name"]


@pytest.fixture
def rnnt() -> ModuleType:
    return load_replication("rnnt")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model"))
    return save_tiny(tmp_path / "model", PROVENANCE)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five utterances of noise, pieces of one file."""
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "c.flac", (0.1 * rng.standard_normal(48_000)).astype(np.float32))
    utterances = [
        Utterance(
            id=f"u{number:03d}",
            audio_filepath="c.flac",
            duration=0.5,
            offset=0.5 + 0.5 * number,
            text="play",
            age=10 + 4 * number,
        )
        for number in range(5)
    ]
    write_manifest(tmp_path / "c.jsonl", utterances)
    return tmp_path / "c.jsonl"


def collected(check: Any, profile: str = "quick", **changes: Any) -> list[dict[str, Any]]:
    return list(check({**CONFIG, "profile": profile, **changes}, 0))


def publish(
    folder: Path,
    model: Path,
    corpus: str,
    said: Sequence[Row] | None = None,
    *,
    system: str = "edge-fp32",
    more_files: Mapping[str, str] = MappingProxyType({}),
    other_model: bool = False,
    wer: float | None = None,
    rtf: float = 0.08,
    **fields: Any,
) -> Record:
    """A published record of a model on a corpus, with an error rate under spelled-en."""
    said = rows(cloud=False) if said is None else said
    made = record(system, corpus, said=said, **fields)
    hashes = {**{name: sha256_file(model / name) for name in (WEIGHTS, TOKENS)}, **more_files}
    if other_model:
        hashes[WEIGHTS] = "0" * 64
    accuracy = dict(made.accuracy)
    if accuracy:
        spelled = normalisers()["spelled-en"]
        today = {"normaliser_version": spelled.version, "normaliser_sha256": spelled.sha256}
        wers = {} if wer is None else {"wer": figure(wer, "wer", unit="ratio")}
        accuracy["spelled-en"] = accuracy["whisper-en"].model_copy(update={**today, **wers})
    made = made.model_copy(
        update={
            "system": made.system.model_copy(update={"model_sha256": hashes}),
            "accuracy": accuracy,
            "latency": {"rtf": figure(rtf, "rtf", unit="ratio", spread=None)},
        }
    )
    write_record(made, said, folder)
    return made


@pytest.fixture
def records(rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rnnt, "records_dir", lambda: tmp_path / "records")
    return tmp_path / "records"


def test_without_a_model_every_check_of_it_is_skipped(
    rnnt: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "none"))
    for check in (rnnt.size, rnnt.streaming, rnnt.bars, rnnt.rtf, rnnt.data, rnnt.errors):
        with pytest.raises(EdgeSpeechError, match="no model in"):
            collected(check)


def test_the_size_is_that_of_the_files(rnnt: ModuleType, model: Path) -> None:
    measured = {row["claim"]: row["measured"] for row in collected(rnnt.size)}
    parameters = load_model(model).model.parameters_deployed
    shipped = sum((model / name).stat().st_size for name in (WEIGHTS, TOKENS))
    assert measured == {
        "rnnt.parameters": parameters,
        "rnnt.bytes_shipped": shipped,
        "rnnt.bytes_fp32": pytest.approx(shipped + 2 * parameters, abs=200),
    }


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("profile", "n"), [("quick", 2), ("full", 5)])
def test_streaming_equals_offline(rnnt: ModuleType, corpus: Path, profile: str, n: int) -> None:
    splits = {"splits": [str(corpus), "nowhere"], "quick": 2}
    there, missing = collected(rnnt.streaming, profile, streaming=splits)
    assert (there["measured"], there["n"], there["others"]) == (1.0, n, [])
    assert missing["detail"] == "nowhere"
    assert "nowhere" in missing["skipped"]


@pytest.mark.usefixtures("model")
def test_a_stream_that_says_something_else_is_seen(
    rnnt: ModuleType, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def said(trained: Any, samples: Any, step: int) -> str:
        heard.append(len(samples))
        return "late" if step < len(samples) and len(heard) > 2 else "early"

    monkeypatch.setattr(rnnt, "said", said)
    (row,) = collected(rnnt.streaming, "full", streaming={"splits": [str(corpus)], "quick": 2})
    assert row["measured"] == 0.2
    assert row["others"] == ["u001", "u002", "u003", "u004"]
    assert set(heard) == {8000}


def test_the_transcript_is_the_final(rnnt: ModuleType, model: Path) -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    trained = load_model(model)
    whole = rnnt.said(trained, samples, len(samples))
    assert whole
    assert whole == rnnt.said(trained, samples, 1920)
    louder = rnnt.said(trained, (3 * samples[::-1]).copy(), len(samples))
    assert whole != louder


def test_bars_are_read_from_the_records_of_this_model(rnnt: ModuleType, model: Path, records: Path) -> None:
    noisy = Condition(noise="kitchen", snr_db=6.0, snr_rule="peak-frame")
    wrong = Condition(noise="kitchen", snr_db=12.0, snr_rule="peak-frame")
    publish(records, model, "an4_test", wer=0.09)
    publish(records, model, "an4_test", rows(cloud=False, n=4), wer=0.5, created="2026-02-01T00:00:00Z")
    publish(records, model, "coffee_dev", condition=noisy)
    publish(records, model, "coffee_dev", condition=wrong, seed=1)
    publish(records, model, "assistant_mini", other_model=True)
    found = {row["claim"]: row for row in collected(rnnt.bars)}
    claims = {bar["claim"] for bar in CONFIG["published"]}
    assert set(found) == claims
    an4 = found["rnnt.wer_an4"]
    assert (an4["measured"], an4["n"]) == (0.09, 20)
    assert "spelled-en; basic" in an4["detail"]
    assert "whisper-en" in an4["detail"]
    assert (an4["low"], an4["high"]) == (pytest.approx(0.081), pytest.approx(0.099))
    accepted = sum(bool(row.accepted) for row in rows(cloud=False)) / 20
    assert found["rnnt.accepted_noise"]["measured"] == accepted
    skipped = {claim for claim, row in found.items() if "skipped" in row}
    assert skipped == claims - {"rnnt.wer_an4", "rnnt.accepted_noise"}


def test_greedy_bars_are_read_from_greedy_records(rnnt: ModuleType, model: Path, records: Path) -> None:
    publish(records, model, "an4_test", wer=0.05)
    publish(records, model, "an4_test", system="edge-fp32-greedy", wer=0.2)
    found = {row["claim"]: row for row in collected(rnnt.bars)}
    assert (found["rnnt.wer_an4"]["measured"], found["rnnt.greedy_an4"]["measured"]) == (0.05, 0.2)


def test_the_band_is_compared_on_the_same_utterances(rnnt: ModuleType, model: Path, records: Path) -> None:
    band = Condition(band="telephone")
    wide, narrow = rows(cloud=False, error=0.1), rows(cloud=False, error=0.4)
    publish(records, model, "coffee_dev", wide)
    (row,) = collected(rnnt.telephone)
    assert row["skipped"] == f"telephone: {rnnt.UNPUBLISHED}"
    publish(records, model, "coffee_dev", narrow, condition=band)
    plain = {**CONFIG["telephone"], "normaliser": "basic"}
    (row,) = collected(rnnt.telephone, telephone=plain)
    errors = [
        sum(a != b for one in side for a, b in zip(one.ref.split(), one.hyp_raw.split(), strict=True))
        for side in (narrow, wide)
    ]
    assert row["measured"] == pytest.approx(errors[0] / errors[1])
    assert row["low"] < row["measured"] < row["high"]
    assert row["n"] == len(wide)


def test_bars_of_commands_are_read_from_records_with_the_domain(
    rnnt: ModuleType, model: Path, records: Path
) -> None:
    noisy = Condition(noise="kitchen", snr_db=6.0, snr_rule="peak-frame")
    domain = {FUSION: sha256_file(EdgeCommand().files()[FUSION])}
    publish(records, model, "coffee_dev", system="edge-command", more_files=domain)
    publish(
        records, model, "coffee_dev", system="edge-command", condition=noisy
    )  # with some other language model
    found = {row["claim"]: row for row in collected(rnnt.bars)}
    assert found["rnnt.command_clean"]["n"] == 20
    assert found["rnnt.command_noise"]["skipped"] == rnnt.UNPUBLISHED
    assert found["rnnt.accepted_clean"]["skipped"] == rnnt.UNPUBLISHED


def test_a_newer_record_of_as_many_utterances_counts(rnnt: ModuleType, model: Path, records: Path) -> None:
    for day, wer in ((2, 0.2), (1, 0.1)):
        publish(records, model, "an4_test", wer=wer, created=f"2026-01-0{day}T00:00:00Z")
    bar = [{"claim": "rnnt.wer_an4", "corpus": "an4_test", "condition": "clean", "normaliser": "spelled-en"}]
    (row,) = collected(rnnt.bars, published=bar)
    assert row["measured"] == 0.2


def test_records_of_other_weights_are_none(rnnt: ModuleType, model: Path, records: Path) -> None:
    publish(records, model, "an4_test", other_model=True)
    for check in (rnnt.bars, rnnt.rtf, rnnt.errors):
        found = collected(check)
        assert found
        assert {row["skipped"] for row in found} == {rnnt.UNPUBLISHED}


def test_the_real_time_factor_is_that_of_the_quietest_run_on_one_thread(
    rnnt: ModuleType, model: Path, records: Path
) -> None:
    busy, quiet, wide = (
        provenance(concurrent_jobs=jobs, threads=threads) for jobs, threads in ((2, 1), (1, 1), (1, 2))
    )
    publish(records, model, "coffee_dev", rtf=0.3, machine=busy)
    publish(records, model, "coffee_dev", rows(cloud=False, n=5), rtf=0.1, machine=quiet, seed=1)
    publish(records, model, "coffee_dev", rtf=0.05, machine=wide, seed=2)
    (row,) = collected(rnnt.rtf)
    assert (row["measured"], row["n"]) == (0.1, 5)
    assert "1 run(s) at once" in row["detail"]
    (row,) = collected(rnnt.rtf, rtf_corpus="an4_test")
    assert (row["detail"], row["skipped"]) == ("an4_test, clean, one thread", rnnt.UNPUBLISHED)


def fake_speed(folder: Path, text: str) -> Path:
    path = folder / "speed.py"
    path.write_text(text)
    return path


def test_the_loss_is_compared_by_its_own_script(
    rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {
        "batch": 20, "frames": 75, "labels": 22, "vocabulary": 128, "threads": 1, "repeats": 15,
        "ours_over": {"torchaudio": {"wall_s": 1.2, "cpu_s": 1.1, "added_mib": 0.3}},
    }  # fmt: skip
    text = f"import sys\nassert sys.argv[1:] == ['--peer-python', 'peer']\nprint({json.dumps(report)!r})\n"
    monkeypatch.setattr(rnnt, "LOSS_SPEED", fake_speed(tmp_path, text))
    monkeypatch.setenv(rnnt.PEER_VARIABLE, "peer")
    time, memory = collected(rnnt.loss)
    assert (time["claim"], time["measured"], time["n"]) == ("rnnt.loss_time", 1.2, 15)
    assert (memory["claim"], memory["measured"]) == ("rnnt.loss_memory", 0.3)
    assert "20 utterances of 75 frames and 22 labels" in time["detail"]


def test_the_loss_is_not_compared_without_torchaudio_and_a_failure_is_reported(
    rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(rnnt.PEER_VARIABLE, raising=False)
    time, memory = collected(rnnt.loss)
    assert (time["claim"], memory["claim"]) == ("rnnt.loss_time", "rnnt.loss_memory")
    assert time["skipped"].startswith(f"{rnnt.PEER_VARIABLE} names no interpreter")
    monkeypatch.setenv(rnnt.PEER_VARIABLE, "peer")
    monkeypatch.setattr(rnnt, "LOSS_SPEED", fake_speed(tmp_path, "import sys\nsys.exit('not the same loss')"))
    with pytest.raises(EdgeSpeechError, match=r"speed\.py ended with 1 with the error: not the same loss"):
        collected(rnnt.loss)


def test_the_training_speed_is_the_median_of_the_log(
    rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(rnnt, "training_files", lambda: [HERE / "train_1.yaml"])
    step = rnnt.run_steps()[RUN]
    folder = folder_of(step)
    (row,) = collected(rnnt.training_speed)
    assert "are not here" in row["skipped"]
    folder.mkdir(parents=True)
    speeds = (90.0, 150.0, 130.0)
    (folder / "log.jsonl").write_text("".join(f'{{"audio_s_per_s": {speed}}}\n' for speed in speeds))
    (row,) = collected(rnnt.training_speed)
    assert "are not here" in row["skipped"]
    save_tiny(folder / "model", PROVENANCE)
    finish(step, Made([folder / "log.jsonl"]))
    (row,) = collected(rnnt.training_speed)
    assert (row["measured"], row["n"]) == (130.0, 3)
    assert "2 process(es) on x86_64" in row["detail"]


def test_the_data_is_described_from_the_models_provenance(rnnt: ModuleType, model: Path) -> None:
    (row,) = collected(rnnt.data)
    assert (row["measured"], row["n"], row["provenance"]) == (2.0, 30, PROVENANCE)
    assert "run rnnt_1" in rnnt.state_block(_record([row]))
    save_tiny(model, {"run": "x"})
    with pytest.raises(EdgeSpeechError, match="does not say audio_s, step, utterances"):
        collected(rnnt.data)


def test_errors_are_reported_by_corpus_and_age(
    rnnt: ModuleType, model: Path, records: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = rows(cloud=False, n=5, error=0.3)
    publish(records, model, "toy", said)
    publish(records, model, "toy", condition=Condition(noise="k", snr_db=6.0, snr_rule="mean"), seed=1)
    settings = {"corpora": {"toy": "basic", "gone": "basic"}, "by_age": ["toy"], "adult": 18, "top": 3}
    here = rnnt.manifest_of
    monkeypatch.setattr(rnnt, "manifest_of", lambda name: here(str(corpus)))
    *shown, gone = collected(rnnt.errors, errors=settings)
    assert [(row["name"], row["n"]) for row in shown] == [
        ("toy", 5), ("toy, adults", 3), ("toy, children", 2),
    ]  # fmt: skip
    wrong = [sum(a != b for a, b in zip(r.ref.split(), r.hyp_raw.split(), strict=True)) for r in said]
    assert [row["measured"] for row in shown] == [sum(wrong) / 25, sum(wrong[2:]) / 15, sum(wrong[:2]) / 10]
    assert gone["skipped"] == rnnt.UNPUBLISHED
    block = rnnt.errors_block(_record([*shown, gone]))
    assert [line.split(" | ")[0] for line in block.splitlines()[2:]] == [
        "| toy", "| toy, adults", "| toy, children",
    ]  # fmt: skip


def test_without_the_ages_the_errors_of_all_are_reported(
    rnnt: ModuleType, model: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> None:
        raise EdgeSpeechError("no mirror here")

    monkeypatch.setattr(rnnt, "manifest_of", gone)
    publish(records, model, "toy")
    settings = {"corpora": {"toy": "basic"}, "by_age": ["toy"], "adult": 18, "top": 3}
    by_age, whole = collected(rnnt.errors, errors=settings)
    assert (by_age["detail"], by_age["skipped"]) == ("toy by age", "no mirror here")
    assert whole["n"] == 20


def test_a_page_without_a_model_says_that_it_is_being_made(rnnt: ModuleType) -> None:
    for nothing in (None, _record([{"claim": "rnnt.data", "skipped": "no model"}])):
        assert "still being trained" in rnnt.state_block(nothing)
        assert rnnt.errors_block(nothing) == "No record yet.\n"


def test_runs_are_shown_as_their_files_have_them(
    rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = yaml.safe_load((HERE / "train_1.yaml").read_text(encoding="utf-8"))
    second = {
        **first, "name": "later", "init": ".work/runs/rnnt_1/model", "steps": 99999, "until": 77777,
        "speech": [{"corpus": "corpora/a/b.jsonl", "repeat": 3}, {"corpus": "an4_train"}],
    }  # fmt: skip
    (tmp_path / "train_2.yaml").write_text(yaml.safe_dump(second))
    monkeypatch.setattr(rnnt, "training_files", lambda: [HERE / "train_1.yaml", tmp_path / "train_2.yaml"])
    block = rnnt.runs_block(None)
    assert "| later | rnnt_1 | b x 3, an4_train | 77777 |" in block
    assert f"hidden {first['model']['hidden']}" in block


def test_the_full_profile_makes_speech_and_runs_in_order_and_ships(
    rnnt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    assert rnnt.first_steps("quick", "*") == []
    (ship,) = rnnt.first_steps("full", "*")
    assert set(ship.given["shares"]) == {"base_2"}
    runs = {step.name: step for step in everything([ship]) if step.rule == "train"}
    assert list(runs) == ["base_1", "base_2"], "the first stage goes on from a published snapshot"
    assert {step.resources.processes for step in runs.values()} == {2}
    assert runs["base_1"].given["init"] == ["results/rnnt/snapshots/rnnt_4"]
    assert runs["base_2"].given["init"] == ["train/base_1"]
    needs = {f"{need.rule}/{need.name}" for need in runs["base_2"].needs}
    assert {"train/base_1", "synthesise/assistant_train_9", "fetch/an4_train", "fetch/rooms"} < needs
    third = rnnt.run_steps()["rnnt_3"]
    assert third.given["init"] == ["train/rnnt"] * 3 + ["train/rnnt_2"]
    needs = {f"{need.rule}/{need.name}" for need in third.needs}
    assert {"train/rnnt", "train/rnnt_2", "synthesise/assistant_train_4", "fetch/commonvoice_pt"} < needs
    told: list[tuple[dict[str, float], dict[str, Path]]] = []

    def publish(*given: Any) -> Path:
        told.append(given)
        return tmp_path

    monkeypatch.setattr(runs_module, "publish_model", publish)
    monkeypatch.setattr(runs_module, "model_files", lambda folder: ())
    folders = {f"train/{name}": folder_of(step) for name, step in runs.items()}
    job = Job(
        name="x", given=ship.given, folder=tmp_path, resources=ship.resources, outcomes={}, folders=folders
    )
    assert runs_module.ship(job) == [shipped_models() / "edge-packed" / "model.edge"]
    assert told == [(ship.given["shares"], {"base_2": folder_of(runs["base_2"])})]


def test_claims_and_checks_know_each_other() -> None:
    assert {bar["claim"] for bar in CONFIG["published"]} < CLAIMS
    source = "".join((HERE / name).read_text(encoding="utf-8") for name in ("experiment.py", "stages.py"))
    others = CLAIMS - {bar["claim"] for bar in CONFIG["published"]}
    assert all(f'"{claim}"' in source for claim in others)


def _record(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00Z", "commit": "a" * 40, "dirty": False, "cpu_model": "x", "cores": 2,
        "rows": found,
    }  # fmt: skip

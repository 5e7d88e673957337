"""The page of branching: its arms are trained, heard, measured and rendered in a tiny profile; and its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import measure
from edgespeech.model.checkpoint import save_model
from edgespeech.records.pages import write_page
from edgespeech.report.page import files
from edgespeech.steps.store import make
from helpers_branching import KINDS, always, tiny_branching
from helpers_chords import write_chords
from helpers_packed import features, tiny
from helpers_replication import describe_few, load_replication

HERE = project_root() / "replication" / "branching"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> ModuleType:
    torch.set_num_threads(1)
    return load_replication("branching")


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No mirror and a tiny model; returns a copy of the page's folder in its tiny profile, over tones."""
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "init"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    folder = tmp_path / "replication" / "branching"
    folder.mkdir(parents=True)
    for name in ("claim.yaml", "README.md"):
        (folder / name).write_bytes((HERE / name).read_bytes())
    base: dict[str, Any] = {
        "speech": [{"corpus": str(write_chords(tmp_path / "chords", 4))}],
        "batch_s": 2.0,
        "ctc": 0.0,
    }
    base["augment"] = {"room_prob": 0.0, "noise_prob": 0.0}
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    config = deepcopy(CONFIG) | load_yaml(HERE / "tiny.yaml") | {"base": "base.yaml"}
    config["noise"] = {**config["noise"], "snr_db": []}  # without a mirror there is no noise
    for arm in config["arms"]:
        arm.pop("train", None)
        if "seeds" in arm:
            arm["seeds"] = [1, 2] if arm["name"] in ("both", "cost_20", "static") else [1]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_page_is_trained_measured_and_rendered(
    few: Path, page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "HERE", few)
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results" / "branching")
    own = replace(page.PAGE, folder=few, records=tmp_path / "results" / "branching")
    for step in page.PAGE.steps("full", "*"):
        make(step)
    record = measure(own, "full")
    write_page(record, own.records)

    claims = {claim.id for claim in own.claims()}
    measured = {row.claim for row in record.rows if row.claim is not None and row.measured is not None}
    skipped = {row.claim: row for row in record.rows if row.claim is not None and row.measured is None}
    # Four steps of training switch little: what is not at equal cost, or never behind, says so.
    assert claims - measured - skipped.keys() <= {"branching.noise", "branching.backlog"}
    assert {"branching.macs", "branching.close", "branching.cost", "branching.silence"} <= measured
    assert {"branching.bifocal", "branching.bifocal_words", "branching.arbitrator"} <= measured
    streamed = next(row.measured for row in record.rows if row.claim == "branching.streaming")
    assert streamed is not None
    assert streamed.value == 1
    assert {
        f"branching.{name}" for name in ("traffic", "compute", "compressed", "bytes", "accelerator")
    } <= measured
    deployed = next(row.measured for row in record.rows if row.claim == "branching.deployed")
    assert deployed is not None
    assert deployed.value == 1
    assert not [part for part in record.not_run if "not trained" in part.reason]

    view = own.view()
    rows = _arms(view)
    assert {row["name"] for row in rows} >= {"cost_20", "cost_20:slow", "static", "random:entropy", "energy"}
    assert all(0 < row["cost"] < 3 for row in rows)
    assert {row["seed"] for row in rows if row["name"] == "static"} == {1, 2}
    written = files(own, own.newest())
    assert {path.name for path in written} == {"README.md", "cost.svg", "decisions.svg"}
    text = written[few / "README.md"]
    assert "| cost_20 | 1 |" in text
    assert "cost.svg" in text
    assert "decisions.svg" in text

    # What was published stands where nothing is trained, until the arm changes.
    monkeypatch.setenv("EDGESPEECH_PIPELINE", str(tmp_path / "empty"))
    again = _arms(replace(own).view())
    there = measure(own, "quick")
    assert [row["wer"] for row in again] == [row["wer"] for row in _rows_of(there)]
    config = load_yaml(few / "config.yaml")
    config["run"]["learning_rate"] = 0.01
    (few / "config.yaml").write_text(yaml.safe_dump(config))
    assert all("not trained" in row["skipped"] for row in _rows_of(measure(own, "quick")))


def _arms(view: Any) -> list[dict[str, Any]]:
    return next(row["branch_arms"] for row in view["rows"] if "branch_arms" in row)


def _rows_of(record: Any) -> list[dict[str, Any]]:
    return _arms(record.view())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chooses": "guess"}, "chooses is 'guess'"),
        ({"with": {"cost_weight": -1}}, "cost_weight is -1"),
        ({"branching": "wide"}, "branching is 'wide'"),
        ({"from": "nothing"}, "from is 'nothing'"),
        ({"ways": ["own", "best"]}, "ways is 'best'"),
        ({"weight": 1}, "key is 'weight'"),
        ({"name": "both"}, "arms is 'both'"),
    ],
)
def test_a_wrong_arm_is_refused(
    change: dict[str, Any], message: str, few: Path, page: ModuleType, tmp_path: Path
) -> None:
    arms = _module("arms")
    config = load_yaml(few / "config.yaml")
    config["arms"][1] |= change
    with pytest.raises(EdgeSpeechError, match=message):
        arms.BranchArms(few, config, tmp_path / "init").steps("full")
    assert page.HERE == HERE


def test_the_configuration_names_what_there_is(few: Path, page: ModuleType, tmp_path: Path) -> None:
    arms = _module("arms").BranchArms(few, load_yaml(few / "config.yaml"), tmp_path / "init")
    labels = {
        arm.first if way == arm.ways[0] else f"{arm.first}:{way}"
        for arm in arms.arms.values()
        for way in arm.ways
    }
    asked = {CONFIG["headline"], CONFIG["all_slow"], *CONFIG["points"]}
    asked |= {entry[key] for entry in CONFIG["comparisons"] for key in ("arm", "against")}
    assert asked <= labels
    assert len(CONFIG["points"]) >= 5
    seeds = {arm["name"]: arm.get("seeds") for arm in CONFIG["arms"]}
    for entry in CONFIG["comparisons"]:
        if entry["arm"].partition(":")[0] == CONFIG["headline"]:
            assert seeds[entry["against"].partition(":")[0]] == [1, 2, 3]
    assert {entry["claim"] for entry in CONFIG["comparisons"]} <= {claim.id for claim in page.PAGE.claims()}
    with pytest.raises(EdgeSpeechError, match="a pattern of one of"):
        arms.steps("full", "nothing_*")
    assert arms.steps("quick") == []


@pytest.mark.parametrize("way", ["own", "slow", "fast", "random", "energy", "pivot", "entropy"])
def test_frames_are_heard_by_the_way_that_is_asked_for(way: str, page: ModuleType) -> None:
    del page
    hearing = _module("hearing")
    trained = tiny_branching()
    sounds = [
        hearing.Sound(features=features(4 * count + 3, seed=count), frames=count - 2, pivot=count // 2)
        for count in (12, 30, 18)
    ]
    threshold = {"random": 0.4, "energy": 0.1, "entropy": 1.0}.get(way, 0.0)
    said = hearing.hear(trained, sounds, hearing.chooser(trained, way, sounds, threshold, 3))
    assert [len(one.mix) for one in said] == [one.frames for one in sounds]
    if way in ("slow", "fast"):
        assert all((one.mix == (way == "slow")).all() for one in said)
    if way == "pivot":
        for one, sound in zip(said, sounds, strict=True):
            assert one.mix[:, 0].tolist() == [int(t >= sound.pivot) for t in range(sound.frames)]
    if way == "own":
        told = hearing.decisions(trained.model, sounds)
        assert all(np.array_equal(one.mix, other) for one, other in zip(said, told, strict=True))
    if way == "entropy":
        for one in said:  # a frame is slow after an output of more than so many nats
            assert one.mix[1:, 0].tolist() == [int(value > 1.0) for value in one.entropy[:-1]]
            assert one.mix[0, 0] == 0
    if way in ("own", "random", "energy", "entropy"):
        assert 0 < sum(one.mix.sum() for one in said) < sum(one.mix.size for one in said)


@pytest.mark.parametrize("fast", KINDS)
def test_batches_change_no_word_and_streams_are_whole(fast: str, page: ModuleType) -> None:
    del page
    hearing, decided = _module("hearing"), _module("decided")
    trained = tiny_branching(fast, per_layer=True)  # type: ignore[arg-type]  # one of KINDS
    sounds = [hearing.Sound(features=features(4 * n, seed=n), frames=n) for n in (9, 25, 14)]
    choose = hearing.chooser(trained, "own", sounds, 0.0, 0)
    together = hearing.hear(trained, sounds, choose)
    alone = [hearing.hear(trained, [one], choose)[0] for one in sounds]
    assert [one.text for one in together] == [one.text for one in alone]
    assert any(one.text for one in together)
    same, largest = decided.streamed(trained, sounds)
    assert same == 3
    assert largest < 1e-4


def test_a_network_that_never_switches_is_a_warning_in_the_record(page: ModuleType) -> None:
    del page
    hearing, listening = _module("hearing"), _module("listening")
    trained = always(tiny_branching(), slow=True)
    sounds = [hearing.Sound(features=features(40, seed=1), frames=10)]
    said = hearing.hear(trained, sounds, hearing.chooser(trained, "own", sounds, 0.0, 0))
    result = listening.Result(
        way="own",
        label="cost_20",
        seed=1,
        texts=[one.text for one in said],
        cost=[1.0],
        slow=[float(one.mix.sum()) for one in said],
        count=[one.mix.size for one in said],
    )
    assert result.warning == "the arbitrator never switches: all 10 decisions are slow"
    assert replace(result, slow=[3.0]).warning is None
    assert replace(result, way="slow").warning is None
    assert "0 decisions" not in str(replace(result, count=[0], slow=[0.0]).warning)


def test_thresholds_give_the_share_that_is_asked_for(page: ModuleType) -> None:
    del page
    hearing = _module("hearing")
    sounds = [hearing.Sound(features=features(80, seed=n), frames=20) for n in range(4)]
    threshold = hearing.energy_threshold(sounds, 4, 0.3)
    trained = tiny_branching()
    said = hearing.hear(trained, sounds, hearing.chooser(trained, "energy", sounds, threshold, 0))
    assert sum(float(one.mix.sum()) for one in said) == pytest.approx(0.3 * 80)
    doubt = hearing.entropy_threshold(said, 0.25)
    assert sum(int((one.entropy > doubt).sum()) for one in said) == 20


def test_silence_and_speech_are_told_apart(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    del page
    hearing, decided = _module("hearing"), _module("decided")
    trained = tiny_branching()
    sounds = [hearing.Sound(features=features(40, seed=n), frames=10, sos=4, eos=8) for n in range(3)]
    mixes = [np.array([[1], [0], [0], [0], [1], [1], [1], [0], [0], [0]], np.uint8)] * 3
    monkeypatch.setattr(decided, "decisions", lambda model, some: mixes[: len(some)])
    row = decided.silence([trained], sounds, ["a", "b", "c"], 0)
    assert row["measured"] == pytest.approx((1 / 6) / (3 / 4))
    assert row["shares"] == {"in_silence": pytest.approx(1 / 6), "in_speech": 0.75}
    assert row["low"] == pytest.approx(row["high"])
    with pytest.raises(EdgeSpeechError, match="where its speech begins"):
        decided.silence([trained], [replace(sounds[0], sos=None)], ["a"], 0)


def test_what_is_left_at_the_end_of_speech(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    del page
    hearing, decided = _module("hearing"), _module("decided")
    plain, aware = tiny_branching(), tiny_branching(seed=1)
    sounds = [hearing.Sound(features=features(40, seed=n), frames=10, sos=2, eos=8) for n in range(3)]
    late = np.array([[0], [0], [0], [0], [1], [1], [1], [1], [0], [0]], np.uint8)
    early = late[::-1].copy()
    monkeypatch.setattr(
        decided, "decisions", lambda model, some: [late if model is plain.model else early] * len(some)
    )
    row = decided.waits([plain], [aware], sounds, [None] * 3, 1.1, 0)
    assert row["measured"] < 0.5
    assert row["waits_s"][0] > row["waits_s"][1] >= 0
    macs = plain.model.transcriber.macs
    cost = macs.cost(torch.from_numpy(late.astype(np.float64))).numpy()
    behind = 0.0
    for frame in cost[:8]:
        behind = max(0.0, behind + frame / (1.1 * cost.mean()) - 1)
    assert row["waits_s"][0] == pytest.approx(0.04 * behind)


def test_words_count_from_the_pivot_on(page: ModuleType) -> None:
    del page
    hearing = _module("hearing")
    trained = tiny_branching()
    sound = hearing.Sound(features=features(120, seed=4), frames=30)
    every = hearing.chooser(trained, "slow", [sound], 0.0, 0)
    whole = hearing.hear(trained, [sound], every)[0].text
    later = hearing.hear(trained, [replace(sound, pivot=20)], every)[0].text
    assert whole != later
    assert whole.replace(" ", "").endswith(later.replace(" ", ""))


def test_a_control_that_is_cheaper_is_no_control(page: ModuleType) -> None:
    del page
    listening = _module("listening")

    class Utterances:
        class words:  # noqa: N801 - stands for an object
            @staticmethod
            def errors(texts: list[str]) -> list[int]:
                return [len(text) for text in texts]

            compare: Callable[..., Any]

        @staticmethod
        def mean_cost(one: Any) -> float:
            return float(one.cost[0])

    one = listening.Result(way="own", label="a", seed=1, texts=["x"], cost=[0.6], slow=[1.0], count=[2])
    asked = [{"claim": "branching.beats_static", "arm": "a", "against": "b", "equal_cost": True}]
    row = next(listening.comparisons(Utterances, [one, replace(one, label="b", cost=[0.5])], asked))
    assert row["skipped"].startswith("not at equal cost: 0.600 against 0.500")
    row = next(listening.comparisons(Utterances, [one], asked))
    assert row["skipped"] == "not trained, or of no common seed: b"


def _module(name: str) -> Any:
    from importlib import import_module

    load_replication("branching")
    return import_module(f"replication.branching.{name}")


def test_a_table_says_what_was_not_run(page: ModuleType) -> None:
    row = {"name": "cost_20", "seed": 1, "skipped": "branching: cost_20 is not trained on this machine"}
    view = {"config": {"headline": "cost_20"}, "rows": [{"branch_arms": [row]}]}
    text = page.arms_block(view)
    assert "not run: branching: cost_20 is not trained on this machine" in text
    assert page.plots(view) == {}
    assert json.dumps(view)

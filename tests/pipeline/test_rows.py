"""Rows of a plan as steps: what their keys depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.plan import Plan
from edgespeech.pipeline import rows
from edgespeech.records import code
from edgespeech.steps import step as steps

ROW: dict[str, Any] = {
    "corpora": ["coffee_dev"], "systems": ["edge-packed", "edge-fp32", "pocketsphinx", "cloud-whisper-base"],
}  # fmt: skip
PLAN: dict[str, Any] = {
    "seed": 0, "threads": 1, "cloud_speedup": 10.0, "networks": ["wifi", "car"], "rows": [ROW],
}  # fmt: skip


def forget() -> None:
    """What is cached of code and models."""
    steps.code_sha256.cache_clear()
    rows._recogniser_sha256.cache_clear()
    rows._files.cache_clear()


def keys(**changes: Any) -> dict[str, str]:
    made = rows.row_steps(Plan.model_validate(PLAN | changes), "quick")
    return {step.given["run"]["system"]: step.key for step in made}


def test_a_row_is_made_again_when_what_decides_it_changes() -> None:
    before = keys()
    assert len(set(before.values())) == 4
    assert keys() == before
    for changes in (
        {"seed": 1},
        {"threads": 2},
        {"networks": ["wifi"]},
        {"rows": [ROW | {"band": "telephone"}]},
        {"rows": [ROW | {"context": "coffee"}]},
        {"rows": [ROW | {"stream": "wake_clean"}]},
        {"rows": [ROW | {"subset": {"quick": 7}}]},
        {"rows": [ROW | {"noise": {"name": "kitchen", "rule": "mean", "snr_db": [6]}}]},
        {"rows": [ROW | {"corpora": ["an4_test"]}]},
    ):
        assert not set(keys(**changes).values()) & set(before.values()), changes


def test_what_a_row_needs_and_is_called() -> None:
    noisy = ROW | {"noise": {"name": "kitchen", "rule": "mean", "snr_db": [6]}, "systems": ["pocketsphinx"]}
    (step,) = rows.row_steps(Plan.model_validate(PLAN | {"rows": [noisy]}), "full")
    assert step.name == "pocketsphinx-coffee_dev-kitchen-6dB"
    assert [need.name for need in step.needs] == ["coffee_dev", "noise"]
    assert step.anyway
    (step,) = rows.row_steps(
        Plan.model_validate(PLAN | {"rows": [ROW | {"stream": "wake_kitchen", "systems": ["edge-packed"]}]}),
        "full",
    )
    assert step.name == "edge-packed-coffee_dev-wake_kitchen"
    assert [need.name for need in step.needs] == ["coffee_dev", "real_dev", "noise"]
    assert [path.name for path in step.inputs][-2:] == ["wake_kitchen.yaml", "model.edge"]


def test_a_changed_kernel_re_makes_what_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys()
    monkeypatch.setattr(code, "NATIVE", set())  # as if all of the C++ had gone
    forget()
    after = keys()
    changed = {name for name in before if before[name] != after[name]}
    assert "edge-packed" in changed
    assert not {"pocketsphinx", "cloud-whisper-base"} & changed
    forget()


def test_a_changed_model_re_makes_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = keys()
    (tmp_path / "model.safetensors").write_bytes(b"other")
    real: Callable[[Any], Any] = find_recogniser("edge-fp32").files.__func__  # type: ignore[attr-defined]

    def files(self: Any) -> dict[str, Path]:
        return {**real(self), "weights.safetensors": tmp_path / "model.safetensors"}

    monkeypatch.setattr(type(find_recogniser("edge-fp32")), "files", files)
    forget()
    after = keys()
    forget()
    assert {name for name in before if before[name] != after[name]} == {"edge-fp32"}


def test_a_plan_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="name is 'pigeon'"):
        keys(networks=["pigeon"])
    with pytest.raises(EdgeSpeechError, match="split is 'nowhere'"):
        keys(rows=[ROW | {"corpora": ["nowhere"]}])
    with pytest.raises(EdgeSpeechError, match="systems is 'nobody'"):
        keys(rows=[ROW | {"systems": ["nobody"]}])

from pathlib import Path

import pytest
import yaml

from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import recognisers
from edgespeech.harness.plan import Plan, expand, left_out, load_plan, source_sha256

GOOD = {
    "seed": 0,
    "threads": 1,
    "cloud_speedup": 10.0,
    "networks": ["wifi"],
    "exclude": ["null"],
    "rows": [
        {"corpora": ["a", "b"], "systems": "all", "subset": {"quick": 5}},
        {"corpora": ["a"], "systems": ["x"], "noise": {"name": "n", "rule": "mean", "snr_db": [6.0, 12.0]}},
        {"corpora": ["a"], "systems": ["null"], "profiles": ["full"]},
    ],
}


def plan_with(**changes: object) -> dict[str, object]:
    return {**GOOD, **changes}


def test_a_plan_expands_to_one_run_per_system_corpus_and_ratio() -> None:
    plan = Plan.model_validate(GOOD)
    quick = expand(plan, "quick", ["null", "x", "y"])
    assert [(run.system, run.corpus, run.snr_db, run.subset) for run in quick] == [
        ("x", "a", None, 5), ("y", "a", None, 5), ("x", "b", None, 5), ("y", "b", None, 5),
        ("x", "a", 6.0, None), ("x", "a", 12.0, None),
    ]  # fmt: skip
    full = expand(plan, "full", ["null", "x", "y"])
    assert full[-1].system == "null"
    assert all(run.subset is None for run in full)


def test_a_row_in_a_band_is_another_run() -> None:
    rows = [{"corpora": ["a"], "systems": ["x"], **band} for band in ({}, {"band": "telephone"})]
    plan = Plan.model_validate(plan_with(rows=rows))
    runs = expand(plan, "quick", ["x"])
    assert [run.condition.label for run in runs] == ["clean", "telephone"]
    assert len(set(runs)) == 2


def test_what_a_profile_leaves_out_is_one_line() -> None:
    noise = {"name": "n", "rule": "mean", "snr_db": [6.0, 12.0]}
    rows = [
        {"corpora": ["a", "b"], "systems": ["x"], "subset": {"quick": 5, "full": 500}},
        {"corpora": ["a"], "systems": ["x"], "noise": noise, "profiles": ["full"]},
        {"corpora": ["a"], "systems": ["x"], "band": "telephone", "profiles": ["full"]},
        {"corpora": ["c"], "systems": ["x"], "profiles": ["full"]},
    ]
    plan = Plan.model_validate(plan_with(rows=rows))
    assert left_out(plan, "quick", ["x"]) == (
        "Profile quick: at most 5 utterances of a corpus, without 2 rows of noise, without 1 rows of telephone band, "
        "without 1 rows of c. PROFILE=full runs all of the plan."
    )
    assert left_out(plan, "full", ["x"]) == ""
    assert left_out(Plan.model_validate(plan_with(rows=[GOOD["rows"][1]])), "quick", ["x"]) == ""  # type: ignore[index]


def test_the_same_row_twice_is_one_run() -> None:
    plan = Plan.model_validate(plan_with(rows=[GOOD["rows"][0], GOOD["rows"][0]]))  # type: ignore[index]  # a list
    assert len(expand(plan, "quick", ["x"])) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, "speed is 1, expected Extra inputs are not permitted"),
        ({"seed": "zero"}, "seed is 'zero', expected Input should be a valid integer"),
        ({"seed": -1}, "seed is -1, expected Input should be greater than or equal to 0"),
        ({"cloud_speedup": 0.0}, r"cloud_speedup is 0\.0, expected Input should be greater than 0"),
        ({"threads": 1000}, "threads is 1000"),
        ({"rows": []}, r"rows is \[\]"),
        ({"rows": [{"corpora": ["a"], "systems": "some"}]}, "systems"),
    ],
)
def test_bad_plans_name_file_field_and_value(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan_with(**change)))
    with pytest.raises(EdgeSpeechError, match=message) as caught:
        load_plan(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="cannot be read"):
        load_plan(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(EdgeSpeechError, match="not YAML"):
        load_plan(tmp_path / "bad.yaml")


def test_a_system_that_does_not_exist_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="systems is 'x', expected one of y"):
        expand(Plan.model_validate(GOOD), "quick", ["y"])


def test_the_shipped_plan_is_valid_and_takes_every_recogniser() -> None:
    plan = load_plan(project_root() / "replication" / "headline" / "config.yaml")
    names = list(recognisers())
    assert {run.system for run in expand(plan, "full", names)} == set(names)
    quick = [name for name in names if not name.endswith("-vad")]  # the same recognisers, once more
    assert {run.system for run in expand(plan, "quick", names)} == set(quick)


@pytest.mark.parametrize("name", ["kernel.hpp", "kernel.cpp", "kernel.h", "measure.py", "../CMakeLists.txt"])
def test_a_change_of_any_source_that_measures_changes_its_hash(tmp_path: Path, name: str) -> None:
    package, build = tmp_path / "package", tmp_path / "CMakeLists.txt"
    (package / "report").mkdir(parents=True)
    for file in (
        "kernel.hpp",
        "kernel.cpp",
        "kernel.h",
        "measure.py",
        "report/table.py",
        "../CMakeLists.txt",
    ):
        (package / file).write_text("one")
    before = source_sha256(package, build)
    (package / "report" / "table.py").write_text("two")
    assert source_sha256(package, build) == before
    (package / name).write_text("two")
    assert source_sha256(package, build) != before


def test_a_package_without_its_build_file_has_a_hash_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "measure.py").write_text("one")
    assert len(source_sha256(tmp_path, tmp_path / "CMakeLists.txt")) == 64

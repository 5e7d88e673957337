import subprocess
from pathlib import Path

import pytest

from edgespeech.records import provenance


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def test_the_commit_and_whether_the_tree_differs_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit, dirty = provenance.git_state(tmp_path)
    assert len(commit) == 40
    assert not dirty
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("{}")
    assert provenance.git_state(tmp_path) == (commit, False)
    (tmp_path / "a.py").write_text("b")
    assert provenance.git_state(tmp_path) == (commit, True)


def test_outside_a_checkout_nothing_is_claimed(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == ("unknown", True)


def test_versions_and_processor_are_there_and_say_no_host() -> None:
    assert provenance.package_versions()["numpy"].count(".") == 2
    model, flags = provenance.processor()
    assert model
    assert flags == sorted(flags)
    assert provenance.cores() >= 1
    assert provenance.load_average() >= 0


def installed(folder: Path, name: str, version: str, *lines: str) -> Path:
    """A distribution as pip leaves it, of metadata alone."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    head = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}")
    (info / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    return info


def test_a_new_engine_is_recorded_without_an_edit_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = installed(
        tmp_path, "new_engine", "1.2.3",
        "Requires-Dist: its-runtime>=4", "Requires-Dist: not-installed",
        "Provides-Extra: fast", "Requires-Dist: its-kernels; extra == 'fast'",
        "Provides-Extra: dev", "Requires-Dist: its-linter; extra == 'dev'",
    )  # fmt: skip
    (info / "entry_points.txt").write_text("[edgespeech.recognisers]\nnew = new_engine\n")
    for name, version in (("its_runtime", "4.5"), ("its_kernels", "0.1"), ("its_linter", "9")):
        installed(tmp_path, name, version)
    before = provenance.package_versions()
    monkeypatch.syspath_prepend(str(tmp_path))
    new = {name: version for name, version in provenance.package_versions().items() if name not in before}
    assert new == {"new_engine": "1.2.3", "its-runtime": "4.5", "its-kernels": "0.1"}


def test_what_our_own_recognisers_use_is_recorded() -> None:
    assert provenance.package_versions().keys() >= {
        "edgespeech",
        "torch",
        "jiwer",
        "pocketsphinx",
        "ctranslate2",
    }

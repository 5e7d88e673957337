import subprocess
from pathlib import Path

from edgespeech.harness import provenance


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

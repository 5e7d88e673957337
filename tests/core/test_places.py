from pathlib import Path
from typing import Any

import pytest

from edgespeech.core import places
from edgespeech.errors import EdgeSpeechError


def test_the_project_is_found_from_the_package() -> None:
    assert (places.project_root() / "src" / "edgespeech" / "contracts.py").is_file()


def test_the_project_is_found_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "__file__", str(tmp_path / "site-packages" / "places.py"))
    deep = tmp_path / "checkout" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with pytest.raises(EdgeSpeechError, match="no EdgeSpeech checkout here or above"):
        places.project_root()
    checkout: Any = tmp_path / "other"
    (checkout / "deep").mkdir(parents=True)
    (checkout / "pyproject.toml").write_text('[project]\nname = "edgespeech"\n')
    monkeypatch.chdir(checkout / "deep")
    assert places.project_root() == checkout


def test_the_mirror_is_named_or_beside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path))
    assert places.mirror_root() == tmp_path
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    assert places.mirror_root() is None
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(EdgeSpeechError, match=r"EDGESPEECH_MIRROR is .*gone', expected an existing folder"):
        places.mirror_root()
    monkeypatch.delenv("EDGESPEECH_MIRROR")
    monkeypatch.setattr(places, "checkout", lambda: tmp_path / "checkout")
    assert places.mirror_root() is None
    (tmp_path / "shared" / "mirror").mkdir(parents=True)
    assert places.mirror_root() == tmp_path / "shared" / "mirror"


def test_the_work_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    assert places.work_dir() == tmp_path / "work"
    assert (tmp_path / "work").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "file"))
    with pytest.raises(EdgeSpeechError, match="could not be made"):
        places.work_dir()


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(places, "checkout", lambda: None)
    monkeypatch.setattr(Path, "home", unknown)
    for name in ("EDGESPEECH_WORK", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EdgeSpeechError, match="HOME is None, expected a home folder, or EDGESPEECH_WORK"):
        places.work_dir()

"""Paths of the project, its results, the mirror and the work folder; the only module that knows `results/`."""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from pathlib import Path

from edgespeech.core.folders import finish_switch
from edgespeech.errors import EdgeSpeechError, bad

DATA = Path(__file__).resolve().parents[1] / "_data"
"""Files of the checkout that a wheel includes, see `CMakeLists.txt`."""
MODEL_VARIABLE = "EDGESPEECH_EDGE_MODEL"
"""Environment variable that names a folder with the model to use instead of the shipped one."""


def checkout() -> Path | None:
    """The folder of the checkout: the nearest one above this package, or above the working directory, whose
    `pyproject.toml` names this project; None where there is none, as for an installed package.
    """
    for start in (Path(__file__).resolve(), Path.cwd()):
        for folder in (start, *start.parents):
            if _is_project(folder / "pyproject.toml"):
                return folder
    return None


def project_root() -> Path:
    """The folder of the checkout, for files that an installed package lacks: records, pages, sources.

    Raises:
        EdgeSpeechError: there is no checkout.
    """
    folder = checkout()
    if folder is None:
        raise EdgeSpeechError(
            f"{Path.cwd()}: no EdgeSpeech checkout here or above, expected to run inside one"
        )
    return folder


@lru_cache(maxsize=64)
def _is_project(pyproject: Path) -> bool:
    try:
        content = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(content.get("project", {}).get("name") == "edgespeech")


def results_dir() -> Path:
    """The folder of everything published: records, references, models, and a folder for each replication page."""
    return project_root() / "results"


def records_dir() -> Path:
    """The folder of the published records."""
    return results_dir() / "records"


def manifests_dir() -> Path:
    """Descriptions of corpora, grammars, phrase lists and the embedded corpus: the checkout's, or the package's."""
    return _shipped("data_manifests", "data_manifests")


def shipped_models() -> Path:
    """The trained models that ship with the project: the checkout's, or the package's.

    Raises:
        EdgeSpeechError: a killed process was shipping a model, and its files cannot be put in place.
    """
    folder = _shipped("results/models", "models")
    finish_switch(folder)
    return folder


def _shipped(in_checkout: str, in_package: str) -> Path:
    folder = checkout()
    return DATA / in_package if folder is None else folder / in_checkout


def edge_model() -> Path:
    """The folder of the single-precision on-device model: the one that `MODEL_VARIABLE` names, else the shipped one."""
    named = os.environ.get(MODEL_VARIABLE)
    return Path(named) if named else shipped_models() / "edge-fp32"


def networks_file() -> Path:
    """The learned end-pointer's networks, which `replication/endpointing` trains."""
    return shipped_models() / "endpointing" / "networks.safetensors"


def mirror_root() -> Path | None:
    """The local copy of the public corpora, or None when there is none.

    `EDGESPEECH_MIRROR` names it (empty: use no mirror); else it is `../shared/mirror` beside the checkout.

    Raises:
        EdgeSpeechError: `EDGESPEECH_MIRROR` names a folder that does not exist.
    """
    named = os.environ.get("EDGESPEECH_MIRROR")
    if named is not None:
        if not named:
            return None
        if not Path(named).is_dir():
            raise bad("environment", "EDGESPEECH_MIRROR", named, "an existing folder, or empty for no mirror")
        return Path(named)
    folder = checkout()
    beside = None if folder is None else folder.parent / "shared" / "mirror"
    return beside if beside is not None and beside.is_dir() else None


def work_dir() -> Path:
    """The folder for everything fetched and generated; created if missing.

    `EDGESPEECH_WORK` names it; else it is `.work` in the checkout, or `edgespeech` in the user's cache folder.

    Raises:
        EdgeSpeechError: it cannot be made.
    """
    named = os.environ.get("EDGESPEECH_WORK")
    folder = Path(named).resolve() if named else _default_work_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeSpeechError(f"{folder}: could not be made: {error.strerror or error}") from error
    return folder


def _default_work_dir() -> Path:
    folder = checkout()
    if folder is not None:
        return folder / ".work"
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "edgespeech"
    try:
        return Path.home() / ".cache" / "edgespeech"
    except RuntimeError:  # no HOME, and a user that the system does not know, as in a container
        raise bad(
            "environment", "HOME", None, "a home folder, or EDGESPEECH_WORK with a work folder"
        ) from None

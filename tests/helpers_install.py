"""The package from another folder than the one that the tests import it from."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import venv
from importlib import import_module
from pathlib import Path


def bare_python(home: Path, *folders: Path) -> Path:
    """An interpreter that finds some folders and what the package needs, but no editable install.

    Args:
        home: where its environment goes.
        folders: with packages; they come first.
    """
    venv.create(home, symlinks=True)
    packages = [*folders, *(Path(path) for path in sys.path if path.endswith("site-packages"))]
    purelib = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    (purelib / "found.pth").write_text("".join(f"{path}\n" for path in packages), encoding="utf-8")
    return home / "bin" / "python"


def bring_engine(package: Path) -> None:
    """Copy the native engine into a copy of the package that lacks it: an editable install has it elsewhere."""
    if not list((package / "engine").glob("_native*")):
        native = import_module("edgespeech.engine._native").__file__
        assert native is not None
        shutil.copy(native, package / "engine")

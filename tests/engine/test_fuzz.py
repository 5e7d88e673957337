"""A few seconds of fuzzing, as `make fuzz` does for longer: the loader, the kernels and one step of a model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 5

pytestmark = pytest.mark.skipif(
    shutil.which("clang++") is None and shutil.which("g++") is None, reason="neither clang++ nor g++"
)


def done(*command: str | Path, folder: Path) -> str:
    """What a command that must succeed said."""
    ran = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    return ran.stdout


def test_damaged_files_do_no_harm(tmp_path: Path) -> None:
    done(sys.executable, ROOT / "fuzz" / "seeds.py", tmp_path / "seeds", folder=tmp_path)
    done(ROOT / "fuzz" / "build.sh", tmp_path, folder=tmp_path)
    program = tmp_path / "fuzz_edge_file"
    if shutil.which("clang++"):
        said = done(program, f"-max_total_time={SECONDS}", "seeds", folder=tmp_path)
        assert "DONE" in said or "Done" in said
    else:
        said = done(program, "seeds", str(SECONDS), folder=tmp_path)
        assert "no fault" in said
        for model in ("stateless", "lstm", "sparse", "factorised", "narrow"):
            assert f"/{model}.edge: taken" in said

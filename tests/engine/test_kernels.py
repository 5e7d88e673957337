"""Every kernel against a plain triple loop, in a build with AddressSanitizer and UBSan: exact sizes, no over-read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNAVAILABLE = 77  # check_kernels: this CPU lacks the ISA
FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the self-checking programs."""
    folder = tmp_path_factory.mktemp("checks")
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), f"-DCMAKE_CXX_FLAGS={FLAGS}"]
    build = ["cmake", "--build", str(folder), "--target", "check_kernels", "check_floats"]
    for command in (configure, build):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(program: Path, *arguments: str, isa: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "EDGESPEECH_ISA"}
    if isa is not None:
        environment["EDGESPEECH_ISA"] = isa
    return subprocess.run(
        [str(program), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "neon"])
def test_kernel_equals_a_plain_loop_and_reads_nothing_else(programs: Path, isa: str) -> None:
    done = run(programs / "check_kernels", isa)
    if done.returncode == UNAVAILABLE:
        pytest.skip(f"this CPU has no {isa}")
    assert done.returncode == 0, done.stdout


def test_the_environment_chooses_the_kernel(programs: Path) -> None:
    assert run(programs / "check_kernels", "chosen", isa="scalar").stdout == "scalar\n"
    refused = run(programs / "check_kernels", "chosen", isa="mmx")
    assert refused.returncode == 1
    assert "isa: got 'mmx', expected scalar, avx2, avx512 or neon" in refused.stdout


def test_an_isa_of_another_processor_is_refused(programs: Path) -> None:
    absent = [
        isa
        for isa in ("avx512", "avx2", "neon")
        if run(programs / "check_kernels", isa).returncode == UNAVAILABLE
    ]
    assert absent  # no processor has both AVX2 and NEON
    refused = run(programs / "check_kernels", "chosen", isa=absent[0])
    assert refused.returncode == 1
    assert "which this CPU lacks" in refused.stdout


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "neon"])
def test_floats_are_those_of_double_precision(programs: Path, isa: str) -> None:
    done = run(programs / "check_floats", isa)
    if done.returncode == UNAVAILABLE:
        pytest.skip(f"this CPU has no {isa}")
    assert done.returncode == 0, done.stdout

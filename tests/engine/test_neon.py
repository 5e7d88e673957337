"""The AArch64 engine, compiled for that processor and run under emulation, where both tools are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgespeech.model.config import PredictorKind
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from helpers_packed import features, prune, tiny

ROOT = Path(__file__).parents[2]
TOOLS = ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
PROCESSORS = {"cortex-a53": "without the dot product", "max": "with the dot product"}

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the self-checking programs, for AArch64."""
    folder = tmp_path_factory.mktemp("aarch64")
    toolchain = Path(__file__).parent / "cpp" / "aarch64.cmake"
    options = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DCMAKE_BUILD_TYPE=Release"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), *options]
    build = ["cmake", "--build", str(folder), "--target", "check_kernels", "check_floats", "run_model"]
    for command in (configure, build):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(processor: str, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["qemu-aarch64", "-cpu", processor, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("processor", PROCESSORS, ids=PROCESSORS.values())
def test_kernel_equals_a_plain_loop(programs: Path, processor: str) -> None:
    done = run(processor, programs / "check_kernels", "neon")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_chosen_and_floats_are_those_of_double_precision(programs: Path) -> None:
    assert run("max", programs / "check_kernels", "chosen").stdout == "neon\n"
    done = run("max", programs / "check_floats", "neon")
    assert done.returncode == 0, done.stdout


ENCODINGS = {
    "fp32": Encoding(bits=32),
    "fp16": Encoding(bits=16),
    "int8": Encoding(bits=8),
    "5 bits with zeros": Encoding(bits=5, store="sparse"),
    "4 bits with zeros, groups": Encoding(bits=4, group=64, store="sparse"),
    "codebook": Encoding(bits=3, codebook=True),
}


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("processor", PROCESSORS, ids=PROCESSORS.values())
def test_a_whole_model_says_there_what_it_says_here(
    programs: Path, tmp_path: Path, processor: str, encoding: Encoding, predictor: PredictorKind
) -> None:
    trained = tiny(predictor)
    prune(trained.model, 0.4)
    path, heard = tmp_path / "model.edge", tmp_path / "features"
    pack(trained, Layout(matrices=encoding), path)
    x = features(150)
    x.tofile(heard)
    for beam in (1, 4):
        with PackedModel(path) as model:
            stream = model.open(beam)
            stream.accept(x)
            expected = stream.best
        done = run(processor, programs / "run_model", str(path), str(heard), str(beam))
        assert done.returncode == 0, done.stderr
        *labels, score = done.stdout.split()
        assert tuple(map(int, labels)) == expected.labels
        assert expected.labels
        assert float.fromhex(score) == pytest.approx(expected.score, rel=1e-12)

"""Optional packages: which extra installs which, and the message for a missing one."""

from __future__ import annotations

from importlib.util import find_spec

from edgespeech.errors import EdgeSpeechError

EXTRAS = {
    "asv": "dev",
    "av": "cloud",
    "bsdiff4": "peers",
    "faster_whisper": "cloud",
    "jinja2": "report",
    "kokoro_onnx": "synth",
    "matplotlib": "report",
    "onnx": "export",
    "onnxruntime": "export",
    "pocketsphinx": "peers",
    "sherpa_onnx": "peers",
    "snakemake": "pipeline",
    "tokenizers": "peers",
    "vosk": "peers",
    "websockets": "cloud",
    "zstandard": "peers",
}
"""Package, as imported, to the extra of this project that installs it."""


def missing(module: str) -> str | None:
    """A message that names the missing package and its extra, or None if it is installed."""
    try:
        if find_spec(module) is not None:
            return None
    except (ImportError, ValueError):
        pass
    package = module.replace("_", "-")
    extra = EXTRAS.get(module)
    how = f"pip install 'edgespeech[{extra}]'" if extra else f"pip install {package}"
    return f"package {package} is not installed: {how}"


def need(module: str, what: str) -> None:
    """Refuse work for which a package is missing.

    Args:
        module: as imported.
        what: what needs it; the message begins with this.

    Raises:
        EdgeSpeechError: the package is not installed.
    """
    if (line := missing(module)) is not None:
        raise EdgeSpeechError(f"{what}: {line}")

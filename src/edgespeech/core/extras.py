"""Optional packages: which extra brings which, and one line that says so where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from edgespeech.errors import EdgeSpeechError

EXTRAS = {
    "asv": "dev",
    "av": "cloud",
    "faster_whisper": "cloud",
    "jinja2": "report",
    "kokoro_onnx": "synth",
    "matplotlib": "report",
    "onnx": "export",
    "onnxruntime": "export",
    "pocketsphinx": "peers",
    "sherpa_onnx": "peers",
    "snakemake": "pipeline",
    "websockets": "cloud",
}
"""Package, as imported, to the extra of this project that installs it."""


def missing(module: str) -> str | None:
    """The line that names the package and its extra, or None when it is here."""
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
        what: what needs it, as the message begins.

    Raises:
        EdgeSpeechError: the package is not here.
    """
    if (line := missing(module)) is not None:
        raise EdgeSpeechError(f"{what}: {line}")

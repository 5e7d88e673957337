"""Base of peers that run the exported model: its ONNX files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from edgespeech.contracts import Kind, Recogniser, Request
from edgespeech.core.exported import PARTS, TOKENS, onnx_file
from edgespeech.core.files import sha256_file
from edgespeech.core.places import edge_model, work_dir
from edgespeech.errors import EdgeSpeechError, bad


class ExportedModel(Recogniser):
    """The on-device model's ONNX files, run by a third-party package; a subclass sets which.

    Attributes:
        package: that runs them, as imported.
    """

    kind = Kind.DEVICE
    package: ClassVar[str]

    def __init__(self, *, folder: str | None = None, int8: bool = False, threads: int = 1) -> None:
        """Set the options.

        Args:
            folder: output of `edgespeech export`; None: `exported` in the work folder.
            int8: run the quantised files.
            threads: of the package.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        if not isinstance(int8, bool):
            raise bad(self.name, "int8", int8, "true or false")
        if not isinstance(threads, int) or threads < 1:
            raise bad(self.name, "threads", threads, "a whole number of at least 1")
        self._folder, self._int8, self._threads = folder, int8, threads

    def files(self) -> dict[str, Path]:
        """The parts of the model and its word pieces."""
        folder = work_dir() / "exported" if self._folder is None else Path(self._folder)
        return {
            **{part: onnx_file(folder, part, int8=self._int8) for part in PARTS},
            "tokens": folder / TOKENS,
        }

    def missing(self) -> str | None:
        """The missing package or files."""
        if find_spec(self.package) is None:
            return f"package {self.package.replace('_', '-')} is not installed"
        files = self.files()
        for file in files.values():
            if not file.is_file():
                return f"no {file}: `edgespeech export {edge_model()} --out {file.parent}` makes it"
        return None

    def _checked(self, request: Request) -> None:
        """Refuse a language that the model does not support."""
        if request.language != "en":
            raise bad(self.name, "language", request.language, "en")

    def _present(self) -> dict[str, Path]:
        """The files.

        Raises:
            EdgeSpeechError: the package or a file is missing.
        """
        if (reason := self.missing()) is not None:
            raise EdgeSpeechError(f"{self.name}: {reason}")
        return self.files()


def hashes(files: dict[str, Path]) -> dict[str, str]:
    """The hashes for the record, by file name."""
    return {file.name: sha256_file(file) for file in files.values()}

"""Base of peers that run the exported model: its ONNX files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from edgespeech.contracts import Kind, Recogniser, Request, Stream, SystemInfo
from edgespeech.core.exported import PARTS, TOKENS, onnx_file
from edgespeech.core.files import sha256_file
from edgespeech.core.places import edge_model, work_dir
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.search.settings import CHUNK_S
from edgespeech.systems._shared import ready

Model = TypeVar("Model")


class ExportedModel(Recogniser, Generic[Model]):
    """The on-device model's ONNX files, run by a third-party package; a subclass sets which.

    Attributes:
        package: that runs them, as imported.
    """

    kind = Kind.DEVICE
    languages = ("en",)
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
        self._model: Model | None = None

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

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        return self._stream(ready(self, self._model, request))

    def close(self) -> None:
        """Drop the model."""
        self._model = None

    @abstractmethod
    def _stream(self, model: Model) -> Stream:
        """An utterance in progress."""

    def _about(
        self, files: Mapping[str, Path], package: str, config: Mapping[str, Any], note: str
    ) -> SystemInfo:
        """What runs.

        Args:
            files: those of the model.
            package: that runs them, with its version and licence.
            config: of the search.
            note: what a reader must know of the search.
        """
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=sum(file.stat().st_size for file in files.values()),
            parameters=None,
            chunk_s=CHUNK_S,
            citation=f"{package}; the model is EdgeSpeech's",
            config={"int8": self._int8, **config},
            model_sha256={file.name: sha256_file(file) for file in files.values()},
            notes=(f"runs the weights of edge-fp32 {note}",),
        )

    def _present(self) -> dict[str, Path]:
        """The files.

        Raises:
            EdgeSpeechError: the package or a file is missing.
        """
        if (reason := self.missing()) is not None:
            raise EdgeSpeechError(f"{self.name}: {reason}")
        return self.files()

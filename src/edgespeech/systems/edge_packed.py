"""The packed on-device model, run by the native engine from samples to word pieces."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgespeech.biasing.phrases import BOOST, PhraseBias
from edgespeech.contracts import Samples, SystemInfo
from edgespeech.core.places import shipped_models
from edgespeech.errors import EdgeSpeechError
from edgespeech.search.hypothesis import Changes, Hypothesis
from edgespeech.search.partials import TAIL_S
from edgespeech.search.settings import CHUNK_S, FINAL_S, GREEDY
from edgespeech.systems._edge import CITATION, EdgeRecogniser, ending
from edgespeech.systems._shared import FeatureStream

if TYPE_CHECKING:
    from edgespeech.packed.runtime import PackedModel, PackedStream

MODEL_VARIABLE = "EDGESPEECH_PACKED_MODEL"
"""Environment variable that names a `.edge` file to use instead of the shipped one."""
PACKED = "model.edge"
"""The shipped file, in the folder of this system among the shipped models."""


class EdgePacked(EdgeRecogniser):
    """The on-device streaming RNN-T from a packed file; torch is not imported."""

    name = "edge-packed"
    summary = "our streaming RNN-T on the device, packed, by our native engine"
    _model: PackedModel | None = None

    def path(self) -> Path:
        """The file that the environment names, else the shipped one."""
        named = os.environ.get(MODEL_VARIABLE)
        return Path(named) if named else shipped_models() / EdgePacked.name / PACKED

    def files(self) -> dict[str, Path]:
        """The one file."""
        path = self.path()
        return {path.name: path}

    def missing(self) -> str | None:
        """Why it cannot run: no engine, or no model."""
        from edgespeech.engine import native

        try:
            native()
        except EdgeSpeechError as error:
            return str(error)
        path = self.path()
        return None if path.is_file() else f"no model {path}: `edgespeech pack` makes one"

    def load(self) -> SystemInfo:
        """Map the model.

        Raises:
            EdgeSpeechError: it is missing, damaged, or of another format, or the engine is not built.
        """
        from edgespeech.core.files import sha256_file
        from edgespeech.lm.fusion import TENSORS
        from edgespeech.packed.loader import EdgeFile
        from edgespeech.packed.runtime import PackedModel

        path = self.path()
        self.close()
        model = self._model = PackedModel(path)
        self._pieces = model.pieces
        beam, final_s = self._beam, self._final_s
        self._stream = lambda bias, lead_in: _PackedStream(model, beam, final_s, bias, lead_in)
        with EdgeFile(path) as file:
            networks = [name for name in file.names if name not in TENSORS]
            weights = sum(rows * cols for rows, cols in map(file.shape, networks))
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=path.stat().st_size,
            parameters=weights,
            chunk_s=CHUNK_S,
            citation=CITATION,
            config={
                "model": model.config.to_mapping(),
                **self._further(model),
                "beam": self._beam,
                "final_s": self._final_s,
                "boost": self._boost,
                "tail_s": TAIL_S,
                "isa": model.isa,
                "provenance": model.provenance,
            },
            model_sha256={path.name: sha256_file(path)},
            notes=(ending(self._final_s), *self._differences()),
        )

    def _further(self, model: PackedModel) -> dict[str, object]:
        """What else the record has to say of a model."""
        return {} if model.branching is None else {"branching": model.branching.to_mapping()}

    def close(self) -> None:
        """Release the model."""
        super().close()
        if self._model is not None:
            self._model.close()
        self._model = None


class EdgePackedGreedy(EdgePacked):
    """The same file with greedy search and without its language model, which measures the network alone."""

    name = "edge-packed-greedy"
    summary = "edge-packed by greedy search, without a language model"
    shipped = GREEDY

    def __init__(self, *, final_s: float | None = FINAL_S, boost: float = BOOST) -> None:
        """`final_s`, `boost`: see `EdgePacked`."""
        super().__init__(beam=1, final_s=final_s, boost=boost)


class _PackedStream(FeatureStream["PackedStream"]):
    """One utterance in progress, by the native engine."""

    _search: PackedStream

    def __init__(
        self,
        model: PackedModel,
        beam: int,
        final_s: float | None,
        bias: PhraseBias | None,
        lead_in: Samples | None,
    ) -> None:
        from edgespeech.packed.log_mel import NativeLogMel

        super().__init__(model.pieces, model.config.frame_s, final_s, NativeLogMel())
        self._opened = partial(model.open, beam, bias, context=model.attending(bias))
        self._search = self._opened()
        if lead_in is not None:
            before = NativeLogMel()
            self._search.lead_in(np.concatenate([before.accept(lead_in), before.finish()]))

    def _restart(self) -> bool:
        self._search.close()
        self._search = self._opened()
        return True

    def _best(self) -> Hypothesis:
        return self._search.best

    def _changes(self) -> Changes:
        return self._search.changes()

    def close(self) -> None:
        """Release the state."""
        self._search.close()

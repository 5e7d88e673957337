"""Greedy search over an exported transducer (`edgespeech.model.export_onnx`) by ONNX Runtime, in numpy.

It imports nothing else of the project, since it runs in processes whose memory is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PROVIDER = "CPUExecutionProvider"
BLANK = 0


class OnnxTransducer:
    """The exported files, loaded; `open` starts an utterance.

    Args:
        files: of `encoder`, `decoder`, `joiner` and `tokens`.
        threads: of ONNX Runtime.

    Attributes:
        pieces: every word piece by its label.
        stack: feature frames per transcriber frame; None in files from before it was stored.
        chunk: maximum number of feature frames per run.
    """

    def __init__(self, files: Mapping[str, str], threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.encoder, self.decoder, self.joiner = (
            onnxruntime.InferenceSession(files[part], options, providers=[PROVIDER])
            for part in ("encoder", "decoder", "joiner")
        )
        lines = Path(files["tokens"]).read_text(encoding="utf-8").splitlines()
        self.pieces = [line.rpartition(" ")[0] for line in lines]
        about = self.encoder.get_modelmeta().custom_metadata_map
        self.zeros = np.zeros(
            (int(about["num_encoder_layers"]), 1, int(about["rnn_hidden_size"])), np.float32
        )
        self.context = int(self.decoder.get_modelmeta().custom_metadata_map["context_size"])
        self.stack = int(about["stack"]) if "stack" in about else None
        self.chunk = int(about["decode_chunk_len"])

    def open(self, *, multiple: int, max_labels: int) -> OnnxStream:
        """Start an utterance; see `OnnxStream`."""
        return OnnxStream(self, multiple, max_labels)


class OnnxStream:
    """One utterance in progress.

    Args:
        model: the files.
        multiple: features are buffered until their number is a multiple of this: the model's stack, or more if
            activations are quantised per piece.
        max_labels: maximum number of labels per transcriber frame.

    Attributes:
        labels: word pieces so far.
        frames: the transcriber frame of each.
    """

    def __init__(self, model: OnnxTransducer, multiple: int, max_labels: int) -> None:
        self._model, self._multiple, self._max_labels = model, multiple, max_labels
        self._waiting = np.empty((0, 80), np.float32)
        self._h = self._c = model.zeros
        self._count = 0
        self.labels: list[int] = []
        self.frames: list[int] = []
        self._predict()

    def accept(self, features: Floats) -> None:
        """Take the next features, with shape `(F, 80)`."""
        features = np.concatenate([self._waiting, features])
        whole = len(features) - len(features) % self._multiple
        self._waiting = features[whole:]
        for at in range(0, whole, self._model.chunk):
            piece = features[None, at : min(at + self._model.chunk, whole)]
            encoded, self._h, self._c = self._model.encoder.run(
                None, {"x": piece, "h": self._h, "c": self._c}
            )
            for frame in encoded[0]:
                self._emit(frame[None])
                self._count += 1

    @property
    def state_bytes(self) -> int:
        """Bytes of the transcriber's state, the prediction and the buffered features."""
        return int(self._h.nbytes + self._c.nbytes + self._predicted.nbytes + self._waiting.nbytes)

    def _emit(self, frame: Floats) -> None:
        for _ in range(self._max_labels):
            given = {"encoder_out": frame, "decoder_out": self._predicted}
            label = int(self._model.joiner.run(None, given)[0].argmax())
            if label == BLANK:
                break
            self.labels.append(label)
            self.frames.append(self._count)
            self._predict()

    def _predict(self) -> None:
        context = self._model.context
        seen = [-1] * context + self.labels[-context:]
        labels = np.array([seen[-context:]], np.int64)
        (self._predicted,) = self._model.decoder.run(None, {"y": labels})

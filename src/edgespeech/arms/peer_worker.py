"""The process of one peer: it streams utterances through a model and prints times and words, in lines of JSON.

python src/edgespeech/arms/peer_worker.py SPEC   # SPEC: JSON; see `edgespeech.arms.peer_bench`, which starts it

Modules of the project are imported only when a peer needs them: peers may run in other interpreters, and the memory of
the process is measured. Utterances are `.npz` files: `samples` and `features`, and the sizes of their chunks
(`sample_chunks`, `feature_chunks`), the last of which is the tail of silence, which is not timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Spec = dict[str, Any]
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
BLANK = 0


class PeerModel:
    """A loaded model with one utterance in progress.

    Attributes:
        takes: its input, `features` or `samples`.
        kernel: that computes its products.
        version: of its runtime.
    """

    takes = "features"
    kernel = ""
    version = ""

    def __init__(self, spec: Spec) -> None:
        """Import only what is needed."""
        self.spec = spec

    def load(self) -> None:
        """Load the model."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin an utterance."""
        raise NotImplementedError

    def accept(self, piece: Floats) -> None:
        """Take the next features, with shape `(F, 80)`, or samples, with shape `(N,)`, and search."""
        raise NotImplementedError

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        raise NotImplementedError


class Edge(PeerModel):
    """This project's engine on a `.edge` file."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        from edgespeech import __version__
        from edgespeech.packed.loader import chosen_isa
        from edgespeech.packed.runtime import PackedModel

        self._open = PackedModel
        self.kernel = chosen_isa()
        self.version = __version__

    def load(self) -> None:
        """Load the model."""
        self.model = self._open(Path(self.spec["file"]))

    def start(self) -> None:
        """Begin an utterance."""
        self._stream = self.model.open()

    def accept(self, piece: Floats) -> None:
        """Take the next piece."""
        self._stream.accept(piece)

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        labels = self._stream.best.labels
        return words([self.model.pieces[label] for label in labels]), len(labels)


class Stacked(PeerModel):
    """Base of models that buffer the features of an incomplete transcriber frame."""

    stack = 0

    def start(self) -> None:
        """Begin an utterance."""
        self._waiting = np.empty((0, 80), np.float32)

    def whole(self, piece: Floats) -> Floats:
        """The features of complete frames, as a batch of one, with shape `(1, F, 80)`."""
        piece = np.concatenate([self._waiting, piece])
        count = len(piece) - len(piece) % self.stack
        self._waiting = piece[count:]
        return piece[None, :count]


class Torch(Stacked):
    """The trained model in torch; `int8`: quantised dynamically by torch's own tool."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        import torch

        from edgespeech.model.checkpoint import load_model
        from edgespeech.search.greedy import GreedyDecoder

        torch.set_num_threads(1)
        self._torch, self._load, self._decoder = torch, load_model, GreedyDecoder
        self.version = torch.__version__
        self.kernel = "float"
        if spec["int8"]:
            self.kernel = f"quantized engine {torch.backends.quantized.engine}"

    def load(self) -> None:
        """Load the model."""
        torch = self._torch
        trained = self._load(Path(self.spec["folder"]))
        self._model, self._pieces = trained.model, trained.tokeniser.pieces
        if self.spec["int8"]:
            kinds = {torch.nn.LSTM, torch.nn.Linear}
            self._model = torch.ao.quantization.quantize_dynamic(self._model, kinds, dtype=torch.qint8)
            # The predictor's own start reads the device of a weight, which a quantised layer does not have.
            first = torch.full((1, self._model.config.context), BLANK)
            setattr(self._model.predictor, "start", lambda batch: first)  # noqa: B010 - a method of the class
        self.stack = self._model.config.stack

    def start(self) -> None:
        """Begin an utterance."""
        super().start()
        self._state: Any = None
        self._search = self._decoder(self._model)

    def accept(self, piece: Floats) -> None:
        """Take the next piece."""
        features = self.whole(piece)
        count = features.shape[1]
        if count:
            with self._torch.inference_mode():
                given = self._torch.from_numpy(features), self._torch.tensor([count])
                encoded, _, self._state = self._model.transcribe(*given, self._state)
            self._search.accept(encoded[0])

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        labels = self._search.best.labels
        return words([self._pieces[label] for label in labels]), len(labels)


class Onnx(PeerModel):
    """The exported model in ONNX Runtime, with the same greedy search in numpy as the recogniser `onnxruntime`.

    It takes multiples of `multiple` frames, and runs at most a chunk of them at a time.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        import onnxruntime

        from edgespeech.search.onnx_greedy import PROVIDER, OnnxTransducer

        self._made, self.kernel = OnnxTransducer, PROVIDER
        self.version = onnxruntime.__version__

    def load(self) -> None:
        """Load the model."""
        self._model = self._made(self.spec["files"])

    def start(self) -> None:
        """Begin an utterance."""
        self._stream = self._model.open(multiple=self.spec["multiple"], max_labels=self.spec["max_labels"])

    def accept(self, piece: Floats) -> None:
        """Take the next piece."""
        self._stream.accept(piece)

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        labels = self._stream.labels
        return words([self._model.pieces[label] for label in labels]), len(labels)


class Sherpa(PeerModel):
    """The exported model in sherpa-onnx: it takes samples, so its times include the features."""

    takes = "samples"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        package = import_module("sherpa_onnx")
        self._recogniser = package.OnlineRecognizer
        self.version = package.__version__
        self.kernel = "its own ONNX Runtime"

    def load(self) -> None:
        """Load the model."""
        self._model = self._recogniser.from_transducer(
            **self.spec["files"], num_threads=1, model_type="lstm", decoding_method="greedy_search"
        )

    def start(self) -> None:
        """Begin an utterance."""
        self._stream = self._model.create_stream()

    def accept(self, piece: Floats) -> None:
        """Take the next piece."""
        self._stream.accept_waveform(16000, piece)
        while self._model.is_ready(self._stream):
            self._model.decode_stream(self._stream)

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        return self._model.get_result(self._stream).strip(), len(self._model.tokens(self._stream))


class Features(PeerModel):
    """The feature extraction alone, to measure its time."""

    takes = "samples"
    kernel = "kaldi-native-fbank"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        from importlib.metadata import version

        from edgespeech.audio.features import StreamingLogMel

        self._extractor = StreamingLogMel
        self.version = version("kaldi-native-fbank")

    def load(self) -> None:
        """Nothing to load."""

    def start(self) -> None:
        """Begin an utterance."""
        self._stream = self._extractor()

    def accept(self, piece: Floats) -> None:
        """Take the next piece."""
        self._stream.accept(piece)

    def said(self) -> tuple[str, int]:
        """The words so far, and their number of labels."""
        return "", 0


KINDS: dict[str, Callable[[Spec], PeerModel]] = {
    "edge-packed": Edge,
    "edge-fp32": Torch,
    "onnxruntime": Onnx,
    "sherpa-onnx": Sherpa,
    "features": Features,
}
"""Kinds of peers by the recognisers' names, and the features alone."""


def words(pieces: list[str]) -> str:
    """The words of word pieces."""
    return "".join(pieces).replace(SPACE, " ").strip()


def pieces_of(file: str, takes: str) -> Iterator[Floats]:
    """The chunks of an utterance."""
    with np.load(file) as utterance:
        values, counts = utterance[takes], utterance[f"{takes.removesuffix('s')}_chunks"]
    at = 0
    for count in counts:
        yield values[at : at + count]
        at += count


class Cache:
    """Empties the caches by reading more memory than the last-level cache."""

    def __init__(self, n_bytes: int) -> None:
        self._words = n_bytes // 8
        self._block: NDArray[np.int64] | None = None

    def evict(self) -> None:
        """Empty the caches. The memory is allocated on first use, so that earlier memory figures do not include it."""
        if self._block is None:
            self._block = np.ones(self._words, np.int64)
        self._block.max()


def run(peer: PeerModel, file: str, cold: Cache | None) -> dict[str, Any]:
    """One utterance: words, labels, and the seconds of each piece but the tail."""
    peer.start()
    seconds = []
    for piece in pieces_of(file, peer.takes):
        if cold is not None:
            cold.evict()
        start = time.perf_counter()
        peer.accept(piece)
        seconds.append(time.perf_counter() - start)
    text, labels = peer.said()
    return {"text": text, "labels": labels, "seconds": seconds[:-1]}


def share(model: Any, file: str, streams: int, cold: Cache | None) -> dict[str, Any]:
    """Seconds of each piece for one stream, and for several streams as a batch, in turns."""
    from edgespeech.packed.runtime import accept_batch

    together, one = [model.open() for _ in range(streams)], model.open()
    seconds: dict[str, list[float]] = {"one": [], "together": []}
    for piece in pieces_of(file, "features"):
        batch = np.repeat(piece[None], streams, axis=0)
        works = {"one": partial(one.accept, piece), "together": partial(accept_batch, together, batch)}
        for name, work in works.items():
            if cold is not None:
                cold.evict()
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[:-1] for name, values in seconds.items()}


def resident(field: str) -> int | None:
    """Bytes of this process's resident set: `VmRSS` now or `VmHWM` at most; None if unknown."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(lines[field].split()[0]) * 1024


def main() -> None:
    """Load, print the result, and answer every line of the input."""
    spec: Spec = json.loads(sys.argv[1])
    for _ in pieces_of(spec["first"], "features"):
        pass  # reading an utterance belongs to the memory of the bare process
    bare = resident("VmRSS")
    peer = KINDS[spec["kind"]](spec)
    start = time.perf_counter()
    peer.load()
    load_s = time.perf_counter() - start
    cache = Cache(spec["evict_bytes"])
    print(
        json.dumps({"load_s": load_s, "kernel": peer.kernel, "version": peer.version, "bare_bytes": bare}),
        flush=True,
    )
    for line in sys.stdin:
        task = json.loads(line)
        cold = cache if task.get("cold") else None
        if task["do"] == "run":
            answer = run(peer, task["file"], cold)
        elif task["do"] == "share":
            answer = share(peer.model, task["file"], task["streams"], cold)  # type: ignore[attr-defined]  # Edge alone is asked
        else:
            answer = {"peak_bytes": resident("VmHWM")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""Packed models and their streams: features to hypotheses in native code.

Letters: N streams, F feature frames (10 ms), T transcriber frames, J joiner width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.biasing.pieces import phrase_labels
from edgespeech.core.closing import Closing
from edgespeech.core.files import sha256_file
from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.config import ModelConfig
from edgespeech.packed.branches import Branch, Decisions, Reads, read_branching
from edgespeech.packed.loader import meta_of, native_errors
from edgespeech.records.used import note_model
from edgespeech.search.hypothesis import Changes, Hypothesis

FORMAT = "edgespeech-model-1"
"""The format's name in a packed model's metadata."""


class PackedModel(Closing):
    """A model in one `.edge` file, mapped into memory and run in place.

    Any number of threads may open streams of one model, and each of them use its own. The file must not be
    rewritten in place while it is open; it may be replaced or removed.

    Args:
        path: the file, see `edgespeech.packed.pack`.
        isa: the kernels, one of `edgespeech.packed.loader.isas()`; None for `chosen_isa()`.

    Attributes:
        config: its shape.
        branching: its fast branch and arbitrator; None where it has one branch alone.
        pieces: its word pieces.
        provenance: of its training and packing.

    Raises:
        EdgeSpeechError: it is missing, damaged, or not a packed model; the message names the file, the field, the value
            and the expectation. Or this CPU lacks the kernels. Every method raises it after `close`.
    """

    def __init__(self, path: Path, *, isa: str | None = None) -> None:
        self.path = path
        with native_errors():
            self._model = native().Model(str(path), isa)
            told: str = self._model.meta
            shape: dict[str, int] = self._model.shape
            branches: dict[str, int] = self._model.branches
            attention: dict[str, str | int] = self._model.biasing
        meta = meta_of(told, str(path))
        self.config, self.pieces, self.provenance = _read_meta(meta, shape, str(path))
        check_attention(self.config, attention, str(path))
        self.branching = read_branching(meta.get("branching"), branches, self.config, str(path))
        note_model(path.name, lambda: sha256_file(path))

    def close(self) -> None:
        """Close the file. Open streams continue, and its memory is released once they are closed too."""
        self._model.close()

    @property
    def packed_bytes(self) -> int:
        """Bytes of all masks, values, scales and codebooks, which one pass over the model reads."""
        with native_errors():
            return cast("int", self._model.packed_bytes)

    @property
    def copied_bytes(self) -> int:
        """Bytes of copies of matrices that are in memory beside the file: kernels that take long to decode what is
        packed (AVX2) keep one of each matrix from its first product on. 0 with other kernels.
        """
        with native_errors():
            return cast("int", self._model.copied_bytes)

    @property
    def reads(self) -> dict[str, Reads]:
        """What was read of each tensor, by name, in all calls so far; of a language model, nothing is counted.

        Bytes are those of the file, also where a kernel reads a copy (see `copied_bytes`). Differences of two results
        belong to the calls between them. What other threads are in is not counted yet.
        """
        with native_errors():
            return {name: Reads(read, vectors) for name, read, vectors in self._model.uses}

    @property
    def isa(self) -> str:
        """The kernels in use."""
        with native_errors():
            return cast("str", self._model.isa)

    def attend(self, phrases: Sequence[Sequence[int]]) -> PackedContext:
        """Encode a list of phrases; other threads run meanwhile.

        Args:
            phrases: the word pieces of each, none of them blank.

        Raises:
            EdgeSpeechError: the model has no attention over phrases, or as `edgespeech.model.biasing.check_phrases`.
        """
        heads = 1 if self.config.biasing is None else self.config.biasing.heads
        with native_errors():
            return PackedContext(self._model.encode([list(pieces) for pieces in phrases], heads))

    def attending(self, bias: PhraseBias | None) -> PackedContext | None:
        """The list that a model with attention attends to, see `edgespeech.model.contextual.attending`.

        Raises:
            EdgeSpeechError: more spellings than attention takes.
        """
        if bias is None or self.config.biasing is None:
            return None
        return self.attend(phrase_labels(bias.texts, self.pieces, native().MAX_LISTED_PIECES))

    def open(
        self,
        beam: int = 1,
        bias: PhraseBias | None = None,
        branch: Branch | None = None,
        context: PackedContext | None = None,
    ) -> PackedStream:
        """Start an utterance.

        Args:
            beam: number of hypotheses; 1 is greedy search.
            bias: phrases that are likely, of this model's word pieces; None: no bias.
            branch: see `PackedStream.choose`.
            context: a list that this model encoded, to attend to; None: that of `bias`, if the model has attention.

        Raises:
            EdgeSpeechError: beam is not a whole number of at least 1, the phrases are of other pieces, the context is
                another model's, or a branch of a model that has one.
        """
        if not isinstance(beam, int) or beam < 1:
            raise bad(str(self.path), "beam", beam, "a whole number of at least 1")
        context = context or self.attending(bias)
        with native_errors():
            opened = self._model.open(
                beam, None if bias is None else bias.native, None if context is None else context.native
            )
        stream = PackedStream(opened, str(self.path))
        if branch is not None:
            stream.choose(branch)
        return stream

    def transcribe(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The transcription of a whole utterance, without a search; other threads run meanwhile.

        Args:
            features: with shape `(F, 80)`, finite.

        Returns:
            With shape `(T, J)`, T = F // stack; remaining frames are dropped.

        Raises:
            EdgeSpeechError: features are not such an array.
        """
        features = _checked(features, "(F, bands)", str(self.path))
        with native_errors():
            return cast("NDArray[np.float32]", self._model.transcribe(features))


class PackedContext:
    """A list of phrases, encoded by a model, from `PackedModel.attend`. It never changes."""

    def __init__(self, context: Any) -> None:
        self.native = context

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded list."""
        return cast("int", self.native.bytes)


class PackedStream:
    """An utterance in progress, from `PackedModel.open`. One thread uses it at a time.

    Every method raises EdgeSpeechError after `close`, and while another thread uses the stream.
    """

    def __init__(self, stream: Any, where: str) -> None:
        self._stream = stream
        self._where = where

    def accept(self, features: NDArray[np.float32]) -> None:
        """Take the next frames; other threads run meanwhile.

        Args:
            features: with shape `(F, 80)`, F >= 0, finite. Frames of an incomplete stack are buffered.

        Raises:
            EdgeSpeechError: features are not such an array. Or the model's own values overflow, which closes the
                stream.
        """
        try:  # checks are in native code, since this is called for every chunk
            self._stream.accept(features)
        except TypeError:
            with native_errors():
                self._stream.accept(_checked(features, "(F, bands)", self._where))
        except (ValueError, RuntimeError) as error:
            raise EdgeSpeechError(str(error)) from error

    def accept_encoded(self, encoded: NDArray[np.float32]) -> None:
        """Take the next transcriber frames in place of features; other threads run meanwhile.

        For many searches of one utterance, whose network need not run for each. Such a stream is given no features. A
        stream with a list that the model attends to attends in these frames, as in its own.

        Args:
            encoded: with shape `(T, J)`, finite, as `PackedModel.transcribe` gives them.

        Raises:
            EdgeSpeechError: they are not such an array. Or the model's own values overflow, which closes the stream.
        """
        if not hasattr(self._stream, "accept_encoded"):  # added after what `engine.native` asks for
            raise EdgeSpeechError("the native engine is older than this checkout: run `make env`")
        with native_errors():
            self._stream.accept_encoded(_checked(encoded, "(T, J)", self._where))

    def lead_in(self, features: NDArray[np.float32]) -> None:
        """Take the frames of a lead-in: they change the transcriber's state, and nothing is searched.

        Args:
            features: with shape `(F, 80)`, finite. Frames behind the last whole stack are left out, so that the
                utterance's own begin a stack.

        Raises:
            EdgeSpeechError: features are not such an array, or the stream was given something before.
        """
        if not hasattr(self._stream, "lead_in"):  # added after what `engine.native` asks for
            raise EdgeSpeechError("the native engine is older than this checkout: run `make env`")
        with native_errors():
            self._stream.lead_in(_checked(features, "(F, bands)", self._where))

    @property
    def best(self) -> Hypothesis:
        """The best hypothesis so far."""
        with native_errors():
            return _hypothesis(*self._stream.best)

    def changes(self) -> Changes:
        """How the labels of the best hypothesis changed since the last call of this, or since the start; in a time that
        does not grow with their number.
        """
        with native_errors():
            kept, labels, frames, _ = self._stream.news()
        return Changes(kept, labels, frames)

    @property
    def n_best(self) -> list[Hypothesis]:
        """The hypotheses in the beam, likeliest first; one for greedy search."""
        with native_errors():
            return [_hypothesis(*found) for found in self._stream.n_best]

    @property
    def decisions(self) -> Decisions:
        """Which branch ran in each transcriber frame, with shape `(T, D)`: 1 slow, 0 fast; D is 1, or the layers.

        Raises:
            EdgeSpeechError: the model has one branch.
        """
        with native_errors():
            return cast("Decisions", self._stream.decisions)

    def choose(self, branch: Branch | None) -> None:
        """Fix the branch from the next transcriber frame on, the one whose features wait included.

        The arbitrator does not run meanwhile; it goes on later from the state that it had. Bifocal (arXiv 2108.01704)
        changes from fast to slow so, at the end of the wake word.

        Args:
            branch: `fast` or `slow`; None leaves it to the arbitrator again.

        Raises:
            EdgeSpeechError: the model has one branch, or another name.
        """
        choices: tuple[Branch | None, ...] = native().BRANCHES
        if branch not in choices:
            raise bad(self._where, "branch", branch, "fast, slow or None")
        with native_errors():
            self._stream.choose(choices.index(branch))

    @property
    def state_bytes(self) -> int:
        """Bytes of the transcriber's state, buffered frames, predictions and predictor states."""
        with native_errors():
            return cast("int", self._stream.state_bytes)

    def close(self) -> None:
        """Release the state."""
        with native_errors():
            self._stream.close()


def accept_batch(streams: Sequence[PackedStream], features: NDArray[np.float32]) -> None:
    """Take the next frames of several streams of one model, each as by `PackedStream.accept`.

    The results are the same; the model's weights are read once for all streams, if all have the same number of buffered
    frames.

    Args:
        streams: 1 to 8 different ones.
        features: with shape `(N, F, 80)`, finite.

    Raises:
        EdgeSpeechError: the streams or features violate these conditions, or as `PackedStream.accept`.
    """
    features = _checked(features, "(N, F, bands)", "accept_batch")
    if len({id(stream) for stream in streams}) < len(streams):
        raise bad("accept_batch", "streams", "one stream twice", "different ones")
    with native_errors():
        native().accept_batch([stream._stream for stream in streams], features)


def _checked(features: NDArray[np.float32], shape: str, where: str) -> NDArray[np.float32]:
    """Features of the right type and as many dimensions as `shape`; native code checks the rest."""
    if (
        not isinstance(features, np.ndarray)
        or features.dtype != np.float32
        or features.ndim != shape.count(",") + 1
    ):
        found = f"{features.dtype} {features.shape}" if isinstance(features, np.ndarray) else type(features)
        raise bad(where, "features", found, f"float32 {shape}")
    return np.ascontiguousarray(features)


def _hypothesis(labels: list[int], frames: list[int], score: float) -> Hypothesis:
    return Hypothesis(tuple(labels), tuple(frames), score)


def check_attention(config: ModelConfig, found: Mapping[str, str | int], where: str) -> None:
    """Refuse a shape of attention that is not that of the tensors.

    Args:
        config: as in the file's metadata.
        found: in the tensors: encoder, queries and width; empty where there are none.
        where: the file.

    Raises:
        EdgeSpeechError: they differ.
    """
    told = None if config.biasing is None else {name: getattr(config.biasing, name) for name in found}
    if told != (found or None):
        raise bad(where, "biasing", told, f"{found or None}, as in the tensors")


def _read_meta(
    meta: Mapping[str, Any], shape: dict[str, int], where: str
) -> tuple[ModelConfig, tuple[str, ...], dict[str, str]]:
    """Configuration, word pieces and provenance; the former two agree with the tensors."""
    if meta.get("format") != FORMAT:
        raise bad(where, "format", meta.get("format"), FORMAT)
    values = meta.get("config")
    if not isinstance(values, dict):
        raise bad(where, "config", values, "a mapping")
    try:
        config = ModelConfig.from_mapping(values, where)
    except TypeError as error:
        raise bad(where, "config", values, f"numbers where they belong ({error})") from error
    predictor = "stateless" if shape["context"] else "lstm"
    if config.predictor != predictor:
        raise bad(where, "predictor", config.predictor, f"{predictor}, as in the tensors")
    if predictor == "lstm":
        shape = shape | {"context": config.context}  # which it does not use
    for field, found in shape.items():
        if getattr(config, field) != found:
            raise bad(where, field, getattr(config, field), f"{found}, as in the tensors")
    pieces, provenance = meta.get("pieces"), meta.get("provenance")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise bad(where, "pieces", pieces, "a list of word pieces")
    if len(pieces) != config.vocabulary:
        raise bad(where, "pieces", len(pieces), f"{config.vocabulary} of them")
    if not isinstance(provenance, dict) or not all(isinstance(each, str) for each in provenance.values()):
        raise bad(where, "provenance", provenance, "a mapping to texts")
    return config, tuple(pieces), provenance

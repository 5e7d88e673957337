"""Word pieces: words to labels and back, by sentencepiece. Label 0 is the transducer's blank."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import sentencepiece

from edgespeech.core.files import write_atomic
from edgespeech.core.labels import SPACE
from edgespeech.errors import EdgeSpeechError, bad

_UNKNOWN = 1
_LETTERS = "abcdefghijklmnopqrstuvwxyz'"


class Tokeniser:
    """Word pieces of lower-case words. Obtain one from `train` or `load`.

    Args:
        proto: a serialised sentencepiece model whose piece 0 is the blank.

    Raises:
        EdgeSpeechError: it is not such a model.
    """

    def __init__(self, proto: bytes) -> None:
        self.proto = proto
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=proto)
            self.pieces = tuple(str(self._model.id_to_piece(label)) for label in range(len(self)))
            """Every piece by its label; a piece that starts a word starts with U+2581."""
        except (RuntimeError, IndexError, UnicodeDecodeError) as error:
            raise EdgeSpeechError(f"tokeniser: not a sentencepiece model: {error}") from error
        if self.pieces[:1] != ("<blk>",):
            raise bad("tokeniser", "pieces", self.pieces[:1], "<blk> first")

    @classmethod
    def train(cls, sentences: Iterable[str], size: int, letters: str = "") -> Self:
        """Learn word pieces (byte pair encoding) from sentences of a to z, apostrophes and further letters.

        Every letter is a piece of its own, so that every word can be written. The same sentences give the same
        pieces.

        Args:
            sentences: lower-case words.
            size: number of pieces, including the blank and the unknown piece; at least 30.
            letters: those of another language, which get pieces even if no sentence has them.

        Raises:
            EdgeSpeechError: no sentences, or too few for so many pieces.
        """
        out = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([*sentences, _LETTERS + letters]),
                model_writer=out,
                vocab_size=size,
                model_type="bpe",
                character_coverage=1.0,
                control_symbols=["<blk>"],
                unk_id=_UNKNOWN,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                normalization_rule_name="identity",
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, ValueError) as error:
            raise bad("tokeniser", "size", size, f"a size that the sentences allow ({error})") from error
        return cls(out.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model file.

        Raises:
            EdgeSpeechError: it is missing or not a model of this class.
        """
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise bad("tokeniser", "file", str(path), "a sentencepiece model") from error

    def save(self, path: Path) -> None:
        """Write the model file."""
        write_atomic(path, self.proto)

    def __len__(self) -> int:
        return int(self._model.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """The labels of a sentence, none of them blank.

        Raises:
            EdgeSpeechError: a word has a character that no piece contains.
        """
        labels: list[int] = self._model.encode(text)
        if _UNKNOWN in labels:
            others = "".join(
                piece for piece in self.pieces if len(piece) == 1 and piece not in _LETTERS + SPACE
            )
            raise bad(
                "tokeniser", "text", text, f"words of a to z and apostrophes{others and f' and {others}'}"
            )
        return labels

    def decode(self, labels: Sequence[int]) -> str:
        """The words of labels; blanks are not expected."""
        text = "".join(self.pieces[label] for label in labels).replace(SPACE, " ")
        return text.strip()

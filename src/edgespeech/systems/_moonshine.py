"""Base of the Moonshine recognisers: an encoder over samples and an autoregressive decoder, in ONNX Runtime.

Source: N. Jeffries et al., "Moonshine: speech recognition for live transcription and voice commands" (2024),
arXiv:2410.15608.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.cloud.session import Pause, without_pause
from edgespeech.contracts import SAMPLE_RATE, Samples, SystemInfo
from edgespeech.core.extras import missing
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import bad
from edgespeech.systems._batch import WholeFile

LONGEST_S = 64.0
"""Longest utterance: that of its training is shorter."""
TOKENS_PER_S = 6.5
"""At most so many tokens for a second of audio, so that it does not repeat itself for ever."""
_SHORTEST = SAMPLE_RATE // 4
"""Fewer samples than its encoder can take are filled up with silence."""
_START, _END = 1, 2


class MoonshineBackend:
    """The network: greedy search.

    Args:
        folder: with `encoder_model.onnx`, `decoder_model_merged.onnx`, `tokenizer.json`.
        threads: of the CPU.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(
                str(folder / name), options, providers=["CPUExecutionProvider"]
            )

        self._encoder = session("encoder_model.onnx")
        self._decoder = session("decoder_model_merged.onnx")
        self._tokeniser: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._past = {
            one.name: np.zeros((0, one.shape[1], 1, one.shape[3]), np.float32)
            for one in self._decoder.get_inputs()
            if one.name.startswith("past_key_values.")
        }

    def transcribe(
        self, samples: Samples, context: Sequence[str], language: str, pause: Pause = without_pause
    ) -> str:
        """The words of an utterance; it knows neither context nor other languages.

        Raises:
            EdgeSpeechError: the utterance is longer than `LONGEST_S`.
        """
        del context, language
        seconds = len(samples) / SAMPLE_RATE
        if seconds > LONGEST_S:
            raise bad("moonshine", "utterance", f"{seconds:.1f} s", f"at most {LONGEST_S:g} s")
        heard = np.pad(samples, (0, max(0, _SHORTEST - len(samples))))
        (hidden,) = self._encoder.run(None, {"input_values": heard[None]})
        past, tokens, last = dict(self._past), list[int](), _START
        for step in range(max(1, round(seconds * TOKENS_PER_S))):
            pause()
            inputs = {
                "input_ids": np.array([[last]], np.int64),
                "encoder_hidden_states": hidden,
                "use_cache_branch": np.array([step > 0]),
                **past,
            }
            logits, *present = self._decoder.run(None, inputs)
            last = int(logits[0, -1].argmax())
            if last == _END:
                break
            tokens.append(last)
            # The encoder's keys and values are only computed in the first step.
            past = {
                name: new if step == 0 or ".decoder." in name else old
                for (name, old), new in zip(past.items(), present, strict=True)
            }
        return str(self._tokeniser.decode(tokens, skip_special_tokens=True)).strip()


class Moonshine(WholeFile):
    """Moonshine on whole utterances, as a third-party engine that a device could run; a subclass sets the model."""

    languages = ("en",)
    takes_context = False

    def missing(self) -> str | None:
        """The missing package or weights."""
        return missing("onnxruntime") or missing("tokenizers") or weights_available(self.model, self._path)

    def load(self) -> SystemInfo:
        """Verify the weights and load them.

        Raises:
            EdgeSpeechError: they are missing or have another hash.
        """
        import onnxruntime

        found = resolve_weights(self.model, self._path)
        self._backend = MoonshineBackend(found.folder, self._threads)
        return self._about(
            model_bytes=found.n_bytes,
            parameters=None,
            citation=f"ONNX Runtime {onnxruntime.__version__}, MIT; {found.citation}",
            config={"search": "greedy", "tokens_per_s": TOKENS_PER_S, "threads": self._threads},
            model_sha256=found.files,
        )

"""The self-check of a model: it loads, and recognises one recording exactly as it did where the update was made.

The recording (`selfcheck.flac`, synthetic speech of this project) is whole numbers of 16 bits; features, products and
search of the native engine give the same bits on every machine, so labels and frames are compared with `==`.
"""

from __future__ import annotations

import io
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import words_of

CLIP = Path(__file__).with_name("selfcheck.flac")
_BEAM = 4


def heard(model: Path) -> tuple[str, int]:
    """What a packed model recognises in the recording.

    Returns:
        The text, and a CRC-32 of all labels with their frames.

    Raises:
        EdgeSpeechError: it is no packed model, or is damaged, or its values overflow.
    """
    samples, rate = soundfile.read(io.BytesIO(CLIP.read_bytes()), dtype="int16")
    assert rate == SAMPLE_RATE
    log_mel = NativeLogMel()
    first = log_mel.accept(samples.astype(np.float32) / np.float32(1 << 15))
    frames = np.concatenate([first, log_mel.finish()])
    with PackedModel(model) as loaded:
        with closing(loaded.open(_BEAM)) as stream:
            stream.accept(frames)
            best = stream.best
        words = words_of(best, loaded.pieces, loaded.config.frame_s, len(samples) / SAMPLE_RATE)
    told = np.array([best.labels, best.frames], "<i4").tobytes()
    return " ".join(word.text for word in words), zlib.crc32(told)


def check_model(model: Path, said: int) -> None:
    """Run the self-check.

    Raises:
        EdgeSpeechError: as `heard`, or the outcome is another one.
    """
    try:
        text, found = heard(model)
    except EdgeSpeechError as error:
        raise EdgeSpeechError(f"self-check: {error}") from error
    if found != said:
        raise bad(
            "self-check", "outcome", f"{found:08x} ({text!r})", f"{said:08x}, as where the update was made"
        )

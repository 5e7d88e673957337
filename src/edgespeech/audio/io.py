"""Reading and writing audio files: WAV, FLAC, Ogg Opus and what else libsndfile reads.

Whatever is wrong with a file is an error that says so; nothing is padded, cut or averaged in silence.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad

_MAX_OVERSHOOT = 2.0
"""Lossy decoding and resampling overshoot full scale by some; a larger peak is another unit."""
_DURATION_SLACK_S = 0.01
"""Manifests round durations to milliseconds."""
_OGG_LARGEST_PAGE = 65_307
_OGG_HEADER = 27
_OGG_END_OF_STREAM = 4
_FORMATS = {
    ".wav": {"format": "WAV", "subtype": "PCM_16"},
    ".flac": {"format": "FLAC", "subtype": "PCM_16"},
    ".ogg": {"format": "OGG", "subtype": "OPUS"},
    ".opus": {"format": "OGG", "subtype": "OPUS"},
}


def read_audio(
    path: Path,
    *,
    sample_rate: int = SAMPLE_RATE,
    offset: float = 0.0,
    duration: float | None = None,
    average_channels: bool = False,
) -> Samples:
    """Read a file, or a part of it, as mono float32 in [-1, 1].

    Args:
        path: the file.
        sample_rate: in Hz; a file of another rate is resampled (soxr, high quality).
        offset: where to start, in seconds.
        duration: how much to read, in seconds; None reads to the end.
        average_channels: average a file with several channels, which is otherwise an error.

    Returns:
        The samples, with shape `(N,)`, N >= 1.

    Raises:
        EdgeSpeechError: the file is missing, empty, not audio, truncated, has several channels, holds NaN or
            infinity or samples far beyond full scale, or is shorter than what is asked for.
    """
    if not path.is_file():
        raise EdgeSpeechError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise EdgeSpeechError(f"{path}: is empty (0 bytes), expected audio")
    if offset < 0:
        raise bad(str(path), "offset", offset, "0 s or more")
    if duration is not None and duration <= 0:
        raise bad(str(path), "duration", duration, "more than 0 s")
    try:
        samples, rate = _decode(path, offset, duration)
    except soundfile.LibsndfileError as error:
        raise EdgeSpeechError(
            f"{path}: could not be decoded: {error.error_string.strip()} Damaged, truncated or not audio"
        ) from error
    channels = samples.shape[1]
    if channels > 1 and not average_channels:
        raise bad(str(path), "channels", channels, "1 (averaging channels must be asked for)")
    mono: Samples = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    _check_samples(str(path), mono)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if mono.size == 0:
            raise bad(str(path), "samples", samples.shape[0], f"enough for one sample at {sample_rate} Hz")
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)


def _decode(path: Path, offset: float, duration: float | None) -> tuple[NDArray[np.float32], int]:
    """The asked part of a file as float32 with shape `(N, channels)`, and its sample rate."""
    with soundfile.SoundFile(path) as file:
        rate: int = file.samplerate
        total: int = file.frames
        _check_complete(path, file.format, file.subtype, total * file.channels)
        if total == 0:
            raise EdgeSpeechError(f"{path}: holds 0 samples, expected at least 1")
        start = round(offset * rate)
        if start >= total:
            raise bad(str(path), "offset", offset, f"less than the file's {total / rate:.3f} s")
        wanted = total - start
        if duration is not None:
            wanted = max(1, round(duration * rate))
            if start + wanted > total + _DURATION_SLACK_S * rate:
                there = f"at most the {(total - start) / rate:.3f} s that are there after the offset"
                raise bad(str(path), "duration", duration, there)
            wanted = min(wanted, total - start)
        if start:
            file.seek(start)
        samples: NDArray[np.float32] = file.read(wanted, dtype="float32", always_2d=True)
    if len(samples) != wanted:
        raise EdgeSpeechError(f"{path}: truncated: {len(samples)} of {wanted} samples could be decoded")
    return samples, rate


def _check_complete(path: Path, kind: str, subtype: str, n_samples: int) -> None:
    """Refuse the truncated files that libsndfile reads as if they were shorter ones."""
    if kind == "WAV":
        declared = _wav_data_bytes(path)
        there = path.stat().st_size
        if declared is not None and declared > there:
            raise EdgeSpeechError(
                f"{path}: truncated: its header ends the audio at byte {declared}, but the file has {there} "
                f"({n_samples} {subtype} samples)"
            )
    elif kind == "OGG":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _OGG_LARGEST_PAGE))
            tail = file.read()
        page = tail[tail.rfind(b"OggS") :]
        segments = page[_OGG_HEADER : _OGG_HEADER + page[26]] if len(page) >= _OGG_HEADER else b""
        whole = segments and len(page) >= _OGG_HEADER + len(segments) + sum(segments)
        if not whole or not page[5] & _OGG_END_OF_STREAM:
            raise EdgeSpeechError(f"{path}: truncated: the last Ogg page does not end the stream")


def _wav_data_bytes(path: Path) -> int | None:
    """Where a RIFF file's `data` chunk says it ends, in bytes from the start; None when it does not say."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return None  # RF64 and big-endian files
        position = 12
        while True:
            file.seek(position)
            header = file.read(8)
            if len(header) < 8:
                return None
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                # Writers that cannot seek back leave the size open.
                return None if size == 0xFFFFFFFF else position + 8 + size
            position += 8 + size + size % 2


def _check_samples(where: str, samples: Samples) -> None:
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise bad(where, f"sample {first}", float(samples[first]), "a finite number")
    peak = float(np.abs(samples).max())
    if peak > _MAX_OVERSHOOT:
        raise bad(where, "peak", peak, "samples in [-1, 1]")


def write_audio(path: Path, samples: Samples, *, sample_rate: int = SAMPLE_RATE) -> None:
    """Write mono audio, atomically: `.wav` and `.flac` as 16-bit, `.opus` and `.ogg` as Opus.

    Args:
        path: where to; its suffix chooses the format.
        samples: float32 in [-1, 1], with shape `(N,)`, N >= 1; clipped when rounding reaches beyond.
        sample_rate: in Hz.

    Raises:
        EdgeSpeechError: an unknown suffix, samples of another shape, NaN or infinity, or a failed write.
    """
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise bad(str(path), "suffix", path.suffix, f"one of {', '.join(_FORMATS)}")
    if samples.ndim != 1 or samples.size == 0:
        raise bad(str(path), "shape", samples.shape, "(N,) with N >= 1")
    _check_samples(str(path), samples)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1.0, 1.0), sample_rate, **form)
    write_atomic(path, buffer.getvalue())

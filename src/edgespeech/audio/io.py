"""Reading and writing audio files: WAV, FLAC, Ogg and others through libsndfile; MP3, M4A and WebM through PyAV.

Every defect of a file is an error; nothing is padded, cut or averaged silently. Every file is decoded to its end, and
the length in its header is compared with the number of decoded samples.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from edgespeech.audio.containers import Part, flac_to_the_end, to_the_end, without_tag
from edgespeech.audio.ffmpeg import decode as decode_by_ffmpeg
from edgespeech.audio.ffmpeg import demuxer_of
from edgespeech.audio.ogg import ogg_links
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad

MAX_BYTES = 4 << 30
"""Maximum size of a file, which is held in memory."""
MAX_SAMPLES = 1 << 29
"""Maximum samples per channel: 9 hours at 16 kHz, 3 at 48 kHz. Few bytes can encode endless silence."""
_MAX_OVERSHOOT = 2.0
"""Lossy decoding and resampling overshoot full scale slightly; a larger peak means samples in another unit."""
DURATION_SLACK_S = 0.05
"""Tolerance of lengths: manifests round durations, and encoders pad."""
_BLOCK = 1 << 18
_CANCELLED = 0.01
"""If the average has less than this share of the channels' power, the channels cancel each other."""
_MPEG = ("MP3", "MPEG")
_READ = ("WAV", "WAVEX", "FLAC", "OGG", "AIFF", "CAF", "W64", "RF64", "AU", "NIST")
"""Of what libsndfile reads: formats whose claims of length are checked. The others are instruments', or long gone."""
MIN_RATE, MAX_RATE = 2_000, 768_000
"""Sample rates of recordings; beyond them a header is damaged."""
MONO, AVERAGE = "mono", "average"
_FORMATS = {
    ".wav": {"format": "WAV", "subtype": "PCM_16"},
    ".flac": {"format": "FLAC", "subtype": "PCM_16"},
    ".ogg": {"format": "OGG", "subtype": "OPUS"},
    ".opus": {"format": "OGG", "subtype": "OPUS"},
}


class AudioMismatchError(EdgeSpeechError):
    """A file is not the one, or not as long, as its manifest says."""


def read_audio(
    path: Path,
    *,
    sample_rate: int = SAMPLE_RATE,
    offset: float | None = None,
    duration: float | None = None,
    channels: str = MONO,
    sha256: str | None = None,
) -> Samples:
    """Read a file, or a part of it, as mono float32 in [-1, 1].

    Args:
        path: the file.
        sample_rate: in Hz; a file of another rate is resampled (soxr, high quality).
        offset: where a part starts, in seconds; None: the whole file is read.
        duration: of the part, in seconds, or None for the rest. Without `offset` it must be the file's length.
        channels: see `check_channels`.
        sha256: expected hash of the file; None: not checked.

    Returns:
        The samples, with shape `(N,)`, N >= 1.

    Raises:
        EdgeSpeechError: the file is missing, empty, not audio, truncated, another one than `sha256`, has several
            channels, holds NaN or infinity or samples far beyond full scale, or has another length.
    """
    return read_audio_bytes(
        str(path),
        file_bytes(path),
        sample_rate=sample_rate,
        offset=offset,
        duration=duration,
        channels=channels,
        sha256=sha256,
    )


def file_bytes(path: Path) -> bytes:
    """A whole audio file.

    Raises:
        EdgeSpeechError: it is missing, empty, larger than `MAX_BYTES` or unreadable.
    """
    try:
        there = path.is_file()
        size = path.stat().st_size if there else 0
    except OSError as error:  # a name that is too long, for instance
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    if path.is_dir():
        raise EdgeSpeechError(f"{path}: is a folder, expected an audio file")
    if not there and path.exists():
        raise EdgeSpeechError(
            f"{path}: is a pipe or a device, expected an audio file (`transcribe -` reads stdin)"
        )
    if not there:
        raise EdgeSpeechError(f"{path}: no such audio file")
    if size == 0:
        raise EdgeSpeechError(f"{path}: is empty (0 bytes), expected audio")
    if size > MAX_BYTES:
        raise bad(str(path), "size in bytes", size, f"at most {MAX_BYTES}: split it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error


def check_channels(channels: str) -> str:
    """What to do with several channels: `mono` refuses them, `average` averages, a number from 1 on takes one.

    Raises:
        EdgeSpeechError: another value.
    """
    if channels not in (MONO, AVERAGE) and not (channels.isdecimal() and 1 <= int(channels) <= 64):
        raise bad("audio", "channels", channels, f"{MONO}, {AVERAGE}, or the number of one, from 1 on")
    return channels


def read_audio_bytes(
    where: str,
    data: bytes,
    *,
    sample_rate: int = SAMPLE_RATE,
    offset: float | None = None,
    duration: float | None = None,
    channels: str = MONO,
    sha256: str | None = None,
) -> Samples:
    """`read_audio` of a file's bytes; `where` names it in errors."""
    check_channels(channels)
    if offset is not None and not 0 <= offset < np.inf:
        raise bad(where, "offset", offset, "0 s or more")
    if duration is not None and not 0 < duration < np.inf:
        raise bad(where, "duration", duration, "more than 0 s")
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise AudioMismatchError(f"{where}: sha256 is {found}, expected {sha256}: it is another file")
    whole, rate = _mono(where, data, channels)
    start, stop = part_of(where, len(whole), rate, offset, duration)
    mono = whole[start:stop]
    _check_samples(where, mono)
    if rate != sample_rate:
        given, mono = mono.size, soxr.resample(mono, rate, sample_rate, quality="HQ")
        if mono.size == 0:
            raise bad(where, "samples", given, f"enough for one sample at {sample_rate} Hz")
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)


def ends_properly(data: bytes) -> bool:
    """Whether a file is marked as complete; an Ogg stream that was cut or is still being written is not."""
    return data[:4] != b"OggS" or ogg_links("audio", data)[1]


def length_of(where: str, data: bytes, *, channels: str = MONO, sha256: str | None = None) -> tuple[int, int]:
    """The number of samples in a file, by decoding all of them, and their rate.

    Raises:
        EdgeSpeechError: as `read_audio`.
    """
    check_channels(channels)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise AudioMismatchError(f"{where}: sha256 is {found}, expected {sha256}: it is another file")
    whole, rate = _mono(where, data, channels)
    return len(whole), rate


def part_of(
    where: str, samples: int, rate: int, offset: float | None, duration: float | None
) -> tuple[int, int]:
    """Start and end of a part of a file, in samples.

    Args:
        where: names the file in errors.
        samples: of the file.
        rate: their rate.
        offset: where the part starts, in seconds; None: the whole file.
        duration: its length, in seconds; of a whole file it must be the file's.

    Raises:
        AudioMismatchError: the file is shorter, or longer.
    """
    length_s = samples / rate
    start = round((offset or 0.0) * rate)
    if start >= samples:
        raise AudioMismatchError(str(bad(where, "offset", offset, f"less than the file's {length_s:.3f} s")))
    if duration is None:
        return start, samples
    left_s = length_s - (offset or 0.0)
    if duration > left_s + DURATION_SLACK_S:
        after = "" if offset is None else " after the offset"
        expected = f"at most the {left_s:.3f} s that are there{after}"
        raise AudioMismatchError(str(bad(where, "duration", duration, expected)))
    if offset is None and duration < length_s - DURATION_SLACK_S:
        expected = f"the file's {length_s:.3f} s, or an offset for a part of it"
        raise AudioMismatchError(str(bad(where, "duration", duration, expected)))
    if duration > left_s - DURATION_SLACK_S:
        return start, samples
    return start, start + max(1, round(duration * rate))


def _mono(where: str, data: bytes, channels: str) -> tuple[Samples, int]:
    """One channel of a whole file as float32 with shape `(N,)`, and its sample rate."""
    taken: list[Samples] = []
    length, rate, apart, together = 0, 0, 0.0, 0.0
    for block, rate in _blocks(where, data):  # a file's rate is its blocks'
        if not MIN_RATE <= rate <= MAX_RATE:
            raise bad(where, "sample rate", rate, f"{MIN_RATE} to {MAX_RATE} Hz")
        n_channels = block.shape[1]
        length += len(block)
        if length > MAX_SAMPLES:
            raise bad(where, "samples", f"more than {MAX_SAMPLES}", f"at most {MAX_SAMPLES}: split the file")
        if n_channels > 1 and channels == MONO:
            raise bad(where, "channels", n_channels, "1 (averaging them, or one of them, must be asked for)")
        if channels.isdecimal():
            if int(channels) > n_channels:
                raise bad(where, "channels", n_channels, f"at least {channels}, the one asked for")
            taken.append(block[:, int(channels) - 1].copy())
            continue
        mean = block[:, 0] if n_channels == 1 else block.mean(axis=1, dtype=np.float32)
        if n_channels > 1 and np.isfinite(block).all():
            apart += float(np.square(block, dtype=np.float64).sum()) / n_channels
            together += float(np.square(mean, dtype=np.float64).sum())
        taken.append(mean.copy())
    if length == 0:
        raise EdgeSpeechError(f"{where}: has 0 samples, expected at least 1")
    if together < _CANCELLED * apart:
        raise EdgeSpeechError(f"{where}: its channels cancel each other when averaged: choose one of them")
    return np.concatenate(taken), rate


def _blocks(where: str, data: bytes) -> Iterator[tuple[NDArray[np.float32], int]]:
    """A file's samples, block by block, each with shape `(N, channels)`, and their rate."""
    data = without_tag(data)
    if data[:4] == b"OggS":
        rate = None
        links, ended = ogg_links(where, data)
        for n, link in enumerate(links, 1):
            # libsndfile does not open a stream without its last page.
            whole = ended or n < len(links)
            part = _by_libsndfile(where, Part(data=link)) if whole else decode_by_ffmpeg(where, link, "ogg")
            for block, found in part:
                if rate not in (None, found):
                    raise EdgeSpeechError(f"{where}: changes its sample rate on the way")
                rate = found
                yield block, found
    elif (demuxer := demuxer_of(data)) is not None:
        yield from decode_by_ffmpeg(where, data, demuxer)
    elif data[:4] == b"fLaC":
        yield from _by_libsndfile(where, flac_to_the_end(where, data))
    else:
        yield from _by_libsndfile(where, to_the_end(where, data))


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Reads to the end of the data, whatever length the header states, without a seek after every block."""

    def seekable(self) -> bool:
        return False


def _by_libsndfile(where: str, part: Part) -> Iterator[tuple[NDArray[np.float32], int]]:
    found = 0
    try:
        with _Forward(io.BytesIO(part.data)) as file:
            if file.format in _MPEG or file.subtype.startswith("MPEG"):  # its counts are nobody's
                raise EdgeSpeechError(f"{where}: is MPEG audio in or behind other data, expected audio alone")
            if file.format not in _READ:
                raise bad(where, "format", file.format, f"one of {', '.join(_READ)}: convert it")
            claimed = file.frames if part.claimed is None else part.claimed
            heard = None if part.md5 is None else hashlib.md5(usedforsecurity=False)
            kind = "float32" if heard is None else "int32"
            while len(block := file.read(_BLOCK, dtype=kind, always_2d=True)):
                found += len(block)
                if heard is not None:
                    heard.update(_as_stored(block, file.subtype))
                    block = block.astype(np.float32) / np.float32(1 << 31)
                yield block, file.samplerate
            if file.format == "FLAC" and part.claimed is None:
                claimed = found  # left open by its writer
    except soundfile.LibsndfileError as error:
        raise EdgeSpeechError(
            f"{where}: could not be decoded: {error.error_string.strip()} Damaged, truncated or not audio"
        ) from error
    if found != claimed:
        raise EdgeSpeechError(f"{where}: truncated: {found} of {claimed} samples could be decoded")
    if heard is not None and part.md5 is not None and heard.digest() != part.md5:
        raise EdgeSpeechError(
            f"{where}: damaged: the MD5 of its samples is {heard.hexdigest()}, but its header says {part.md5.hex()}"
        )


def _as_stored(block: NDArray[np.int32], subtype: str) -> bytes:
    """Samples as the MD5 of a FLAC file takes them: interleaved, in as many whole bytes as they have bits."""
    kept = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}.get(subtype, 4)
    return block.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - kept :].tobytes()


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

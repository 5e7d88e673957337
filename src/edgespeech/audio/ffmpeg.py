"""Decoding what libsndfile does not read, or reads only in part: MP3, MP4 and M4A, WebM, AAC, AMR, WMA; by PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.containers import mp3_claims
from edgespeech.audio.nested import check_matroska, check_mp4
from edgespeech.core.extras import need
from edgespeech.errors import EdgeSpeechError, bad

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
_SLACK_S = 0.2
"""Containers count the encoder's padding, decoders drop it."""


def demuxer_of(data: bytes) -> str | None:
    """FFmpeg's name of a file's format, detected by its first bytes; None: a format that is not supported here.

    FFmpeg does not detect the format itself: some of its formats are play lists that open other files.
    """
    if data[:3] == b"ID3" or _is_mpeg_audio(data):
        return "mp3"
    if data[4:8] == b"ftyp":
        return "mp4"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if data[:6] in (b"#!AMR\n", b"#!AMR-"):
        return "amr"
    if data[:4] == b"\x30\x26\xb2\x75":
        return "asf"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "aac"
    return None


def _is_mpeg_audio(data: bytes) -> bool:
    """Whether a file starts with the header of an MPEG audio frame (layer I to III)."""
    return (
        len(data) > 3
        and data[0] == 0xFF
        and data[1] & 0xE0 == 0xE0
        and data[1] & 0x06 != 0  # layer; 0 is AAC's
        and data[2] & 0xF0 not in (0x00, 0xF0)  # bit rate
        and data[2] & 0x0C != 0x0C  # sample rate
    )


def decode(where: str, data: bytes, demuxer: str) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Every frame of the file's one audio stream as float32 with shape `(N, channels)`, and its sample rate.

    Raises:
        EdgeSpeechError: PyAV is not installed, the file is damaged, it has no audio or several streams of it, or the
            audio ends before the container says that it does.
    """
    need("av", f"{where}: reading {demuxer}")
    import av

    if demuxer == "mp4":
        check_mp4(where, data)
    blocks = check_matroska(where, data) if demuxer == "matroska" else 0
    frames = packets = 0
    try:
        with av.open(io.BytesIO(data), format=demuxer) as container:
            streams = container.streams.audio
            if len(streams) != 1:
                raise bad(where, "audio streams", len(streams), "1")
            stream = streams[0]
            resampler: Any = None
            for number, frame in _frames(container, stream):
                packets = number
                if resampler is None:
                    rate = frame.sample_rate
                    layout, resampler = frame.layout, av.AudioResampler("fltp", frame.layout, rate)
                if frame.sample_rate != rate or frame.layout.nb_channels != layout.nb_channels:
                    raise EdgeSpeechError(f"{where}: changes its sample rate or channels on the way")
                for plain in resampler.resample(frame):
                    block = np.ascontiguousarray(plain.to_ndarray().T, dtype=np.float32)
                    frames += len(block)
                    yield block, rate
            if len(container.streams) == 1 and packets < blocks:  # FFmpeg leaves out what it cannot read
                raise EdgeSpeechError(
                    f"{where}: damaged: {packets} of its {blocks} blocks of audio could be read"
                )
            claimed_s = mp3_claims(data) if demuxer == "mp3" else _claimed_s(stream, demuxer)
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(
            f"{where}: could not be decoded: {error}. Damaged, truncated or not audio"
        ) from error
    if frames == 0:
        raise EdgeSpeechError(f"{where}: has 0 samples, expected at least 1")
    if claimed_s is not None and frames / rate < claimed_s - _SLACK_S:
        raise EdgeSpeechError(
            f"{where}: truncated: {frames / rate:.3f} of {claimed_s:.3f} s could be decoded"
        )


def _frames(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    """Every decoded frame, and the number of packets so far; a packet that cannot be decoded is an error, unless it is
    not audio.
    """
    import av

    packets = 0
    for packet in container.demux(stream):
        packets += packet.size > 0  # the one at the end, which empties the decoder, has no bytes
        try:
            yield from ((packets, frame) for frame in packet.decode())
        except av.error.InvalidDataError:
            # Concatenated files have tags in the middle.
            if not bytes(packet).startswith(_TAGS):
                raise


def _claimed_s(stream: Any, demuxer: str) -> float | None:
    """The length in the header, in containers that count samples; None for others, where it is an estimate."""
    if demuxer != "mp4" or stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)

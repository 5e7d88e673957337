"""Opus encoding and decoding through PyAV, and the size of the same audio as FLAC and as PCM."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

BIT_RATE = 24_000
"""Bits per second, constant: every packet has the same length, so bytes depend on the duration alone."""
FRAME = SAMPLE_RATE // 50
"""Samples of one packet: 20 ms."""
PACKET_BYTES = BIT_RATE // 8 * FRAME // SAMPLE_RATE
"""Bytes of one packet."""
DESCRIPTION = "Opus (libopus, voip), 24 kbit/s constant, 20 ms frames, mono, 16 kHz"

_OPUS_RATE = 48_000
_PRE_SKIP = 312
"""The pre-skip of libopus at 16 kHz, in samples at 48 kHz (RFC 7845, section 4.2)."""
_OPUS_HEAD = b"OpusHead" + struct.pack("<BBHIHB", 1, 1, _PRE_SKIP, SAMPLE_RATE, 0, 0)
"""The decoder's identification header (RFC 7845, section 5.1), so that it drops the pre-skip."""


class OpusEncoder:
    """A streaming encoder: 16 kHz mono samples in, packets of 20 ms out.

    Args:
        bit_rate: bits per second, constant.
        complexity: what the encoder spends, 0 to 10. 0 takes a fifth of the time of 10.
    """

    def __init__(self, *, bit_rate: int = BIT_RATE, complexity: int = 10) -> None:
        import av

        self._frame_of = av.AudioFrame.from_ndarray
        self._codec: Any = av.codec.CodecContext.create("libopus", "w")
        self._codec.sample_rate = SAMPLE_RATE
        self._codec.layout = "mono"
        self._codec.format = "flt"
        self._codec.bit_rate = bit_rate
        self._codec.options = {
            "application": "voip",
            "vbr": "off",
            "frame_duration": "20",
            "compression_level": str(complexity),
        }
        self._codec.open()
        self._waiting = np.zeros(0, dtype=np.float32)

    def encode(self, samples: Samples) -> list[bytes]:
        """Packets of all complete frames; remaining samples are buffered for the next call.

        Args:
            samples: with shape `(N,)`, any N, in [-1, 1].
        """
        audio = np.concatenate([self._waiting, samples])
        whole = len(audio) - len(audio) % FRAME
        self._waiting = audio[whole:]
        return [packet for start in range(0, whole, FRAME) for packet in self._frame(audio[start:][:FRAME])]

    def finish(self) -> list[bytes]:
        """The last partial frame, padded with zeros, and the packets still in the encoder. Called once."""
        packets = self.encode(np.zeros(-len(self._waiting) % FRAME, dtype=np.float32))
        return packets + [bytes(packet) for packet in self._codec.encode(None)]

    def _frame(self, samples: Samples) -> list[bytes]:
        frame = self._frame_of(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        return [bytes(packet) for packet in self._codec.encode(frame)]


class OpusDecoder:
    """A streaming decoder: packets in, 16 kHz mono samples out, aligned with the encoder's input.

    FFmpeg decodes Opus at 48 kHz only and is followed by its resampler, which delays the last 1 ms until `finish`.
    """

    def __init__(self) -> None:
        import av

        self._packet = av.Packet
        self._error = av.FFmpegError
        self._codec: Any = av.codec.CodecContext.create("opus", "r")
        self._codec.sample_rate = _OPUS_RATE
        self._codec.layout = "mono"
        self._codec.extradata = _OPUS_HEAD
        self._codec.open()
        self._resampler: Any = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)

    def decode(self, packet: bytes) -> Samples:
        """The samples of one packet, with shape `(N,)`.

        Raises:
            EdgeSpeechError: it is not an Opus packet.
        """
        try:
            frames = self._codec.decode(self._packet(packet)) if packet else []
        except self._error as error:
            raise bad("audio message", "packet", packet, "an Opus packet") from error
        if not frames:
            raise bad("audio message", "packet", packet, "an Opus packet")
        return self._resample(frames)

    def finish(self) -> Samples:
        """The last samples that the resampler holds, with shape `(N,)`. Called once."""
        return self._resample([None])

    def _resample(self, frames: list[Any]) -> Samples:
        for frame in frames:
            if frame is not None:
                frame.pts = None
        parts = [part.to_ndarray()[0] for frame in frames for part in self._resampler.resample(frame)]
        return np.concatenate([np.zeros(0, dtype=np.float32), *parts])


def flac_bytes(samples: Samples) -> int:
    """Bytes of the whole audio as one 16-bit FLAC file, with shape `(N,)`: lossless, for comparison."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getbuffer().nbytes


def pcm_bytes(samples: Samples) -> int:
    """Bytes of the audio as headerless 16-bit PCM, with shape `(N,)`: for comparison."""
    return 2 * len(samples)

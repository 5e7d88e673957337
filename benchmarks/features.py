"""Log-mel features: a whole utterance, and the same in chunks of 100 ms; by kaldi-native-fbank and by the engine."""

from __future__ import annotations

from benchmarks.common import noise
from edgespeech.audio.features import StreamingLogMel, log_mel
from edgespeech.harness.runner import chunks_of


class LogMel:
    params = (1, 10)
    param_names = ("audio_s",)

    def setup(self, audio_s: int) -> None:
        self.samples = noise(audio_s)

    def time_offline(self, audio_s: int) -> None:
        log_mel(self.samples)

    def time_streaming(self, audio_s: int) -> None:
        stream = StreamingLogMel()
        for piece in chunks_of(self.samples, 0.1):
            stream.accept(piece)
        stream.finish()


class NativeLogMel:
    """The engine's, by each of its kernels."""

    params = ("scalar", "avx2", "avx512", "neon")
    param_names = ("kernel",)

    def setup(self, isa: str) -> None:
        from edgespeech.packed.loader import isas

        if isa not in isas():
            raise NotImplementedError(f"this CPU has no {isa}")
        self.samples = noise(10)

    def time_streaming(self, isa: str) -> None:
        from edgespeech.packed.log_mel import NativeLogMel as Extractor

        stream = Extractor(isa)
        for piece in chunks_of(self.samples, 0.1):
            stream.accept(piece)
        stream.finish()

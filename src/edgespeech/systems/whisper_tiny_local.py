"""Whisper tiny (English only) on the device."""

from __future__ import annotations

from edgespeech.systems._batch import LocalWhisper


class WhisperTinyLocal(LocalWhisper):
    """The smallest Whisper, as a third-party engine that a device could run (Radford et al., 2022)."""

    name = "whisper-tiny-local"
    summary = "faster-whisper tiny.en, int8, on the device, decoding whole files"
    model = "whisper-tiny"
    languages = ("en",)

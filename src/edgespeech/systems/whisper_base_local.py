"""Whisper base (multilingual) on the device: the cloud baseline's model without the cloud."""

from __future__ import annotations

from edgespeech.systems._batch import LocalWhisper


class WhisperBaseLocal(LocalWhisper):
    """The cloud baseline's model, run on the device (Radford et al., 2022)."""

    name = "whisper-base-local"
    summary = "faster-whisper base, int8, on the device, decoding whole files"
    model = "whisper-base"

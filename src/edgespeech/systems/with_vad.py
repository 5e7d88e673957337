"""Recognisers on the device whose utterances the same voice activity detector ends; see `_ended_by_vad`."""

from __future__ import annotations

from edgespeech.systems._ended_by_vad import EndedByVad
from edgespeech.systems.edge_command import EdgeCommand
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.systems.edge_packed import EdgePacked
from edgespeech.systems.moonshine_base import MoonshineBase
from edgespeech.systems.moonshine_tiny import MoonshineTiny
from edgespeech.systems.pocketsphinx import PocketSphinx
from edgespeech.systems.vosk_small import VoskSmall
from edgespeech.systems.whisper_base_local import WhisperBaseLocal
from edgespeech.systems.whisper_tiny_local import WhisperTinyLocal


class WhisperBaseVad(EndedByVad):
    """Whisper base, no longer waiting for the end of the audio."""

    of = WhisperBaseLocal


class WhisperTinyVad(EndedByVad):
    """Whisper tiny, no longer waiting for the end of the audio."""

    of = WhisperTinyLocal


class MoonshineBaseVad(EndedByVad):
    """Moonshine base, no longer waiting for the end of the audio."""

    of = MoonshineBase


class MoonshineTinyVad(EndedByVad):
    """Moonshine tiny, no longer waiting for the end of the audio."""

    of = MoonshineTiny


class PocketSphinxVad(EndedByVad):
    """PocketSphinx, no longer waiting for the end of the audio."""

    of = PocketSphinx


class VoskSmallVad(EndedByVad):
    """Vosk, its own rules for ends of speech ignored."""

    of = VoskSmall


class EdgeFp32Vad(EndedByVad):
    """Our recogniser, its own end-pointer off."""

    of = EdgeFp32
    own = "final_s"


class EdgePackedVad(EndedByVad):
    """Our packed recogniser, its own end-pointer off."""

    of = EdgePacked
    own = "final_s"


class EdgeCommandVad(EndedByVad):
    """Our recogniser of one domain, its own end-pointer off."""

    of = EdgeCommand
    own = "final_s"

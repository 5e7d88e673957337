"""Moonshine base (English) on the device."""

from __future__ import annotations

from edgespeech.systems._moonshine import Moonshine


class MoonshineBase(Moonshine):
    """Moonshine's base model, as its makers quantised it for browsers."""

    name = "moonshine-base"
    summary = "Moonshine base, English, 8 bits in ONNX Runtime, decoding whole files"
    model = "moonshine-base"

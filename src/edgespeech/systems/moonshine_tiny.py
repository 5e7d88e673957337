"""Moonshine tiny (English) on the device."""

from __future__ import annotations

from edgespeech.systems._moonshine import Moonshine


class MoonshineTiny(Moonshine):
    """Moonshine's tiny model, as its makers quantised it for browsers."""

    name = "moonshine-tiny"
    summary = "Moonshine tiny, English, 8 bits in ONNX Runtime, decoding whole files"
    model = "moonshine-tiny"

"""EdgeSpeech: a reproducible benchmark of on-device streaming speech recognition. Start with `contracts`."""

__version__ = "0.1.0"

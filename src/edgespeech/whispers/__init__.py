"""Whisper detection on the device: whispers made of voiced speech, a small network, and the rules it must beat."""

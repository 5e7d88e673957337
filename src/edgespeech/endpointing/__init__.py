"""End-pointing: detecting from audio and hypotheses when the user has stopped speaking."""

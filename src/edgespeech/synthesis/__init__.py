"""Synthetic speech: sentences of grammars, spoken by Kokoro's voices."""

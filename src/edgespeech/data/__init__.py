"""Manifests, corpora, fetching, grammars and synthesis: where audio and sentences come from."""

"""Manifests and corpora: descriptions, download, reading and checks."""

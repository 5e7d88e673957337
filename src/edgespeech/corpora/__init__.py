"""Manifests and corpora: what speech there is, how it is fetched, read and checked."""

"""Compression techniques in training, one file each; see `edgespeech.training.compressor`."""

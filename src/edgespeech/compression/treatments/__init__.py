"""Compression techniques in training, one file each; see `edgespeech.training.treatment`."""

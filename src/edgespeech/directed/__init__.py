"""Device-directed speech: whether somebody talks to the device, by audio, decoder, and perhaps a second stream."""

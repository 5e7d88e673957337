"""What a request means: intent and slots from words, by a small network for the device."""

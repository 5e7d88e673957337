"""Word lattices: generation, search, pruning, and coding in a few hundred bytes an utterance."""

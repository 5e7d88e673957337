"""Word lattices: built from a search, searched, pruned, and coded in a few hundred bytes an utterance."""

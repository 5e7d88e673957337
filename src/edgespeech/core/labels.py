"""Labels: what a transducer emits beside its word pieces, and how the pieces spell words."""

BLANK = 0
"""The blank's place among the word pieces."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""How a piece that starts a word begins, see `edgespeech.model.tokeniser`."""
